"""Fixtures for all tests: a data folder of their own, a clean environment, no network, sound made or found here."""

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from retriever.config import SpeechPauses
from retriever.segmentation import PauseSegmenter

DATA = Path(__file__).parent / "data"

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests import ONNX Runtime by themselves

# Before any test imports torch, whose OpenMP silero's library would share otherwise: 15 times slower.
list(PauseSegmenter(SpeechPauses()).spans([]))

# A busy machine is no fault of the code; where a submission is judged, it is judged by the same examples each time.
settings.register_profile("askaloud", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("askaloud")

Speak = Callable[..., Path]


class NetworkForbidden(BaseException):
    """A test reached for the network; no `except Exception` on the way hides it."""


@pytest.fixture(autouse=True)
def _main_module() -> Iterator[None]:
    """Keep `__main__`: Streamlit's tester puts a script there that is gone afterwards, and no process could be spawned any more."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine: only sockets of this machine connect."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(own: socket.socket, address: object) -> None:
        if own.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
            return
        host = str(address[0])
        try:
            is_local = host == "localhost" or ip_address(host.partition("%")[0]).is_loopback
        except ValueError:
            is_local = False
        if not is_local:
            raise NetworkForbidden(f"a test connects to {address}: only this machine's addresses are allowed")

    def guarded_connect(own: socket.socket, address: object) -> None:
        check(own, address)
        connect(own, address)  # type: ignore[arg-type]

    def guarded_connect_ex(own: socket.socket, address: object) -> int:
        check(own, address)
        return connect_ex(own, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)


@pytest.fixture(autouse=True)
def _same_chance() -> None:
    """Every test draws the same numbers."""
    random.seed(1)
    np.random.seed(1)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests do not count."""
    for name in list(os.environ):
        if name.startswith("ASKALOUD_"):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own, without the demo lecture."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("ASKALOUD_HOME", str(folder))
    monkeypatch.setenv("ASKALOUD_DEMO", "false")
    return folder


@pytest.fixture(scope="session")
def short_lecture() -> Path:
    """Seventy seconds on volcanoes, bread, the heart, railroads and violins; `short_lecture.json` tells what is said when."""
    return DATA / "short_lecture.opus"


@pytest.fixture(scope="session")
def short_question() -> Path:
    """A spoken question that the short lecture answers: how often the heart beats every day."""
    return DATA / "short_question.wav"


@pytest.fixture(scope="session")
def off_topic_question() -> Path:
    """A spoken question that the short lecture does not answer."""
    return DATA / "off_topic_question.wav"


@pytest.fixture(scope="session")
def speak() -> Speak:
    """Say a text into a WAV file with espeak-ng: `speak(text, path, voice="en-us", words_per_minute=150)`."""
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("espeak-ng is not installed: no speech can be made")

    def say(text: str, path: Path, voice: str = "en-us", words_per_minute: int = 150) -> Path:
        subprocess.run([program, "-v", voice, "-s", str(words_per_minute), "-w", str(path), text], check=True, timeout=60)
        return path

    return say


@pytest.fixture(scope="session")
def _library_with_short_lecture(tmp_path_factory: pytest.TempPathFactory, short_lecture: Path) -> Path:
    """A data folder in which the short lecture is searchable; made once, copied for each test."""
    from app.build import build_app, build_parts, build_worker  # noqa: PLC0415  only tests that need it pay for it
    from app.settings import Settings  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("library") / "home"
    parts = build_parts(Settings(home=folder, demo=False))
    with closing(parts.library):
        build_app(parts).ingest(short_lecture, "Short lecture")
        build_worker(parts).run(lambda: True)
    return folder


@pytest.fixture
def home_with_lecture(home: Path, _library_with_short_lecture: Path) -> Path:
    """A data folder of this test's own, in which the short lecture is searchable."""
    shutil.copytree(_library_with_short_lecture, home, dirs_exist_ok=True)
    return home


@pytest.fixture
def parts(home_with_lecture: Path) -> Iterator["Parts"]:  # noqa: F821
    """The parts over a library with the short lecture."""
    from app.build import build_parts  # noqa: PLC0415  only tests that need it pay for it
    from app.settings import load_settings  # noqa: PLC0415

    made = build_parts(load_settings())
    with closing(made.library), closing(made.retriever):
        yield made


@pytest.fixture
def qa(parts: "Parts") -> "SpokenQA":  # noqa: F821
    """The application over a library with the short lecture."""
    from app.build import build_app  # noqa: PLC0415  only tests that need it pay for it

    return build_app(parts)
