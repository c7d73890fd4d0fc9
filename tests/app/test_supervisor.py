import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from app.cli import run
from app.supervisor import MAX_LOG_BYTES, Child

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


def test_a_long_log_is_put_aside_before_a_child_starts_and_only_one_is_kept(tmp_path: Path) -> None:
    one = child(tmp_path, "print('new')")
    one.log_path.parent.mkdir()
    one.log_path.with_suffix(".old.log").write_text("very old")
    one.log_path.write_text("x" * (MAX_LOG_BYTES + 1))
    one.tend()
    assert one.process is not None
    one.process.wait(WAIT_S)
    assert one.log_path.read_text() == "new\n"
    assert one.log_path.with_suffix(".old.log").stat().st_size == MAX_LOG_BYTES + 1
    assert len(list(one.log_path.parent.iterdir())) == 2


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


# The whole application, as `askaloud run` starts it


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def child_of(supervisor: psutil.Process, command: str) -> psutil.Process | None:
    for one in supervisor.children():
        with suppress(psutil.NoSuchProcess):  # also one that has died and was not yet buried
            if command in one.cmdline():
                return one
    return None


@pytest.fixture
def application(home: Path, tmp_path: Path) -> Iterator[tuple[psutil.Process, int]]:
    """The running application and its port; all of it is ended afterwards."""
    port = free_port()
    command = [sys.executable, "-m", "app", "run", "--no-browser", "--port", str(port)]
    with (tmp_path / "run.log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as supervisor:
        own = psutil.Process(supervisor.pid)
        assert until(lambda: answers(port), 90.0), (tmp_path / "run.log").read_text()
        assert until(lambda: child_of(own, "worker") is not None)
        family = own.children(recursive=True)
        try:
            yield own, port
        finally:
            for one in [*family, *(own.children(recursive=True) if own.is_running() else [])]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            supervisor.kill()


@pytest.mark.crash
def test_page_and_worker_are_started_again_when_they_are_killed(application: tuple[psutil.Process, int]) -> None:
    supervisor, port = application
    for command in ("web", "worker"):
        first = child_of(supervisor, command)
        assert first is not None
        first.kill()

        def is_back(command: str = command, pid: int = first.pid) -> bool:
            now = child_of(supervisor, command)
            return now is not None and now.pid != pid

        assert until(is_back, 40.0)
    assert until(lambda: answers(port), 60.0)


@pytest.mark.crash
def test_the_application_told_to_end_ends_page_and_worker(application: tuple[psutil.Process, int]) -> None:
    supervisor, port = application
    family = supervisor.children(recursive=True)
    supervisor.terminate()
    assert until(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE, 40.0)
    assert until(lambda: not any(one.is_running() for one in family))
    assert not answers(port)


@pytest.mark.crash
def test_page_and_worker_leave_when_their_supervisor_was_killed(application: tuple[psutil.Process, int]) -> None:
    supervisor, port = application
    family = supervisor.children()
    supervisor.kill()
    assert until(lambda: not any(one.is_running() for one in family), 40.0)
    assert not answers(port)


def test_a_port_that_is_taken_is_an_error_before_anything_starts(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run(["run", "--no-browser", "--port", str(server.getsockname()[1])]) == 2
    assert "--port" in capfd.readouterr().err
    assert not (home / "logs").exists()
