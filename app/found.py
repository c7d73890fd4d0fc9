"""What searching and asking bring."""

from dataclasses import dataclass

from generator.domain import Answer, Evidence
from retriever.domain import Hit, Question


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search brought: the question with what was heard of it, hits with their evidence in the same order, and times."""

    question: Question
    hits: tuple[Hit, ...]
    evidence: tuple[Evidence, ...]
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What was found, and the answer."""

    found: Found
    answer: Answer

    @property
    def question(self) -> Question:
        """The question with what was heard of it."""
        return self.found.question
