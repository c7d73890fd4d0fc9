"""Stands in for a generator that could not answer, and says so: nobody goes without an answer because a server is away."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from generator.base import Generator, StreamingGenerator
from generator.domain import Answer, Evidence
from generator.errors import GeneratorError, ServedError
from retriever.domain import Question

MAX_QUOTED = 300  # characters of an answer that broke off that the note repeats


class WithFallback:
    """Asks one generator, and where that fails another, whose answer then carries a note that tells why."""

    def __init__(self, first: StreamingGenerator, second: Generator, second_name: str) -> None:
        """Put both together.

        Args:
            first: asked first; any of its errors makes the second answer.
            second: needs no server.
            second_name: as the note calls it.
        """
        self._first = first
        self._second = second
        self._second_name = second_name

    def answer(self, question: Question, evidence: Sequence[Evidence]) -> Answer:
        """Return the first generator's answer, or the second's with a note. Raises GeneratorError if both fail."""
        *_, last = self.stream(question, evidence)
        return last

    def stream(self, question: Question, evidence: Sequence[Evidence]) -> Iterator[Answer]:
        """Yield the first generator's answer as it comes; if it fails at any point, last the second's with a note.

        Raises:
            GeneratorError: the second failed too.
        """
        try:
            yield from self._first.stream(question, evidence)
        except GeneratorError as error:
            yield self.stand_in(question, evidence, error)

    def stand_in(self, question: Question, evidence: Sequence[Evidence], error: GeneratorError) -> Answer:
        """Return the second generator's answer with a note that tells of the error and of what had come before it."""
        answer = self._second.answer(question, evidence)
        told = [f"Answered by the {self._second_name} instead of the model server: {str(error).rstrip('.')}."]
        partial = error.partial if isinstance(error, ServedError) else ""
        if partial:
            quoted = partial if len(partial) <= MAX_QUOTED else f"{partial[:MAX_QUOTED]}…"
            told.append(f"Until it broke off, the model had said: “{quoted}”")
        return replace(answer, note=" ".join([*told, answer.note]).strip())
