"""Asks a model server how it is: health, the models it serves, and whether it answers to a second of sound. Standard library only."""

import base64
import io
import json
import math
import struct
import wave
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from app.errors import LlmServerFailed
from app.shapes import JsonObject

HEALTH_TIMEOUT_S: Final = 10.0  # on a busy machine it takes its time
SAMPLE_RATE_HZ: Final = 16_000
TONE_HZ: Final = 440.0
MAX_REPLY_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered.

    Attributes:
        status: of HTTP.
        body: its JSON object; empty if it sent something else.
    """

    status: int
    body: JsonObject

    @property
    def complaint(self) -> str:
        """What it says is wrong."""
        error = self.body.get("error")
        told = error.get("message") if isinstance(error, dict) else error or self.body.get("message")
        return str(told or f"HTTP status {self.status}")


def is_healthy(address: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """Return whether the server at `http://host:port` says that it is well."""
    try:
        return _ask("GET", address, "/health", timeout_s=timeout_s).status == 200
    except LlmServerFailed:
        return False


def served_models(base_url: str, key: str = "", timeout_s: float = 10.0) -> list[str]:
    """Return the names of the models served at a base address that ends in `/v1`.

    Raises:
        LlmServerFailed: it cannot be reached, does not accept the key, or speaks something else.
    """
    reply = _ask("GET", base_url, "/models", key, timeout_s)
    models = reply.body.get("data")
    if reply.status != 200 or not isinstance(models, list):
        raise LlmServerFailed(f"{base_url} does not list its models: {reply.complaint}")
    return [str(model["id"]) for model in models if isinstance(model, dict) and "id" in model]


def hear_a_second(base_url: str, model: str, key: str = "", timeout_s: float = 60.0) -> str:
    """Send a second of a tone and return the few words that come back.

    Raises:
        LlmServerFailed: no answer, or a refusal; the message has the server's words.
    """
    sound: JsonObject = {"type": "input_audio", "input_audio": {"data": base64.b64encode(_tone_wav()).decode("ascii"), "format": "wav"}}
    return _complete(base_url, model, [sound, {"type": "text", "text": "What do you hear?"}], key, timeout_s)


def read_a_line(base_url: str, model: str, key: str = "", timeout_s: float = 60.0) -> str:
    """Send a line of text and return the few words that come back. Raises LlmServerFailed."""
    return _complete(base_url, model, [{"type": "text", "text": "Say yes."}], key, timeout_s)


def _complete(base_url: str, model: str, content: list[JsonObject], key: str, timeout_s: float) -> str:
    asked = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, "temperature": 0}
    reply = _ask("POST", base_url, "/chat/completions", key, timeout_s, json.dumps(asked).encode())
    choices = reply.body.get("choices")
    if reply.status != 200 or not isinstance(choices, list) or not choices:
        raise LlmServerFailed(f"{model!r} at {base_url} did not answer: {reply.complaint}")
    message = choices[0].get("message")
    return str(message.get("content") or "") if isinstance(message, dict) else ""


def _ask(method: str, base_url: str, path: str, key: str = "", timeout_s: float = 10.0, body: bytes | None = None) -> Reply:
    """Send one request over a connection of its own. Raises LlmServerFailed."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LlmServerFailed(f"{base_url!r} is no address of a model server: it looks like http://127.0.0.1:8000/v1")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        try:
            connection.request(method, parts.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, _object(answer.read(MAX_REPLY_BYTES)))
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError) as error:
        told = str(error) or type(error).__name__
        raise LlmServerFailed(f"no model server answers at {base_url} ({told}): start one with `askaloud serve-llm`") from error


def _object(raw: bytes) -> JsonObject:
    try:
        parsed = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _tone_wav() -> bytes:
    samples = (round(8000 * math.sin(2 * math.pi * TONE_HZ * i / SAMPLE_RATE_HZ)) for i in range(SAMPLE_RATE_HZ))
    written = io.BytesIO()
    with wave.open(written, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE_HZ)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return written.getvalue()
