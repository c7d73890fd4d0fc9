"""A real HTTP server that speaks OpenAI's chat protocol and refuses what vLLM refuses, in vLLM's words; its model is a function.

What it checks was measured against the real server: the key, the model's name, the number of clips, their bytes and their lengths, the
prompt's length, the form of the answer. What it is sent it keeps, decoded, for tests to look at. It also fails on command.
"""

import argparse
import asyncio
import base64
import binascii
import io
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jsonschema
import numpy as np
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PLACEHOLDERS = re.compile(r"<\|[\w]+\|>|<(?:audio|image)[\w]*>|</?s>|\[/?INST\]|\[(?:BEGIN_)?AUDIO\]")
TOKENS_PER_SECOND = 25


@dataclass
class Heard:
    """A request as the model gets it.

    Attributes:
        body: the JSON as it came.
        roles: of the messages.
        text: all text, in order.
        sounds: of all clips, int16 of shape (N,).
        order: of the user's parts, "text" or "sound".
        special: literal special tokens in the text; each would take the place of a clip's sound.
    """

    body: dict[str, Any]
    roles: list[str] = field(default_factory=list)
    text: str = ""
    sounds: list[np.ndarray] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [len(sound) / 16_000 for sound in self.sounds]


Brain = Callable[[Heard], str]


def answers(text: str = "It is said here.", clips: tuple[int, ...] = (1,), supported: bool = True) -> Brain:
    """A model that always says the same."""
    return lambda heard: json.dumps({"supported": supported, "clips": list(clips), "answer": text})


def says(text: str) -> Brain:
    """A model that cannot be held to a form."""
    return lambda heard: text


@dataclass
class Behaviour:
    """What the server is and does; may be changed while it runs.

    Attributes:
        fail: statuses to answer with, one for each of the next requests.
        break_after: break the connection after so many characters of the answer.
        error_after: send an error as an event of the stream after so many.
        no_end: end the stream without saying why.
        foreign: what to send instead of the protocol.
        wait_s: before the first word; pause_s between words.
    """

    brain: Brain = field(default_factory=answers)
    model: str = "tiny"
    models: tuple[str, ...] = ()
    key: str = ""
    max_clips: int = 8
    max_tokens: int = 8192
    cuts_at_s: float = 30.0
    fail: list[int] = field(default_factory=list)
    break_after: int | None = None
    error_after: int | None = None
    no_end: bool = False
    foreign: str | None = None
    wait_s: float = 0.0
    pause_s: float = 0.0
    chunk: int = 4


class Refused(Exception):
    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


class Broken(Exception):
    """The connection breaks here."""


