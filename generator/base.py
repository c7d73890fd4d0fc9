"""What a generator must do."""

from collections.abc import Sequence
from typing import Protocol

from generator.domain import Answer, Evidence
from retriever.domain import Question


class Generator(Protocol):
    """Answers a question from evidence, and from nothing else."""

    def answer(self, question: Question, evidence: Sequence[Evidence]) -> Answer:
        """Return an answer whose citations are all among the evidence.

        Args:
            question: spoken, typed or both; `question.wording` holds the words.
            evidence: best first; none gives an answer that is not supported.
        """
        ...
