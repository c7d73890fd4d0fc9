"""The app as a user has it: the real server and the real worker as processes, and Chromium with a fake microphone."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TIMEOUT_MS = 30_000
BROWSER_ARGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the network is cut
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)


@dataclass
class RunningApp:
    """Server and worker over one data folder; each can be stopped and started again."""

    home: Path
    port: int
    log_path: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str, *command: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ASKALOUD_")}
        environment |= {"ASKALOUD_HOME": str(self.home), "ASKALOUD_DEMO": "false", "ASKALOUD_WEB__PORT": str(self.port)}
        with self.log_path.open("ab") as log:
            self.processes[name] = subprocess.Popen([sys.executable, "-m", *command], env=environment, stdout=log, stderr=log)

    def start_page(self) -> None:
        self.start("page", "app.web.server")
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1):
                    return
            except OSError:
                assert self.processes["page"].poll() is None, self.log_path.read_text()
                assert time.monotonic() < deadline, self.log_path.read_text()
                time.sleep(0.1)

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def running_app(tmp_path_factory: pytest.TempPathFactory, _library_with_short_lecture: Path) -> Iterator[RunningApp]:
    """A running app whose library holds the short lecture."""
    home = tmp_path_factory.mktemp("app") / "home"
    shutil.copytree(_library_with_short_lecture, home)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    one = RunningApp(home, port, home.parent / "log")
    one.start_page()
    one.start("worker", "app", "worker")
    yield one
    for name in list(one.processes):
        one.stop(name)


@pytest.fixture(scope="session")
def chromium(short_question: Path) -> Iterator["Browser"]:  # noqa: F821
    """Chromium whose microphone hears the short question, once for each time it is opened."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is not installed: Debian's package is called chromium")
    args = [*BROWSER_ARGS, f"--use-file-for-fake-audio-capture={short_question}%noloop"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=args)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page in the browser, and every address it asked for."""

    page: "Page"  # noqa: F821
    app: RunningApp
    requests: list[str]

    def go(self, path: str = "") -> None:
        self.page.goto(f"{self.app.address}/{path}")
        self.page.get_by_role("heading", level=1).wait_for()


@pytest.fixture
def visit(chromium: "Browser", running_app: RunningApp) -> Iterator[Visit]:  # noqa: F821
    """A visit to the app; it fails if a request went anywhere but to the app."""
    context = chromium.new_context(permissions=["microphone"], viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    requests: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda websocket: requests.append(websocket.url))
    yield Visit(page, running_app, requests)
    context.close()
    own = (running_app.address + "/", running_app.address.replace("http:", "ws:") + "/", "data:", f"blob:{running_app.address}/")
    assert [url for url in requests if not url.startswith(own)] == []
