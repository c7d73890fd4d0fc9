"""A real vLLM server with a tiny checkpoint, started by `askaloud serve-llm`, and what one sends it. Needs `make vllm-env`.

Another build than the one for CPUs is tried by setting VLLM_TEST_ENV, the folder of its environment, and VLLM_TEST_FLAGS, flags for
`vllm serve` that win over those here.
"""

import base64
import contextlib
import io
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np
import psutil

from generator.domain import Evidence
from retriever.domain import Audio, Hit, HitFeatures, Segment, Word, to_samples

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "vllm" / "checkpoints"
LECTURE_ID = UUID("6d1f3f0c-0000-4000-8000-000000000004")
KEY = "a key that only tests know"
UP_WITHIN_S = 1500.0  # a very busy machine, files read for the first time; an idle one takes 40
FOR_TINY = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1"}  # 1 GiB; compiling would take longer than all the tests
FLAGS = ("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8", "--block-size", "32", "--enable-prompt-tokens-details")


@dataclass(frozen=True, slots=True)
class Answered:
    """A server's answer: status, the JSON object, how long it took."""

    status: int
    body: dict
    took_s: float

    @property
    def text(self) -> str:
        assert self.status == 200, self.body
        return self.body["choices"][0]["message"]["content"]

    @property
    def num_prompt_tokens(self) -> int:
        assert self.status == 200, self.body
        return self.body["usage"]["prompt_tokens"]

    @property
    def complaint(self) -> str:
        return self.body["error"]["message"] if isinstance(self.body.get("error"), dict) else str(self.body)


@dataclass(frozen=True, slots=True, eq=False)
class TinyServer:
    """A running server."""

    process: subprocess.Popen
    port: int
    model: str
    log: Path
    told: Path  # what `askaloud serve-llm` itself says
    key: str = KEY

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def post(self, path: str, asked: dict, key: str = KEY) -> Answered:
        """Send a request over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        begun = time.monotonic()
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            connection.request("POST", f"/v1{path}", json.dumps(asked), headers)
            answer = connection.getresponse()
            return Answered(answer.status, json.loads(answer.read()), time.monotonic() - begun)

    def ask(self, *content: dict, **more: object) -> Answered:
        """Ask for a completion of one user's message, greedily."""
        asked = {"model": self.model, "messages": [{"role": "user", "content": list(content)}], "temperature": 0, "max_tokens": 16}
        return self.post("/chat/completions", asked | more)

    def is_healthy(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_healthy(self) -> float:
        """Return how long it took."""
        begun = time.monotonic()
        while not self.is_healthy():
            if self.process.poll() is not None or time.monotonic() - begun > UP_WITHIN_S:
                raise RuntimeError(f"the server did not start:\n{self.told.read_text()}\n{self.log.read_text()[-4000:]}")
            time.sleep(0.5)
        return time.monotonic() - begun

    def vllm_processes(self) -> list[psutil.Process]:
        """Return vLLM's own processes, below the command that keeps it."""
        return psutil.Process(self.process.pid).children(recursive=True)


def vllm_environment() -> Path | None:
    """Return the folder of the environment that vLLM is in; None if there is none."""
    named = os.environ.get("VLLM_TEST_ENV")
    folder = Path(named) if named else ROOT / ".venv-vllm"
    is_there = (folder / "bin" / "vllm").exists() and (named or (folder / ".ready").exists())
    return folder if is_there else None


def write_checkpoint(environment: Path, script: str, folder: Path) -> Path:
    """Write a tiny checkpoint of random weights into a new folder; the folder's name tells the family."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    command = [environment / "bin" / "python", SCRIPTS / f"{script}.py", folder]
    made = subprocess.run(command, env=_environment() | offline, capture_output=True, text=True, timeout=600, check=False)
    if made.returncode:
        raise RuntimeError(made.stderr[-3000:])
    return folder


@contextlib.contextmanager
def serving(environment: Path, checkpoint: Path, home: Path, *options: str) -> Iterator[TinyServer]:
    """Run a checkpoint by `askaloud serve-llm` for as long as a `with` lasts.

    Args:
        environment: that vLLM is in.
        checkpoint: folder.
        home: an empty folder for logs.
        options: of `askaloud serve-llm`.
    """
    port, told = _free_port(), home / "told"
    command = [sys.executable, "-m", "app", "serve-llm", "--model", str(checkpoint), "--port", str(port), "--vllm"]
    command += [str(environment), *options, "--", *FLAGS, *shlex.split(os.environ.get("VLLM_TEST_FLAGS", ""))]
    variables = _environment() | FOR_TINY | {"ASKALOUD_HOME": str(home), "ASKALOUD_LLM_KEY": KEY}
    with told.open("wb") as out:
        process = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    server = TinyServer(process, port, checkpoint.name, home / "logs" / "llm-server.log", told)
    try:
        server.wait_until_healthy()
        yield server
    finally:
        left = server.vllm_processes() if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        _, outlived = psutil.wait_procs(left, timeout=30)  # the engine's own children need a moment more than the server
        assert not [one for one in outlived if one.status() != psutil.STATUS_ZOMBIE], "vLLM outlived its keeper"


def tone(seconds: float, hertz: float = 300.0) -> Audio:
    """Return a tone in a little noise; the same each time."""
    at = np.arange(to_samples(seconds)) / 16000
    noise = np.random.default_rng(round(hertz)).standard_normal(len(at))
    return Audio((0.3 * np.sin(2 * np.pi * hertz * at) + 0.02 * noise).clip(-1, 1).astype(np.float32))


def wav(samples: np.ndarray, *, float32: bool = False) -> bytes:
    """Return a WAV file, of integers unless told otherwise."""
    if float32:
        raw = samples.astype("<f4").tobytes()
        head = struct.pack("<IHHIIHH", 16, 3, 1, 16000, 64000, 4, 32)
        return b"RIFF" + struct.pack("<I", 36 + len(raw)) + b"WAVEfmt " + head + b"data" + struct.pack("<I", len(raw)) + raw
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes((samples * 32767).astype("<i2").tobytes())
    return written.getvalue()


def sound_part(sound: Audio | bytes) -> dict:
    raw = sound if isinstance(sound, bytes) else wav(sound.samples)
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(raw).decode(), "format": "wav"}}


def text_part(text: str) -> dict:
    return {"type": "text", "text": text}


def bring(text: str, start_s: float, duration_s: float = 4.0, audio: Audio | None = None, title: str = "A lecture") -> Evidence:
    """Return evidence by hand: words said, where it begins, how long it lasts, its sound (a tone unless given)."""
    sound = audio or tone(duration_s, 200 + 7 * start_s)
    start, num_samples = to_samples(start_s), sound.num_samples
    spoken = text.split()
    step = num_samples // max(1, len(spoken))
    heard = tuple(Word(word, start + i * step, start + (i + 1) * step) for i, word in enumerate(spoken))
    segment = Segment(LECTURE_ID, start, start + num_samples, uuid5(LECTURE_ID, "run"))
    return Evidence(Hit(segment, 1.0, HitFeatures(0.6, 12.0, 0.8, 0.4)), title, heard, (), (), lambda: sound)


def _environment() -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not re.match("ASKALOUD_|VLLM_TEST_", name)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]
