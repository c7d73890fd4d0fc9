"""Starts a vLLM server for a speech LLM, and starts it again when it dies.

vLLM lives in an environment of its own: it is run, never imported. How a server is started is one frozen record (`LlmServer`), from which
the command and its environment follow; `LlmKeeper` runs it.
"""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import FrameType, MappingProxyType
from typing import Final

from app.errors import LlmServerFailed, VllmMissing
from app.llm_probe import is_healthy
from generator.families import ModelFamily

log = logging.getLogger(__name__)

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000  # vLLM's own
ENVIRONMENTS: Final = (".venv-vllm", ".venv-serve")  # where docs/gpu.md and the Makefile put vLLM
NO_DOMAIN: Final = "none.invalid"  # sound comes inside the request: the server shall fetch nothing for anybody
KEY_OF_SERVER: Final = "VLLM_API_KEY"  # read by vLLM itself: on the command line everybody on the machine could read it
OF_OUR_PYTHON: Final = frozenset({"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"})
QUIET: Final = MappingProxyType({"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"})
OFFLINE: Final = MappingProxyType({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})
TEXT_FLAGS: Final = ("--max-model-len", "8192")

LOOK_EVERY_S: Final = 1.0
GRACE_S: Final = 20.0  # between asking it to end and killing it
UNWELL_S: Final = 120.0  # so long it may go on without saying that it is well; one whose engine died ends by itself
MAX_FAILED_STARTS: Final = 3
NUM_LINES_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class LlmServer:
    """How a vLLM server is started.

    Attributes:
        program: vLLM's command `vllm`, in its own environment.
        model: folder or name of the checkpoint.
        family: what is known of such models; None for a text LLM.
        host, port: where it listens.
        key: what callers must show; empty lets everybody in who reaches it.
        may_download: let vLLM fetch a checkpoint that is not on this machine.
        more: flags of vLLM that win over ours, such as `--tensor-parallel-size 2`.
    """

    program: Path
    model: str
    family: ModelFamily | None
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    key: str = field(default="", repr=False)
    may_download: bool = False
    more: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where it is reached from this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104  recognised, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def name(self) -> str:
        """What callers call the model: the last part of its name, which tells its family."""
        return PurePath(self.model.rstrip("/")).name or self.model

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        flags = TEXT_FLAGS if self.family is None else self.family.serve_flags
        return [
            str(self.program),
            "serve",
            self.model,
            *("--host", self.host, "--port", str(self.port), "--served-model-name", self.name),
            *(flag.replace("{model}", self.model) for flag in flags),
            *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
            *("--allowed-media-domains", NO_DOMAIN),
            *self.more,
        ]

    def environment(self, inherited: Mapping[str, str], temporary: Path) -> dict[str, str]:
        """Return the environment: what is inherited but for our Python's, quiet, offline, with a folder for its sockets."""
        kept = {name: value for name, value in inherited.items() if name not in OF_OUR_PYTHON}
        path = os.pathsep.join([str(self.program.parent), kept.get("PATH", os.defpath)])
        return kept | self._set() | {"PATH": path, "TMPDIR": str(temporary)} | ({KEY_OF_SERVER: self.key} if self.key else {})

    def shell_line(self) -> str:
        """Return what one types to start it; the key stays out of it."""
        return " ".join([*(f"{name}={value}" for name, value in self._set().items()), shlex.join(self.command())])

    def _set(self) -> dict[str, str]:
        return {**QUIET, **({} if self.may_download else OFFLINE)}


