"""The application works where there is no network at all, not even this machine's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def cut_off() -> list[str]:
    """The command that runs another in a network of its own without any connection."""
    program = shutil.which("unshare")
    command = [program or "unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--"]
    if program is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a process cannot be cut off from the network here: unshare is missing or not allowed")
    return command


def test_a_lecture_is_added_and_asked_with_the_network_cut(
    cut_off: list[str], home: Path, short_lecture: Path, short_question: Path
) -> None:
    def call(*arguments: str | Path) -> dict[str, list[dict[str, object]]]:
        command = [*cut_off, sys.executable, "-m", "app", *map(str, arguments), "--json"]
        done = subprocess.run(command, env=os.environ | {"HOME": str(home)}, check=True, capture_output=True, timeout=200)
        return json.loads(done.stdout)

    assert call("ingest", short_lecture)["lectures"][0]["new"] is True
    assert call("ask", "--audio", short_question)["hits"]
