"""The server's options and its start."""

import os
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import psutil

from app.settings import Settings, Web
from app.web.server import FIXED, SCRIPT, options

ROOT = Path(__file__).parents[2]


def flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    pairs: dict[str, object] = {}
    for name, value in table.items():
        pairs |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return pairs


def test_streamlit_run_has_the_same_options_as_our_server() -> None:
    with (ROOT / ".streamlit" / "config.toml").open("rb") as file:
        assert flat(tomllib.load(file)) == FIXED | {"server.address": "127.0.0.1"}


def test_streamlit_run_shows_the_same_page_as_our_server() -> None:
    def code(path: Path) -> str:
        return path.read_text(encoding="utf-8").partition('"""\n\n')[2]

    assert code(ROOT / "streamlit_app.py") == code(SCRIPT)


def test_the_server_listens_where_the_settings_say_and_asks_and_tells_nobody(home: Path) -> None:
    chosen = options(Settings(home=home, web=Web(port=9000)))
    assert (chosen["server.address"], chosen["server.port"]) == ("127.0.0.1", 9000)
    assert chosen["browser.gatherUsageStats"] is False
    assert chosen["server.showEmailPrompt"] is False
    assert chosen["server.enableXsrfProtection"] is True
    assert chosen["server.enableCORS"] is True
    assert chosen["client.showErrorDetails"] == "none"


def test_the_server_is_one_process_and_ends_when_asked(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = os.environ | {"ASKALOUD_WEB__PORT": str(port)}
    with subprocess.Popen([sys.executable, "-m", "app.web.server"], env=environment, stderr=subprocess.PIPE) as server:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1) as answer:
                        assert answer.read() == b"ok"
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            assert (home / "import").is_dir()
            assert len(psutil.Process(server.pid).children()) == 0
            server.terminate()
            assert server.wait(15) in (0, -15)
        finally:
            server.kill()
