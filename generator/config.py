"""Configuration records of answering; the type of a record chooses the implementation."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


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


GeneratorConfig: TypeAlias = Extractive