@dataclass
class ProtocolServer:
    """The server with all that it heard."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    heard: list[Heard] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    num_requests: int = 0
    num_streaming: int = 0
    url: str = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", lambda request: Response()),
                Route("/v1/models", self.list_models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def list_models(self, request: Request) -> Response:
        if (refusal := self.check_key(request)) is not None:
            return refusal
        if self.behaviour.foreign is not None:
            return Response(self.behaviour.foreign, media_type="text/html")
        names = self.behaviour.models or (self.behaviour.model,)
        return JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "vllm"} for name in names]}
        )

    def check_key(self, request: Request) -> Response | None:
        if self.behaviour.key and request.headers.get("authorization") != f"Bearer {self.behaviour.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)  # not OpenAI's error object
        return None

    async def chat(self, request: Request) -> Response:
        self.num_requests += 1
        if (refusal := self.check_key(request)) is not None:
            return refusal
        if self.behaviour.fail:
            status = self.behaviour.fail.pop(0)
            return self.error(Refused(status, "the engine is in trouble", "InternalServerError"))
        if self.behaviour.foreign is not None:
            return Response(self.behaviour.foreign, media_type="text/event-stream")
        try:
            heard = self.listen(await request.json())
        except Refused as refusal:
            return self.error(refusal)
        self.heard.append(heard)
        reply = self.behaviour.brain(heard)
        self.check_form(heard, reply)
        reply = reply[: 4 * int(heard.body.get("max_completion_tokens") or heard.body.get("max_tokens") or 10**6)]
        if not heard.body.get("stream"):
            message = {"role": "assistant", "content": reply}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse({"id": "x", "object": "chat.completion", "created": 0, "model": self.behaviour.model, "choices": [choice]})
        return StreamingResponse(self.stream(heard, reply), media_type="text/event-stream")

    @staticmethod
    def error(refusal: Refused) -> Response:
        body = {"message": str(refusal), "type": refusal.kind, "param": None, "code": refusal.status}
        return JSONResponse({"error": body}, refusal.status)

    def check_form(self, heard: Heard, reply: str) -> None:
        """A server that was given a schema gives nothing else."""
        form = heard.body.get("response_format")
        if form is None:
            return
        try:
            jsonschema.validate(json.loads(reply), form["json_schema"]["schema"])
        except (ValueError, jsonschema.ValidationError) as error:
            self.faults.append(f"a server would not answer {reply!r} under this schema: {error}")

    def listen(self, body: dict[str, Any]) -> Heard:
        names = self.behaviour.models or (self.behaviour.model,)
        if body.get("model") not in names:
            raise Refused(404, f"The model `{body.get('model')}` does not exist.", "NotFoundError")
        heard = Heard(body)
        for message in body["messages"]:
            heard.roles.append(message["role"])
            parts = message["content"]
            for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
                self.listen_to(part, heard)
        if len(heard.sounds) > self.behaviour.max_clips:
            raise Refused(400, f"At most {self.behaviour.max_clips} audio(s) may be provided in one prompt.")
        heard.special = PLACEHOLDERS.findall(heard.text)
        num_tokens = len(heard.text) // 4 + int(sum(heard.seconds) * TOKENS_PER_SECOND)
        if num_tokens > self.behaviour.max_tokens:
            raise Refused(
                400,
                f"This model's maximum context length is {self.behaviour.max_tokens} tokens. Your request has {num_tokens} input tokens.",
            )
        for seconds in heard.seconds:
            if seconds > self.behaviour.cuts_at_s:
                self.faults.append(f"a clip of {seconds:.2f} s is cut to {self.behaviour.cuts_at_s} s, and nobody is told")
        return heard

    def listen_to(self, part: dict[str, Any], heard: Heard) -> None:
        match part["type"]:
            case "text":
                heard.text += f"{part['text']}\n"
                heard.order.append("text")
            case "input_audio":
                heard.sounds.append(self.decode(part["input_audio"]["data"]))
                heard.order.append("sound")
            case other:
                raise Refused(400, f"Unknown part type: {other}")

    @staticmethod
    def decode(data: str) -> np.ndarray:
        try:
            raw = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise Refused(400, f"Invalid base64 audio: {error}") from error
        try:
            samples, rate = soundfile.read(io.BytesIO(raw), dtype="int16")
        except (soundfile.LibsndfileError, TypeError) as error:
            raise Refused(400, "Invalid or corrupted audio data. Please check the file.") from error
        if rate != 16_000 or samples.ndim != 1:
            raise Refused(400, f"this test wants audio of 16 kHz, mono, got {rate} and {samples.shape}")
        if len(samples) < 400:
            raise Refused(400, f"The audio (len={len(samples)}) is too short to be represented inside the model")
        if len(samples) > 600 * 16_000:
            raise Refused(400, "Audio exceeds maximum allowed duration of 600s")
        return samples

    async def stream(self, heard: Heard, reply: str) -> AsyncIterator[str]:
        self.num_streaming += 1
        try:
            yield self.event({"role": "assistant", "content": ""})
            await asyncio.sleep(self.behaviour.wait_s)
            for at in range(0, len(reply), self.behaviour.chunk):
                if self.behaviour.break_after is not None and at >= self.behaviour.break_after:
                    raise Broken
                if self.behaviour.error_after is not None and at >= self.behaviour.error_after:
                    yield 'data: {"error": {"message": "the engine died", "type": "InternalServerError", "code": 500}}\n\n'
                    yield "data: [DONE]\n\n"
                    return
                yield self.event({"content": reply[at : at + self.behaviour.chunk]})
                await asyncio.sleep(self.behaviour.pause_s)
            if self.behaviour.no_end:
                return
            limit = heard.body.get("max_completion_tokens") or heard.body.get("max_tokens")
            yield self.event({}, "length" if limit and len(reply) >= 4 * limit else "stop")
            yield "data: [DONE]\n\n"
        finally:
            self.num_streaming -= 1

    def event(self, delta: dict[str, str], ended: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": ended}
        body = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": self.behaviour.model, "choices": [choice]}
        return f"data: {json.dumps(body)}\n\n"

    def last(self) -> Heard:
        return self.heard[-1]


@contextmanager
def running(**behaviour: Any) -> Iterator[ProtocolServer]:
    """Run a server in a thread of this process, on a free port of this machine."""
    one = ProtocolServer(Behaviour(**behaviour))
    listener = socket.create_server(("127.0.0.1", 0))
    one.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    server = uvicorn.Server(uvicorn.Config(one.app(), log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield one
    finally:
        server.should_exit = server.force_exit = True  # clients keep their connections open
        thread.join(10)
        listener.close()


def main() -> None:
    """Run a server in a process of its own, to be killed: it prints its address and answers slowly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answer", default="one two three four five six seven eight nine ten")
    parser.add_argument("--pause", type=float, default=0.2)
    options = parser.parse_args()
    one = ProtocolServer(Behaviour(brain=answers(options.answer), pause_s=options.pause))
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)  # noqa: T201
    uvicorn.Server(uvicorn.Config(one.app(), log_level="critical")).run(sockets=[listener])


if __name__ == "__main__":
    main()
