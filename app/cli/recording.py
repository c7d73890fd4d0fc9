"""Records from the microphone for the commands: a lecture to the data folder, a question to a temporary file."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn

from app.cli.frame import error_console, note
from app.subtitles import clock

MAX_QUESTION_S = 60.0
QUIET_AFTER_S = 2.0  # of silence after something was said, the question is over
SPEECH_LEVEL = 0.02  # of full scale; a voice near a microphone is well above, a quiet room below

Device = Annotated[str | None, typer.Option("--device", help="Microphone: its number or a part of its name.")]
IsOver = Callable[[float, float], bool]  # of seconds recorded and level in [0, 1]


def new_recording_path(folder: Path) -> Path:
    """Return where the recording that begins now is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{datetime.now().astimezone():%Y-%m-%d %H.%M.%S}.wav"


def unfinished_recordings(folder: Path) -> Sequence[Path]:
    """Return recordings that were never added, because the machine or the program died."""
    return sorted(path for path in folder.glob("*.wav") if path.stat().st_size)


def record_lecture(path: Path, device: str | None) -> None:
    """Record until Enter or Ctrl-C."""
    _record(path, device, lambda _elapsed_s, _level: False, "recording; Enter or Ctrl-C ends it")


def record_question(folder: Path, device: str | None) -> Path:
    """Record until Enter, two seconds of silence after something was said, or a minute."""
    path = folder / "question.wav"
    _record(path, device, SaidAndDone(), "ask now; Enter or silence ends it")
    return path


@dataclass(eq=False)
class SaidAndDone:
    """Tells from the level when a question is over."""

    _spoke: bool = field(default=False, init=False)
    _quiet_since_s: float = field(default=0.0, init=False)

    def __call__(self, elapsed_s: float, level: float) -> bool:
        """Return whether the speaker has finished, given the level now."""
        if level >= SPEECH_LEVEL:
            self._spoke, self._quiet_since_s = True, elapsed_s
        return elapsed_s >= MAX_QUESTION_S or (self._spoke and elapsed_s - self._quiet_since_s >= QUIET_AFTER_S)


def _record(path: Path, device: str | None, is_over: IsOver, hint: str) -> None:
    from app.microphone import record  # noqa: PLC0415  needs PortAudio, which is optional

    over, started = threading.Event(), time.monotonic()
    columns = (TextColumn("{task.fields[at]}"), BarColumn(), TextColumn(hint))
    with Progress(*columns, console=error_console()) as progress, _ended_by_signals(over):
        task = progress.add_task("", total=1.0, at="00:00")

        def on_level(level: float) -> None:
            elapsed_s = time.monotonic() - started
            progress.update(task, completed=min(1.0, level), at=clock(elapsed_s))
            if is_over(elapsed_s, level):
                over.set()

        threading.Thread(target=_wait_for_enter, args=(over,), name="enter", daemon=True).start()
        recording = record(path, device, on_level, over)
    note(f"recorded {recording}")


@contextmanager
def _ended_by_signals(over: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the recording in order."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_enter(over: threading.Event) -> None:
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stdin.readline()
        over.set()
