"""Runs the worker and the page side by side and starts each again when it dies.

The two do not depend on each other: the page may be restarted while a lecture is being listened to. Should the supervisor itself be killed,
the worker finishes what is queued and leaves; a new supervisor's worker waits for it.
"""

import logging
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

QUICK_DEATH_S = 10.0
MAX_PAUSE_S = 30.0
GRACE_S = 20.0
MAX_LOG_BYTES = 5 * 2**20


@dataclass(eq=False)
class Child:
    """A process that shall always run; one that dies young is started again after a pause that doubles."""

    name: str
    command: Sequence[str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = 0.0
    due_at: float = 0.0

    def tend(self) -> None:
        """Start it if it does not run and its pause is over."""
        if self.process is not None and self.process.poll() is None:
            return
        now = time.monotonic()
        if self.process is not None:
            log.warning("%s ended with code %s", self.name, self.process.returncode)
            quick = now - self.started_at < QUICK_DEATH_S
            self.pause_s = min(MAX_PAUSE_S, max(1.0, 2 * self.pause_s)) if quick else 0.0
            self.process, self.due_at = None, now + self.pause_s
        if now >= self.due_at:
            self._start()

    def _start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._rotate_log()
        with self.log_path.open("ab") as log_file:
            # A session of its own: Ctrl-C reaches the supervisor, which ends its children in order.
            self.process = subprocess.Popen(self.command, stdout=log_file, stderr=subprocess.STDOUT, start_new_session=True)
        self.started_at = time.monotonic()

    def _rotate_log(self) -> None:
        """Keep a log that has grown long as the only old one: what there is of it stays below twice the limit and a run."""
        try:
            if self.log_path.stat().st_size > MAX_LOG_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".old.log"))
        except OSError:  # not there yet, or not ours to move: then it grows on
            pass

    def stop(self) -> None:
        """Ask it to end; kill it if it does not within the grace."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(eq=False)
class Supervisor:
    """Keeps children alive until it is asked to end (Ctrl-C, SIGTERM)."""

    children: Sequence[Child]
    _over: bool = field(default=False, init=False)

    def run(self) -> None:
        """Tend the children until asked to end, then end them."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        try:
            while not self._over:
                for child in self.children:
                    child.tend()
                time.sleep(0.2)
        finally:
            for child in self.children:
                child.stop()

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._over = True
