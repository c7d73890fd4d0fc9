"""What every benchmark shares: a measured figure beside its peer's, and the memory of a whole process tree."""

import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value, beside that of a peer which did the same in the same run.

    Attributes:
        target: what the project promises itself for `value`, if anything.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    target: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over the peer's value."""
        return self.value / self.peer_value if self.peer_value else None


@dataclass(frozen=True, slots=True)
class Run:
    """A finished process tree: wall seconds and the largest sum of its resident memory."""

    seconds: float
    peak_bytes: int
    stdout: str


def tree_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants; pages they share count once for each."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def run(command: Sequence[str], env: dict[str, str] | None = None) -> Run:
    """Run a command to its end, watching the memory of its tree."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.1):
            peak = max(peak, tree_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    stdout, _ = process.communicate()
    over.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return Run(time.perf_counter() - started, peak, stdout)
