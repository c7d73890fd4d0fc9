"""What an implementation of each part of retrieval must do.

A newcomer writes one class, adds its configuration record to the union in `config.py` and a `case` in `build.py`; the contract tests in
`tests/contracts/` then hold it to the laws that all obey.
"""

from collections.abc import Generator, Iterable, Iterator
from typing import Protocol

from retriever.domain import EmbeddedSegment, EncodedQuestion, Question, Samples, SegmentAudio, Span


class Segmenter(Protocol):
    """Cuts a stream of sound into spans of speech."""

    @property
    def settings(self) -> str:
        """The configuration as one line of JSON; the library keeps it with each segmentation run."""
        ...

    def spans(self, blocks: Iterable[Samples]) -> Iterator[Span]:
        """Yield spans in order of time, none overlapping, each at most 30 s.

        Args:
            blocks: float32 arrays of any length that together are the sound, at 16 kHz. Read once, as spans are asked for.

        Sound without speech yields nothing. Memory does not grow with the length of the sound.
        """
        ...


class Retriever(Protocol):
    """Turns segments and questions into what the index compares."""

    @property
    def fingerprint(self) -> str:
        """Names the model and everything that shapes its vectors and words; changes when any weight does."""
        ...

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        ...

    @property
    def language(self) -> str:
        """The language that is understood, as ISO 639-1."""
        ...

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with its vector and words, in the order given.

        Lazy: reads only a bounded number of segments ahead of what was yielded; closing the generator stops the work.

        Raises:
            RecognitionFailed: the recognising processes died.
        """
        ...

    def encode(self, question: Question) -> EncodedQuestion:
        """Return the question's vector and wording; typed words win over sound, and what was heard before is not recognised again.

        Raises:
            InvalidQuestion: the sound lasts longer than a question may.
            RecognitionFailed: the recognising process died.
        """
        ...

    def close(self) -> None:
        """End worker processes; the retriever may be used again afterwards."""
        ...
