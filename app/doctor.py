"""Checks everything the application needs, and says the way out of what is wrong. Works when the library does not."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from os import environ
from typing import TYPE_CHECKING

from app.errors import AppError, MicrophoneUnavailable
from app.settings import Settings, config_path
from app.shapes import JsonObject
from generator.config import Served, ServedText
from generator.errors import GeneratorError
from retriever.errors import IndexUnusable, RetrieverError
from storage.errors import StorageError

if TYPE_CHECKING:
    from app.build import Parts

DISTRIBUTION = "askaloud"
REINSTALL = "install again: `make run`, or `pip install --constraint constraints.txt --editable .`"
LITTLE_SPACE_BYTES = 2 * 2**30  # a few lectures
NOT_SETTINGS = frozenset({"ASKALOUD_CONFIG", "ASKALOUD_DEBUG"})


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        ok: False if something does not work; True with a way out is a hint: it works, and could be better.
        way_out: what to do; empty if there is nothing to do.
    """

    name: str
    ok: bool
    message: str
    way_out: str = ""


def check(settings: Settings) -> list[Check]:
    """Return what was found, in the order in which problems should be solved."""
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Check]]], ...] = (
        ("settings", _settings),
        ("packages", _packages),
        ("models", _models),
        ("disk", _disk),
        ("library", _library),
        ("answering", _answering),
        ("sound devices", _sound_devices),
        ("model server", _model_server),
    )
    return [one for name, find in checks for one in _guarded(name, find, settings)]


def to_json(checks: Sequence[Check]) -> JsonObject:
    """Return the shape in which checks leave as JSON."""
    return {
        "ok": all(one.ok for one in checks),
        "checks": [{"name": one.name, "ok": one.ok, "message": one.message, "way_out": one.way_out} for one in checks],
    }


def _guarded(name: str, find: Callable[[Settings], Iterator[Check]], settings: Settings) -> Iterator[Check]:
    """Yield what a check finds; a check that breaks is a finding, too."""
    try:
        yield from find(settings)
    except (AppError, RetrieverError, GeneratorError, StorageError) as error:
        yield Check(name, ok=False, message=str(error), way_out="the message says what to do")
    except Exception as error:
        message = f"could not be checked ({type(error).__name__}: {error})"
        yield Check(name, ok=False, message=message, way_out=f"if other checks failed, solve those first; else {REINSTALL}")


def _settings(settings: Settings) -> Iterator[Check]:
    path = config_path()
    source = f"settings file {path}" if path.exists() else f"no settings file at {path}: all settings have their defaults"
    yield Check("settings", ok=True, message=f"data folder {settings.home}, {source}")
    known = {f"ASKALOUD_{name}".upper() for name in Settings.model_fields} | NOT_SETTINGS
    for name in sorted(environ):
        if name.startswith("ASKALOUD_") and name.partition("__")[0].upper() not in known:
            yield Check("settings", True, f"the environment variable {name} means nothing to askaloud", "mend its name, or remove it")


def _packages(_: Settings) -> Iterator[Check]:
    yield Check(
        "python", sys.version_info >= (3, 11), sys.version.split()[0], "" if sys.version_info >= (3, 11) else "use Python 3.11 or newer"
    )
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Check("packages", False, f"{DISTRIBUTION} is not installed as a package: versions cannot be compared", REINSTALL)
        return
    problems, found = [], []
    for line in wanted:
        if "extra ==" in line:
            continue
        name, floor = _requirement(line)
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name} is missing")
            continue
        found.append(f"{name} {version}")
        if _numbers(version) < _numbers(floor):
            problems.append(f"{name} {version} is older than {floor}")
    yield Check("packages", not problems, "; ".join(problems) or ", ".join(found), REINSTALL if problems else "")


def _models(settings: Settings) -> Iterator[Check]:
    from retriever.build import build_retriever  # noqa: PLC0415  a missing package is a finding, not the end of the doctor
    from retriever.runtime import WEIGHTS, ShippedModel  # noqa: PLC0415

    with closing(build_retriever(settings.retriever)) as retriever:
        yield Check("retriever", True, f"{settings.retriever.kind}, fingerprint {retriever.fingerprint}")
    for config in sorted((WEIGHTS.parent.parent).glob("*/weights/*/config.json")):
        model = ShippedModel.read(config.parent)
        for name in model.files:
            model.verified(name)
        yield Check("model files", True, f"{config.parent.name}: {len(model.files)} files as they were shipped")