def find_vllm(named: Path | None = None) -> Path:
    """Return vLLM's command: the one named, or that of an environment beside us, or the one on the path.

    Raises:
        VllmMissing: there is none.
    """
    if named is not None:
        program = named / "bin" / "vllm" if named.is_dir() else named
        if not os.access(program, os.X_OK) or program.is_dir():
            raise VllmMissing(f"{program} is no program: name vLLM's command or the folder of its environment in --vllm")
        return program.absolute()
    places = [Path(folder) / "bin" / "vllm" for folder in ENVIRONMENTS]
    found = next((str(place) for place in places if os.access(place, os.X_OK)), None) or shutil.which("vllm")
    if found is None:
        raise VllmMissing(
            f"vLLM is not installed: neither {' nor '.join(ENVIRONMENTS)} is in this folder, and there is no `vllm` on the path. "
            "It needs an environment of its own: docs/gpu.md says how to make one; --vllm names another place"
        )
    return Path(found).absolute()


@dataclass(eq=False)
class LlmKeeper:
    """Runs a server until asked to end (Ctrl-C, SIGTERM), and starts it again when it dies or stays unhealthy.

    A server that never becomes ready is not started for ever: its first failure, or the third in a row later on, ends the keeper.

    Args:
        server: what to run.
        log_path: where its output goes.
        tell: is told in a line what happens.
    """

    server: LlmServer
    log_path: Path
    tell: Callable[[str], None]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _over: bool = field(default=False, init=False)

    def run(self) -> None:
        """Run the server until asked to end.

        Raises:
            LlmServerFailed: it does not become ready; the message shows the end of its log.
        """
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with tempfile.TemporaryDirectory(prefix="askaloud-llm-", ignore_cleanup_errors=True) as folder:
                self._keep(Path(folder))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _keep(self, folder: Path) -> None:
        num_failed, was_ready = 0, False
        while not self._over:
            try:
                self._start(folder)
                ready = self._wait_until_ready()
                if ready:
                    num_failed, was_ready = 0, True
                    self._watch()
            finally:
                code = self._stop()
            if self._over:
                return
            num_failed += not ready
            if not ready and (not was_ready or num_failed >= MAX_FAILED_STARTS):
                raise LlmServerFailed(f"vLLM does not start (exit code {code}); {self.log_path} ends with:\n{self._last_lines()}")
            self.tell(f"the model server ended (exit code {code}): starting it again")

    def _start(self, folder: Path) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("wb") as log_file:  # each start a log of its own: what is wrong stands in the last
            # A session of its own: its workers end with it, and Ctrl-C reaches us first.
            self._process = subprocess.Popen(
                self.server.command(),
                stdout=log_file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.server.environment(os.environ, folder),
                start_new_session=True,
            )

    def _wait_until_ready(self) -> bool:
        """Return whether it answers; False if it ended before or we were asked to end. No limit: loading may take many minutes."""
        since = time.monotonic()
        while self._runs() and not self._over:
            if is_healthy(self.server.address):
                self.tell(f"the model server is ready at {self.server.address}/v1 after {time.monotonic() - since:.0f} s")
                return True
            time.sleep(LOOK_EVERY_S)
        return False

    def _watch(self) -> None:
        """Return when it has ended, has been unhealthy for a while, or we are asked to end."""
        well_at = time.monotonic()
        while self._runs() and not self._over:
            if is_healthy(self.server.address):
                well_at = time.monotonic()
            elif time.monotonic() - well_at > UNWELL_S:
                log.warning("the model server has been unhealthy for %.0f s", UNWELL_S)
                return
            time.sleep(LOOK_EVERY_S)

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _stop(self) -> int | None:
        """End the server and whatever it left behind; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                log.warning("the model server did not end within %.0f s: killed", GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, should it have died without ending them
        return process.wait()

    def _last_lines(self) -> str:
        lines = self.log_path.read_text("utf-8", "replace").splitlines()
        return "\n".join(_telling(lines)[-NUM_LINES_SHOWN:])

    def _end(self, _signal: int, _frame: FrameType | None) -> None:
        self._over = True


def _telling(lines: Sequence[str]) -> list[str]:
    """Return the lines that say what is wrong: from the last that names an error on, else all."""
    errors = [i for i, line in enumerate(lines) if "Error" in line and "Traceback" not in line]
    return list(lines[errors[-1] :] if errors else lines)
