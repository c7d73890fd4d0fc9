"""From the command to the first page, and the app's memory, beside a Streamlit page that says hello; and the size of the environment."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from measure import Figure, tree_bytes
from playwright.sync_api import sync_playwright

PORT, PEER_PORT = 8791, 8792
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def measure(folder: Path) -> Iterator[Figure]:
    """Yield seconds to the first page and resident memory, ours and a bare page's, then the environment's size."""
    hello = folder / "hello.py"
    hello.write_text("import streamlit as st\nst.title('Hello')\n", encoding="utf-8")
    peer_command = [sys.executable, "-m", "streamlit", "run", str(hello), "--server.port", str(PEER_PORT), "--server.address", "127.0.0.1"]
    peer_command += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
    peer_s, peer_bytes = first_page(peer_command, PEER_PORT, {})
    command = [sys.executable, "-m", "app", "run", "--port", str(PORT), "--no-browser"]
    own_s, own_bytes = first_page(command, PORT, {"ASKALOUD_HOME": str(folder / "home"), "ASKALOUD_DEMO": "false"})
    yield Figure("command to first page", own_s, "s", "bare Streamlit page", peer_s, "under 6 s")
    yield Figure("memory of page and idle worker", own_bytes / 2**20, "MiB", "bare Streamlit page", peer_bytes / 2**20, "under 700 MB")
    environment = Path(__file__).parents[2] / ".venv"
    if environment.is_dir():
        size = sum(path.lstat().st_size for path in environment.rglob("*") if not path.is_dir())
        yield Figure("environment made by make run", size / 1e6, "MB", target="under 1,100 MB")


def first_page(command: Sequence[str], port: int, env: dict[str, str]) -> tuple[float, int]:
    """Return the seconds until a browser shows a heading, and the memory of the process tree then."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        started = time.perf_counter()
        process = subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(f"http://127.0.0.1:{port}/")
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_role("heading").first.wait_for(timeout=60_000)
            return time.perf_counter() - started, tree_bytes(process.pid)
        finally:
            browser.close()
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_for(url: str) -> None:
    """Wait until something answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answered at {url} within a minute")
