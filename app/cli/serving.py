"""Commands that keep running: `run` (worker and page side by side), `worker`, `web`."""

import logging
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from types import FrameType
from typing import Annotated

import typer

from app.cli.frame import note, opened_parts
from app.errors import CommandMisused, WorkerBusy
from app.seeding import seed_demo
from app.settings import Settings, load_settings, require_home
from app.supervisor import Child, Supervisor
from generator.errors import GeneratorError

LOOK_EVERY_S = 2.0
OPEN_WITHIN_S = 60.0
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")

log = logging.getLogger(__name__)

Host = Annotated[str | None, typer.Option("--host", help="Address to listen at; otherwise that of the settings.")]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port to listen at; otherwise that of the settings.")]
SupervisorPid = Annotated[int | None, typer.Option("--supervisor", hidden=True, help="Leave when this process is no longer the parent.")]


def register(commands: typer.Typer) -> None:
    """Add the commands of this file."""
    commands.command("run")(run_app)
    commands.command()(worker)
    commands.command(hidden=True)(web)


def run_app(
    host: Host = None,
    port: Port = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Run the app: the page and the worker, each started again should it die. Ctrl-C ends both."""
    settings = _settings(host, port)
    host, port = settings.web.host, settings.web.port
    require_home(settings)
    _require_free(host, port)
    address = f"http://{_shown_host(host)}:{port}"
    note(f"askaloud runs at {address} (Ctrl-C ends it); logs are in {settings.log_folder}")
    if host not in LOCAL_HOSTS:
        note(f"warning: whoever reaches {host} on the network can use it; there are no passwords")
    if not no_browser:
        threading.Thread(target=_open_browser, args=(host, port, address), name="browser", daemon=True).start()
    _supervisor(settings).run()


def worker(supervisor: SupervisorPid = None) -> None:
    """Make queued lectures searchable until told to end (Ctrl-C, SIGTERM); wait for another worker to leave first."""
    _log_to_stderr()
    signal.signal(signal.SIGTERM, _leave)

    def is_orphan() -> bool:
        return supervisor is not None and os.getppid() != supervisor

    with opened_parts() as parts:
        from app.build import build_app, build_worker  # noqa: PLC0415  loaded by now; at the top it would slow every command

        try:
            seed_demo(build_app(parts), parts.settings)
        except GeneratorError as error:  # who only listens need not answer
            log.warning("the demo lecture was not added: %s", error)
        at_work, told = build_worker(parts), False
        while True:
            try:
                return at_work.run(is_orphan, LOOK_EVERY_S)
            except WorkerBusy as busy:
                if is_orphan():
                    return None
                if not told:
                    log.info("waiting: %s", busy)
                told = True


def web(host: Host = None, port: Port = None, supervisor: SupervisorPid = None) -> None:
    """Serve the page alone."""
    _log_to_stderr()
    settings = _settings(host, port)
    if supervisor is not None:
        threading.Thread(target=_follow, args=(supervisor,), name="follow", daemon=True).start()
    from app.web.server import serve  # noqa: PLC0415  only this command needs streamlit

    serve(settings)


def _log_to_stderr() -> None:
    """Write the log to standard error, which the supervisor puts into a file."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("app").setLevel(logging.INFO)


def _settings(host: str | None, port: int | None) -> Settings:
    settings = load_settings()
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return settings.model_copy(update={"web": settings.web.model_copy(update=changes)})


def _supervisor(settings: Settings) -> Supervisor:
    own, me = [sys.executable, "-P", "-m", "app"], str(os.getpid())  # -P: a folder `app` where the user happens to be is not ours
    page = [*own, "web", "--host", settings.web.host, "--port", str(settings.web.port), "--supervisor", me]
    return Supervisor(
        (
            Child("worker", [*own, "worker", "--supervisor", me], settings.log_folder / "worker.log"),
            Child("page", page, settings.log_folder / "page.log"),
        )
    )


def _require_free(host: str, port: int) -> None:
    """Raise a usage error unless we can listen there."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except (OSError, OverflowError) as error:
        raise CommandMisused(f"cannot listen at {host} port {port} ({error}): end what does, or choose another with --port") from error


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  recognised, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _open_browser(host: str, port: int, address: str) -> None:
    """Open the page as soon as it answers."""
    give_up_at = time.monotonic() + OPEN_WITHIN_S
    while time.monotonic() < give_up_at:
        try:
            with socket.create_connection((_shown_host(host).strip("[]"), port), timeout=1.0):
                webbrowser.open(address)
                return
        except OSError:
            time.sleep(0.3)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """End in order: what was heard so far is kept, and the job goes on at the next start."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _follow(supervisor: int) -> None:
    """End this process when its supervisor died: a new one needs the port."""
    while os.getppid() == supervisor:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