def _disk(settings: Settings) -> Iterator[Check]:
    folder = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free_bytes = shutil.disk_usage(folder).free
    message = f"{free_bytes / 2**30:.1f} GiB free where the library lies"
    way_out = "delete lectures, make room, or move the data folder (ASKALOUD_HOME)"
    if free_bytes < settings.storage.min_free_bytes:
        yield Check("disk", False, f"{message}: below {settings.storage.min_free_bytes / 2**20:.0f} MiB no lecture is accepted", way_out)
    else:
        yield Check("disk", True, message, way_out if free_bytes < LITTLE_SPACE_BYTES else "")


def _library(settings: Settings) -> Iterator[Check]:
    from app.build import build_parts  # noqa: PLC0415  a missing package is a finding, not the end of the doctor

    parts = build_parts(settings)
    with closing(parts.library), closing(parts.retriever):
        problems = parts.library.check()
        for problem in problems:
            yield Check("database", False, problem, "the message says what to do")
        if not problems:
            usage = parts.library.disk_usage()
            yield Check(
                "database", True, ", ".join(f"{name} {num_bytes / 2**20:.0f} MiB" for name, num_bytes in usage.items() if name != "free")
            )
        yield _worker(parts)
        yield _index(parts)


def _answering(settings: Settings) -> Iterator[Check]:
    from generator.build import build_generator  # noqa: PLC0415  a missing package is a finding, not the end of the doctor

    build_generator(settings.generator, settings.retriever.kind)
    yield Check("answering", True, f"{settings.generator.kind}, with thresholds measured for {settings.retriever.kind}")


def _worker(parts: "Parts") -> Check:
    from app.service import WORKER_SILENCE  # noqa: PLC0415  a missing package is a finding, not the end of the doctor

    seen_at = parts.library.jobs.worker_seen_at()
    if seen_at is None:
        return Check("worker", True, "never seen", "start the app with `askaloud run`; until then added lectures wait")
    ago = datetime.now(UTC) - seen_at
    told = f"last sign of life {max(0.0, ago.total_seconds()):.0f} s ago"
    if ago < WORKER_SILENCE:
        return Check("worker", True, f"running, {told}")
    return Check("worker", True, f"not running, {told}", "start the app with `askaloud run`; until then added lectures wait")


def _index(parts: "Parts") -> Check:
    """Compare the index with the library: the worker mends what differs, so nothing here is an error."""
    from retriever.index import LiveIndex  # noqa: PLC0415  a missing package is a finding, not the end of the doctor

    retriever = parts.retriever
    wanted = parts.library.lectures.embedded_ids(retriever.fingerprint)
    rebuild = "the worker makes it again when it starts, or `askaloud rebuild` does"
    try:
        index = LiveIndex(parts.index_folder, retriever.fingerprint, retriever.dimension).current()  # a worker may be saving it
    except IndexUnusable as error:
        return Check("index", True, str(error), rebuild)
    if index is None:
        return Check("index", True, "none yet", rebuild if wanted else "")
    num_found = len(index.ids)
    if index.ids != wanted:
        return Check("index", True, f"{num_found} segments, in the library are {len(wanted)}", rebuild)
    return Check("index", True, f"{num_found} segments, as in the library")


def _sound_devices(_: Settings) -> Iterator[Check]:
    from app.microphone import devices  # noqa: PLC0415  needs PortAudio, which is optional

    try:
        found = devices()
    except MicrophoneUnavailable as error:
        yield Check("sound devices", True, str(error), "only `record` and `ask --record` need it; the page uses the browser's microphone")
        return
    names = ", ".join(device.name for device in found)
    yield Check(
        "sound devices", True, names or "no microphone found", "" if found else "plug one in to use `record`; the page needs none here"
    )


def _model_server(settings: Settings) -> Iterator[Check]:
    generator = settings.generator
    if isinstance(generator, Served | ServedText):
        from app.llm_checks import check_server  # noqa: PLC0415  only who has a model server pays for it

        for ok, message, way_out in check_server(generator):
            yield Check("model server", ok, message, way_out)
    else:
        yield Check("model server", True, f"none is configured, and none is needed: {generator.kind!r} answers in this process")


def _requirement(line: str) -> tuple[str, str]:
    """Return the name and the least version of a requirement such as `av>=17.1`."""
    matched = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?.*?(?:>=\s*([0-9.]+)|$)", line)
    return (matched[1], matched[2] or "0") if matched else (line, "0")


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version, without zeros at the end."""
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0].partition("rc")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
