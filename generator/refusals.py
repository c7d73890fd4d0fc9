"""What a model server's refusals and broken connections mean, with the way out of each. Pure functions."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from generator.errors import (
    ClipRefused,
    KeyRefused,
    ModelUnknown,
    PromptTooLong,
    RequestRefused,
    ServedError,
    ServerFailed,
    ServerOverloaded,
)

MAX_TOLD: Final = 300  # characters of a server's own words that are shown

_TOO_LONG: Final = re.compile(
    r"context length|maximum (?:model|context)|too many tokens|prompt is too long|longer than the maximum|context window", re.IGNORECASE
)
_SOUND: Final = re.compile(r"audio|multi-?modal|sound|base64|\bmm_", re.IGNORECASE)
_BROKEN: Final = frozenset(("ReadError", "WriteError", "RemoteProtocolError", "ConnectionResetError", "BrokenPipeError"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of a server that is none.

    Attributes:
        status: of HTTP.
        told: the server's own words; empty if it had none.
        model: that was asked for; empty if none was.
        key_env: the environment variable that holds the key.
    """

    base_url: str
    status: int
    told: str
    model: str
    key_env: str

    def __str__(self) -> str:
        """Return the beginning of a sentence."""
        return f"{self.base_url} answered {self.status}" + (f" (“{self.told}”)" if self.told else "")


def refusal(said: Refusal) -> ServedError:
    """Return the error that says what a refusal means and what to do."""
    if said.status in (429, 503):
        return ServerOverloaded(f"{said}: it has too much to do; ask again in a moment")
    if said.status >= 500:
        return ServerFailed(f"{said}: it failed; ask again, and look at the server's log if it goes on")
    if said.status in (401, 403):
        return KeyRefused(f"{said}: it does not accept the key; put the right one into the environment variable {said.key_env}")
    if said.status == 404:
        return ModelUnknown(
            f"{said}: it serves no model {said.model!r}; set the generator's `model` to one that it serves, or leave it empty, and see "
            "that `base_url` ends in /v1"
        )
    return _bad_request(said)


def _bad_request(said: Refusal) -> ServedError:
    if _TOO_LONG.search(said.told):
        return PromptTooLong(
            f"{said}: question and clips are more than it takes; lower the generator's `max_clips`, or start the server with a greater "
            "--max-model-len"
        )
    if _SOUND.search(said.told):
        return ClipRefused(
            f"{said}: it cannot use the sound; check that the generator's `family` is that of the model, and how many sounds the server "
            "takes (--limit-mm-per-prompt)"
        )
    return RequestRefused(f"{said}: it refuses the request; check the generator's settings against the server's")


def told_by(error: Any) -> str:
    """Return a server's own words on one line, from whichever shape of body it chose.

    Args:
        error: of the client, with a `body` as it was decoded: OpenAI's error object, something else, or nothing.
    """
    body: Any = getattr(error, "body", None)
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, Mapping) else inner
    text = " ".join(str(body or getattr(error, "message", "") or error).split())
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}…"


def was_reset(error: BaseException) -> bool:
    """Say whether a connection that was there broke, rather than that none could be made."""
    return bool({type(cause).__name__ for cause in _causes(error)} & _BROKEN)


def in_connecting(error: BaseException) -> bool:
    """Say whether the time ran out before the server accepted the connection."""
    return any(type(cause).__name__ == "ConnectTimeout" for cause in _causes(error))


def innermost_reason(error: BaseException) -> str:
    """Return the innermost reason that says something."""
    said = [str(cause).strip() for cause in _causes(error)]
    return next((one for one in reversed(said) if one), type(error).__name__)[:MAX_TOLD]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
