"""Collects what training needs on a machine that has nothing but Python and torch: two archives and a script to run them.

In the first: `code` (this package without its weights), `site` (Python packages that may be missing there), `lib` (flite, espeak-ng, the
libraries they need, espeak-ng's English data), `lines.txt` (what is said), `lexicon.tsv`, `phones.txt`, `noise`, `weights` (see
`_pack_weights`). In the second: `speech`, recordings as they lie in the data, as many as the first leaves room for.
"""

import csv
import io
import random
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import retriever
from retriever.errors import RetrieverError
from retriever.training import _espeak, _flite
from retriever.training._pack_voices import ESPEAK_DATA
from retriever.training._pack_weights import split_checkpoint
from retriever.training.real_speech import Recording, list_recordings
from retriever.training.speech_text import read_speech_text
from retriever.training.synthesis import SynthesiserMissing, check_voices

ARCHIVE: Final = "pack.tar.xz"
SPEECH_ARCHIVE: Final = "speech.tar.xz"
SCRIPT: Final = "run.sh"
MAX_BYTES: Final = 40 * 2**20
LINE_BYTES: Final = 12_000_000
NOISE_BYTES: Final = 3_000_000
PRESET: Final = 6  # of xz
_SPARE_BYTES: Final = 256 * 2**10  # of the limit, for what is not foreseen
_TABLE: Final = "real.tsv"
_SYSTEM: Final = re.compile(r"(ld-linux|linux-vdso|libc\.|libm\.|libdl\.|libpthread\.|librt\.|libgcc_s\.|libstdc\+\+\.)")
_ENGLISH: Final = ("phontab", "phonindex", "phondata", "intonations", "en_dict", "lang/gmw/en*", "voices/!v/*")
_RUN: Final = """#!/bin/sh
# Unpacks the archives beside it, once, and runs a command: run.sh train --minutes 9 ...; called again, it goes on where it stopped.
set -e
here=$(cd "$(dirname "$0")" && pwd)
home=${ASKALOUD_PACK:-/var/tmp/askaloud-pack}
if [ ! -f "$home/unpacked" ]; then
  rm -rf "$home"
  mkdir -p "$home"
  for archive in "$here"/*.tar.xz; do
    "${PYTHON:-python3}" -c 'import sys, tarfile as t; t.open(sys.argv[1]).extractall(sys.argv[2], filter="data")' "$archive" "$home"
  done
  touch "$home/unpacked"
fi
export PYTHONPATH="$home/code" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONUNBUFFERED=1
"${PYTHON:-python3}" -c "import soundfile" 2>/dev/null || PYTHONPATH="$home/code:$home/site"
exec "${PYTHON:-python3}" -m retriever.training.pack "$@" --pack "$home"
"""


class PackTooLarge(RetrieverError):
    """What must be in the pack is larger than the pack may be."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a pack.

    Attributes:
        data: holds `speech`, `text` and `qa`.
        noise: a folder of .flac files as training reads it.
        lexicon, phones: as training reads them.
        checkpoint: a folder with weights to go on from; None: training begins anew.
        wheels: a folder of .whl files that the other machine lacks; None: it lacks none.
        line_bytes, noise_bytes: of text before it is compressed, and of noise.
        max_bytes: of the pack.
    """

    data: Path
    noise: Path
    lexicon: Path
    phones: Path
    checkpoint: Path | None
    wheels: Path | None = None
    line_bytes: int = LINE_BYTES
    noise_bytes: int = NOISE_BYTES
    max_bytes: int = MAX_BYTES
    seed: int = 0


def make_pack(contents: Contents, out: Path) -> int:
    """Write the archives and their script; return their size in bytes.

    Raises:
        PackTooLarge: there is no room even without recordings.
        SynthesiserMissing: flite or espeak-ng is not installed here.
        TextMissing: the data lacks a part.
    """
    rng = random.Random(contents.seed)  # noqa: S311 - no secret
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _put_code(folder / "code")
        _put_wheels(folder / "site", contents.wheels)
        _put_synthesisers(folder / "lib")
        _put_lines(folder / "lines.txt", contents, rng)
        _put_noise(folder / "noise", contents, rng)
        shutil.copyfile(contents.lexicon, folder / "lexicon.tsv")
        shutil.copyfile(contents.phones, folder / "phones.txt")
        if contents.checkpoint is not None:
            split_checkpoint(contents.checkpoint, folder / "weights", ("average",))
        (out / SCRIPT).write_text(_RUN, encoding="ascii")
        used = _archive(folder, out / ARCHIVE) + (out / SCRIPT).stat().st_size
        room = contents.max_bytes - _SPARE_BYTES - used
        if room < 0:
            raise PackTooLarge(f"{used} bytes without recordings, {contents.max_bytes} may be carried: take less text or noise")
        _put_speech(folder / "recorded" / "speech", contents, room, rng)
        used += _archive(folder / "recorded", out / SPEECH_ARCHIVE)
    if used > contents.max_bytes:
        raise PackTooLarge(f"{used} bytes, {contents.max_bytes} may be carried: take less text or noise")
    return used


def _put_code(folder: Path) -> None:
    source = Path(retriever.__file__).parent
    for path in source.rglob("*.py"):
        place = folder / "retriever" / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _put_wheels(folder: Path, wheels: Path | None) -> None:
    folder.mkdir(parents=True)
    for wheel in sorted(wheels.glob("*.whl")) if wheels is not None else ():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)  # noqa: S202 - pip's download, checked by pip


