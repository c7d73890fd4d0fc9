import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.supervisor import Child

WAIT_S = 20.0
SLEEPS = "import time; time.sleep(60)"
DIES = "raise SystemExit(3)"


def until(holds: Callable[[], bool], within_s: float = WAIT_S) -> bool:
    give_up_at = time.monotonic() + within_s
    while time.monotonic() < give_up_at:
        if holds():
            return True
        time.sleep(0.05)
    return False


def child(tmp_path: Path, program: str) -> Child:
    return Child("child", [sys.executable, "-c", program], tmp_path / "logs" / "child.log")


def test_a_child_that_is_killed_is_started_again(tmp_path: Path) -> None:
    one = child(tmp_path, SLEEPS)
    one.tend()
    try:
        assert one.process is not None
        first = one.process.pid
        os.kill(first, signal.SIGKILL)
        one.process.wait(WAIT_S)

        def is_back() -> bool:
            one.tend()
            return one.process is not None and one.process.pid != first and one.process.poll() is None

        assert until(is_back)
    finally:
        one.stop()


def test_a_child_that_dies_young_is_started_again_ever_later(tmp_path: Path) -> None:
    one = child(tmp_path, DIES)
    pauses = []
    for _ in range(4):
        one.due_at = 0.0  # as if the pause were over
        one.tend()
        assert one.process is not None
        one.process.wait(WAIT_S)
        one.tend()  # sees that it died, and does not start it at once
        assert one.process is None
        pauses.append(one.pause_s)
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_what_a_child_writes_is_in_its_log(tmp_path: Path) -> None:
    one = child(tmp_path, "import sys; print('to the log'); print('and this', file=sys.stderr)")
    one.tend()
    assert one.process is not None
    one.process.wait(WAIT_S)
    assert (tmp_path / "logs" / "child.log").read_text().splitlines() == ["to the log", "and this"]


def test_a_stopped_child_ends_and_a_second_stop_changes_nothing(tmp_path: Path) -> None:
    one = child(tmp_path, SLEEPS)
    one.tend()
    one.stop()
    assert one.process is not None
    assert one.process.returncode == -signal.SIGTERM
    one.stop()


SUPERVISE = """
import sys
from pathlib import Path
from app.supervisor import Child, Supervisor
folder = Path(sys.argv[1])
Supervisor([Child(str(i), [sys.executable, "-c", "import time; time.sleep(60)"], folder / f"{i}.log") for i in range(2)]).run()
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_that_is_asked_to_end_takes_its_children_along(tmp_path: Path, sign: signal.Signals) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(tmp_path)])
    try:
        own = psutil.Process(supervisor.pid)
        assert until(lambda: len(own.children()) == 2)
        children = own.children()
        supervisor.send_signal(sign)
        assert supervisor.wait(WAIT_S) == 0
        assert until(lambda: not any(one.is_running() for one in children))
    finally:
        supervisor.kill()
