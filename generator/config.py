"""Configuration records of answering; the type of a record chooses the implementation."""

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Reader:
    """Answer with exactly the words that a trained reader marks in the evidence, and play them; no generation, no server.

    Attributes:
        max_citations: moments cited at most: the answer itself, the stretch it stands in, then others.
        max_answer_s: length of a cited moment at most.
    """

    kind: Literal["reader"] = "reader"
    max_citations: int = 3
    max_answer_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Extractive:
    """Point at the words of the evidence that answer the question; no generation, no server.

    Attributes:
        max_citations: moments cited at most.
        max_answer_s: length of a cited moment at most.
    """

    kind: Literal["extractive"] = "extractive"
    max_citations: int = 3
    max_answer_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Served:
    """Send the question's sound (or words) and the sound of the moments found to a speech LLM behind vLLM's OpenAI protocol.

    Attributes:
        base_url: of the server, up to and with `/v1`.
        model: as the server names it; empty takes the one it serves.
        family: of `generator/families.py`; empty tells it from the model's name.
        api_key_env: the environment variable that holds the key; the key itself is never kept.
        timeout_s: for the whole answer; a server that does not even accept the connection is given up earlier.
        temperature: 0 always takes the likeliest word.
        max_tokens: of the answer at most.
        max_clips: moments sent at most; more than a few make answers worse (docs/served.md).
        max_citations: moments cited at most.
    """

    kind: Literal["served"] = "served"
    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    family: str = ""
    api_key_env: str = "ASKALOUD_LLM_KEY"
    timeout_s: float = 60.0
    temperature: float = 0.0
    max_tokens: int = 256
    max_clips: int = 5
    max_citations: int = 3

    def __post_init__(self) -> None:
        _check_served(self)


@dataclass(frozen=True, slots=True)
class ServedText:
    """Send the question's words and the words heard in the moments found to a text LLM: the cascade, as a control for `Served`.

    Attributes:
        structured: hold the answer to a JSON schema; switch it off for a server that cannot.

    The others are those of `Served`.
    """

    kind: Literal["served-text"] = "served-text"
    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    api_key_env: str = "ASKALOUD_LLM_KEY"
    timeout_s: float = 60.0
    temperature: float = 0.0
    max_tokens: int = 256
    max_clips: int = 5
    max_citations: int = 3
    structured: bool = True

    def __post_init__(self) -> None:
        _check_served(self)


def _check_served(record: Served | ServedText) -> None:
    """Refuse numbers with which nothing could be asked. Raises ValueError, which settings turn into a sentence."""
    for name in ("max_tokens", "max_clips", "max_citations"):
        if getattr(record, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(record, name)}")
    if not 0 < record.timeout_s < math.inf:
        raise ValueError(f"timeout_s must be more than 0 seconds, got {record.timeout_s}")
    if not 0 <= record.temperature <= 2:
        raise ValueError(f"temperature lies between 0 and 2, got {record.temperature}")


GeneratorConfig: TypeAlias = Reader | Extractive | Served | ServedText

EMBEDDED: Final = Reader()
"""What answers unless something else is set, gives served answers their confidence, and stands in for a server that fails."""