def _put_synthesisers(folder: Path) -> None:
    """Copy the two synthesisers with all they need but the C library, and the data of English.

    Raises:
        SynthesiserMissing: one is not installed.
    """
    check_voices("flite")
    check_voices("espeak")
    folder.mkdir(parents=True)
    for path in _needed([_espeak.LIBRARY, _flite.LIBRARY, *_flite.VOICE_LIBRARIES.values()]):
        shutil.copyfile(path, folder / path.name)
    data = _espeak.data_folder()
    for pattern in _ENGLISH:
        for path in data.glob(pattern):
            if path.is_file():
                place = folder / ESPEAK_DATA / path.relative_to(data)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


def _needed(names: Sequence[str]) -> list[Path]:
    """Return the paths of libraries, loaded in this process, and of those they need, by the names they are asked for."""
    loaded = {Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines() if ".so" in line}
    found: dict[str, Path] = {}
    for name in names:
        place = next((path for path in loaded if path.name.startswith(name.partition(".so")[0] + ".so")), None)
        if place is None:
            raise SynthesiserMissing(f"{name} is not among the libraries of this process; install it")
        found[name] = place.with_name(name)
        listing = subprocess.run(["ldd", str(place)], capture_output=True, text=True, check=True).stdout
        for needed, path in re.findall(r"^\s*(\S+) => (/\S+) ", listing, re.MULTILINE):
            if not _SYSTEM.match(needed):
                found[needed] = Path(path)
    return list(found.values())


def _put_lines(path: Path, contents: Contents, rng: random.Random) -> None:
    lines = read_speech_text(contents.data, "train").lines(rng)
    with path.open("w", encoding="ascii") as file:
        while file.tell() < contents.line_bytes:
            file.write(next(lines).punctuated + "\n")


def _put_noise(folder: Path, contents: Contents, rng: random.Random) -> None:
    responses = [path for path in sorted(contents.noise.rglob("*.flac")) if path.parent.name.startswith("rir")]
    noises = [path for path in sorted(contents.noise.rglob("*.flac")) if not path.parent.name.startswith("rir")]
    rng.shuffle(noises)
    _copy_within(responses, folder / "rir", contents.noise_bytes // 4)
    _copy_within(noises, folder / "noise", contents.noise_bytes * 3 // 4)


def _copy_within(paths: Iterable[Path], folder: Path, room: int) -> None:
    """Copy the first file, and as many of the others as there is room for."""
    folder.mkdir(parents=True)
    for number, path in enumerate(paths):
        size = path.stat().st_size
        if number == 0 or size <= room:
            shutil.copyfile(path, folder / f"{number:04}.flac")
            room -= size


def _put_speech(folder: Path, contents: Contents, room: int, rng: random.Random) -> None:
    """Write clips with their table, as many as there is room for, of all speakers alike."""
    kept = [one for one in list_recordings(contents.data / "speech") if one.text and one.split == "train"]
    folder.mkdir(parents=True)
    rows: list[dict[str, str]] = []
    with _Tars() as tars, tarfile.open(folder / "real.tar", "w") as archive:
        for one in _in_turns(kept, rng):
            if (data := tars.read(one)) is None:
                continue
            room -= len(data) + 160  # a table's row and what is left of a tar's header after compression
            if room < 0:
                break
            entry = tarfile.TarInfo(f"{len(rows):05}.opus")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
            row = {"file": entry.name, "seconds": f"{one.seconds:.3f}", "speaker": one.voice, "split": "train", "text": one.text}
            rows.append({**row, "tar": "real.tar"})
    with (folder / _TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file", "seconds", "speaker", "split", "text", "tar"], delimiter="\t", quoting=csv.QUOTE_NONE)
        writer.writeheader()
        writer.writerows(rows)


def _in_turns(recordings: Sequence[Recording], rng: random.Random) -> list[Recording]:
    """Return recordings so that of every stretch each corpus has as many seconds, and in a corpus each speaker."""
    shuffled = rng.sample(recordings, len(recordings))
    return _evenly(_evenly(shuffled, lambda one: one.voice), lambda one: one.tar.name)


def _evenly(recordings: Sequence[Recording], group: Callable[[Recording], str]) -> list[Recording]:
    heard: dict[str, float] = {}
    ranked = []
    for one in recordings:
        name = group(one)
        ranked.append((heard.get(name, 0.0), one))
        heard[name] = heard.get(name, 0.0) + one.seconds
    return [one for _, one in sorted(ranked, key=lambda entry: entry[0])]


class _Tars:
    """Tar files that are read here and there, each opened once, as a context."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._tars: dict[Path, tarfile.TarFile] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def read(self, one: Recording) -> bytes | None:
        """Return a clip's file, or None if it is not there."""
        if one.tar not in self._tars:
            self._tars[one.tar] = self._open.enter_context(tarfile.open(one.tar))  # noqa: SIM115 - closed with all others
        member = self._tars[one.tar].extractfile(one.file)
        return None if member is None else member.read()


def _archive(folder: Path, path: Path) -> int:
    """Write everything in a folder and return the archive's size."""
    with tarfile.open(path, "w:xz", preset=PRESET) as archive:
        archive.add(folder, arcname=".", filter=_plain)
    return path.stat().st_size


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who owned the file and when it was written."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry
