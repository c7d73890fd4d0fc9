"""The client of a model server that speaks OpenAI's protocol, by LangChain; turns all that may go wrong into errors with a way out.

The only module, beside the adapters, that imports LangChain; it does so on first use, for the embedded generator needs none of it.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from generator.errors import ClientMissing, ModelUnknown, RequestRefused, ServedError, ServerBrokeOff, ServerFailed, ServerLost, ServerSlow
from generator.prompt import Message
from generator.refusals import MAX_TOLD, Refusal, in_connecting, innermost_reason, refusal, told_by, was_reset

if TYPE_CHECKING:
    import openai
    from langchain_core.messages import AIMessageChunk
    from langchain_openai import ChatOpenAI

MAX_CONNECT_S: Final = 5.0  # a server that is there accepts at once, however busy it is
_NOT_THE_PROTOCOL: Final = (ValueError, LookupError, TypeError, AttributeError)  # what the client runs into when it reads something else
NO_KEY: Final = "none"  # the client insists on a key; a server without one ignores it


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer as it streams in.

    Attributes:
        text: what came.
        ended: why the model stopped, in the last piece: "stop", or "length" where the limit of tokens cut it off; else empty.
    """

    text: str
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """How the answer is to be made.

    Attributes:
        temperature: 0 always takes the likeliest token.
        max_tokens: of the answer.
        extra: further fields of the request's body, among them the form of the answer.
    """

    temperature: float
    max_tokens: int
    extra: Mapping[str, object] = field(default_factory=dict)


class ModelServer:
    """A server at an address. May be shared by threads; the connection is kept open between questions."""

    def __init__(self, base_url: str, api_key_env: str, timeout_s: float) -> None:
        """Note where it is, without a look.

        Args:
            base_url: up to and with `/v1`.
            api_key_env: the environment variable that holds the key; read on first use.
            timeout_s: for a whole answer.
        """
        self.base_url = base_url.rstrip("/")
        self._api_key_env = api_key_env
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._only_model: str | None = None

    def model_name(self, wanted: str) -> str:
        """Return the model to ask for: the one that is wanted, else the one that the server serves.

        Raises:
            ServedError: the server cannot say, or serves several.
        """
        if wanted:
            return wanted
        with self._lock:
            if self._only_model is None:
                self._only_model = self._choose(self.models())
            return self._only_model

    def models(self) -> tuple[str, ...]:
        """Return the names of the models that the server serves. Raises ServedError."""
        client = self._client.root_client
        try:
            return tuple(str(model.id) for model in self._retried(client.models.list).data)
        except self._errors as error:
            raise self._translated(error, "") from error
        except _NOT_THE_PROTOCOL as error:
            raise RequestRefused(self._foreign(error)) from error

    def stream(self, model: str, messages: Sequence[Message], wish: Wish) -> Iterator[Piece]:
        """Yield the answer as it comes.

        A connection that the server had closed behind our back (it does so after an error of its own) is made anew once.

        Raises:
            ServedError: one of its kinds; `ServerBrokeOff` if something had come already.
        """
        _ = self._client  # says so if the packages are missing
        from langsmith import tracing_context  # noqa: PLC0415

        deadline = time.monotonic() + self._timeout_s
        came = ended = ""
        try:
            with tracing_context(enabled=False):  # nothing leaves this machine but to the server, whatever the environment says
                chunks = self._retried(lambda: _begun(self._chunks(model, messages, wish)))
            with closing(chunks):
                for piece in map(_piece, chunks):
                    came, ended = came + piece.text, piece.ended or ended
                    if time.monotonic() > deadline:
                        raise ServerSlow(self._slow())
                    yield piece
        except self._errors as error:
            raise self._in_stream(self._translated(error, model), came) from error
        except _NOT_THE_PROTOCOL as error:
            raise ServerBrokeOff(self._foreign(error)) from error
        if not ended:
            raise ServerBrokeOff(f"{self.base_url} ended the connection in the middle of its answer: look at the server, then ask again")

    def _in_stream(self, error: ServedError, came: str) -> ServedError:
        """Return the error as it is to be told of a stream of which so much had come."""
        if isinstance(error, ModelUnknown):
            self._only_model = None  # it may serve another since
        if came and isinstance(error, ServerLost | ServerFailed):
            return ServerBrokeOff(f"{error}; it stopped in the middle of its answer")
        return error

    def _chunks(self, model: str, messages: Sequence[Message], wish: Wish) -> "Iterator[AIMessageChunk]":
        return self._client.stream(
            list(messages), model=model, temperature=wish.temperature, max_tokens=wish.max_tokens, extra_body=dict(wish.extra)
        )

    def _retried(self, call: Any) -> Any:
        """Call; once more if the connection broke before anything came, for an idle one may have been closed by the server."""
        try:
            return call()
        except self._openai.APIConnectionError as error:
            if isinstance(error, self._openai.APITimeoutError) or not was_reset(error):
                raise
            return call()

    @cached_property
    def _openai(self) -> Any:  # a module
        try:
            import openai  # noqa: PLC0415
        except ImportError as error:
            raise ClientMissing(_HOW_TO_INSTALL) from error
        return openai

    @property
    def _errors(self) -> "tuple[type[openai.OpenAIError], ...]":
        return (self._openai.OpenAIError,)

    @cached_property
    def _client(self) -> "ChatOpenAI":
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ServerLost(f"the generator's base_url {self.base_url!r} is no address: it looks like http://127.0.0.1:8000/v1")
        try:
            from langchain_openai import ChatOpenAI  # noqa: PLC0415
        except ImportError as error:
            raise ClientMissing(_HOW_TO_INSTALL) from error
        import httpx2  # noqa: PLC0415  the client's own HTTP library

        return ChatOpenAI(
            base_url=self.base_url,
            api_key=os.environ.get(self._api_key_env) or NO_KEY,  # type: ignore[arg-type]  # pydantic makes a secret of it
            model="unset",
            max_retries=0,  # what may be tried again is decided here
            timeout=httpx2.Timeout(self._timeout_s, connect=min(MAX_CONNECT_S, self._timeout_s)),
            use_responses_api=False,
            stream_usage=False,
        )

    def _choose(self, names: tuple[str, ...]) -> str:
        if len(names) != 1:
            raise ModelUnknown(
                f"{self.base_url} serves {', '.join(map(repr, names)) or 'no model'}: set the generator's `model` to the one to ask"
            )
        return names[0]

    def _translated(self, error: Exception, model: str) -> ServedError:
        """Return what the client's error means, with its way out."""
        openai = self._openai
        if isinstance(error, openai.APITimeoutError):
            return ServerSlow(self._slow()) if not in_connecting(error) else ServerLost(self._lost("does not accept a connection"))
        if isinstance(error, openai.APIConnectionError):
            return ServerLost(self._lost(innermost_reason(error)))
        if isinstance(error, openai.APIStatusError):
            return self._refused(error.status_code, error, model)
        if isinstance(error, openai.APIError):  # an error in the midst of a stream, as one of its events
            code = str(getattr(error, "code", None) or "")
            return self._refused(int(code) if code.isdecimal() else 500, error, model)
        return RequestRefused(
            f"the client refuses to ask {self.base_url} ({type(error).__name__}: {error}): check the generator's settings"
        )

    def _refused(self, status: int, error: Exception, model: str) -> ServedError:
        return refusal(Refusal(self.base_url, status, told_by(error), model, self._api_key_env))

    def _lost(self, reason: str) -> str:
        return f"the model server {self.base_url} cannot be reached ({reason}): start it, or mend the generator's `base_url`"

    def _foreign(self, error: Exception) -> str:
        reason = f"{type(error).__name__}: {error}"[:MAX_TOLD]
        return f"what {self.base_url} sends is not OpenAI's protocol ({reason}): check the generator's `base_url`"

    def _slow(self) -> str:
        return (
            f"{self.base_url} gave no whole answer in {self._timeout_s:g} s: ask again, raise the generator's `timeout_s`, or send "
            "fewer clips (`max_clips`)"
        )


_HOW_TO_INSTALL: Final = (
    "the packages that talk to a model server are not installed: install askaloud with the extra `llm` (pip install 'askaloud[llm]')"
)


def _piece(chunk: "AIMessageChunk") -> Piece:
    text = chunk.content if isinstance(chunk.content, str) else ""
    return Piece(text, str(chunk.response_metadata.get("finish_reason") or ""))


def _begun(chunks: "Iterator[AIMessageChunk]") -> "Iterator[AIMessageChunk]":
    """Wait for the first chunk, so that what fails before it can be tried again; return them all."""
    first = next(chunks, None)

    def all_of_them() -> "Iterator[AIMessageChunk]":
        if first is not None:
            yield first
            yield from chunks

    return all_of_them()
