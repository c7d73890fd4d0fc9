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
from app.errors import RecordingFailed
from retriever.domain import clock

LONGEST_QUESTION_S = 59.0  # a question lasts at most a minute; the last block may reach past the end
QUIET_AFTER_S = 2.0  # of silence after something was said, the question is over
SPEECH_DBFS = -50.0  # no voice is below
SPEECH_ABOVE_ROOM_DB = 15.0
WAV_HEADER_BYTES = 44
AT_WORK_S = 10.0  # a recording that grew within this time is still being made

Device = Annotated[str | None, typer.Option("--device", help="Microphone: its number or a part of its name.")]
IsOver = Callable[[float, float], bool]  # of seconds recorded and peak in dBFS


def new_recording_path(folder: Path) -> Path:
    """Return where the recording that begins now is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{datetime.now().astimezone():%Y-%m-%d %H.%M.%S}.wav"


def unfinished_recordings(folder: Path) -> Sequence[Path]:
    """Return recordings that were never added, because the machine or the program died."""
    found = ((path, path.stat()) for path in folder.glob("*.wav"))
    return sorted(path for path, stat in found if stat.st_size > WAV_HEADER_BYTES and time.time() - stat.st_mtime > AT_WORK_S)


def record_lecture(path: Path, device: str | None) -> None:
    """Record until Enter or Ctrl-C.

    Raises:
        MicrophoneUnavailable: recording could not begin.
        RecordingFailed: it ended early; the message says how to add what is kept.
    """
    try:
        _record(path, device, lambda _elapsed_s, _level_dbfs: False, "recording; Enter or Ctrl-C ends it")
    except RecordingFailed as error:
        raise RecordingFailed(f"{error} (`askaloud ingest '{path}'` adds what is kept)") from error


def record_question(folder: Path, device: str | None) -> Path:
    """Record until Enter, two seconds of silence after something was said, or a minute; return the file.

    Raises:
        MicrophoneUnavailable, RecordingFailed: as in `app.microphone`.
    """
    path = folder / "question.wav"
    _record(path, device, SaidAndDone(), "ask now; Enter or silence ends it")
    return path


@dataclass(eq=False)
class SaidAndDone:
    """Tells from the level when a question is over; what counts as silence follows from the room."""

    _room_dbfs: float = field(default=0.0, init=False)
    _spoke: bool = field(default=False, init=False)
    _quiet_since_s: float = field(default=0.0, init=False)

    def __call__(self, elapsed_s: float, level_dbfs: float) -> bool:
        """Return whether the speaker has finished, given the level now."""
        self._room_dbfs = min(self._room_dbfs, level_dbfs)
        if level_dbfs >= max(SPEECH_DBFS, self._room_dbfs + SPEECH_ABOVE_ROOM_DB):
            self._spoke, self._quiet_since_s = True, elapsed_s
        return elapsed_s >= LONGEST_QUESTION_S or (self._spoke and elapsed_s - self._quiet_since_s >= QUIET_AFTER_S)


def _record(path: Path, device: str | None, is_over: IsOver, hint: str) -> None:
    from app.microphone import FLOOR_DBFS, record  # noqa: PLC0415  numpy and queues that few commands need

    over = threading.Event()
    columns = (TextColumn("{task.fields[at]}"), BarColumn(), TextColumn(hint))
    with Progress(*columns, console=error_console()) as progress, _ended_by_signals(over):
        task = progress.add_task("", total=1.0, at=clock(0))

        def on_level(elapsed_s: float, level_dbfs: float) -> None:
            progress.update(task, completed=1.0 - level_dbfs / FLOOR_DBFS, at=clock(elapsed_s))
            if is_over(elapsed_s, level_dbfs):
                over.set()

        threading.Thread(target=_wait_for_enter, args=(over,), name="enter", daemon=True).start()
        recording = record(path, device, on_level, over)
    if recording.lost_blocks:
        note(f"warning: {recording.lost_blocks / 10:.1f} s were lost: the machine was too busy")
    if not recording.num_samples:
        path.unlink()
        raise RecordingFailed("nothing was recorded: it was ended before any sound came; begin anew")


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
