"""What a generator must do."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class StreamingGenerator(Generator, Protocol):
    """A generator whose answer comes word by word."""

    def stream(self, question: Question, evidence: Sequence[Evidence]) -> Iterator[Answer]:
        """Yield the answer as it grows, each whole so far (`AnswerStatus.STREAMING`), and last the finished one, which `answer` returns.

        Closing the iterator ends the work. The last answer may differ from those before: a model that breaks off is stood in for.
        """
        ...
