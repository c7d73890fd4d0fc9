"""The nouns of answering: evidence, citations, answers."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from retriever.domain import Audio, Hit, Segment, Span, Word, join_words


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """A segment that was found, with its words and its sound.

    Attributes:
        words: what was heard in the segment.
        before, after: what was heard in the neighbouring segments of the same lecture; an answer may reach across a cut.
        load_audio: cuts the segment's sound, exactly what a model hears and the user replays. Read on demand: a text reader needs none.
            Raises ClipUnavailable.
    """

    hit: Hit
    lecture_title: str
    words: tuple[Word, ...]
    before: tuple[Word, ...]
    after: tuple[Word, ...]
    load_audio: Callable[[], Audio]

    @property
    def segment(self) -> Segment:
        """The segment found."""
        return self.hit.segment

    @property
    def text(self) -> str:
        """The words as a line."""
        return join_words(self.words)


@dataclass(frozen=True, slots=True)
class Citation:
    """A moment of a lecture that an answer rests on.

    Attributes:
        segment: always one of the evidence given.
        span: the moment, in samples from the lecture's beginning; it may reach a little past the segment's edge.
        text: the words heard there.
    """

    segment: Segment
    span: Span
    text: str


class AnswerStatus(StrEnum):
    """How far an answer has come."""

    STREAMING = "streaming"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the lectures say to a question, or that they do not say it.

    Attributes:
        text: the answer's words, while streaming those that came so far; when not supported, a sentence that says so; when failed, what
            went wrong and the way out.
        citations: the moments it rests on, best first; empty when not supported.
        supported: False when the lectures do not hold an answer.
        confidence: calibrated probability in [0, 1] that the evidence holds the answer; always the embedded generator's, also of what a
            model server answered, whose own certainty nobody has calibrated.
        nearest: when not supported, the moments that came nearest, offered as such.
        model: names what answered.
        settings: its configuration as one line of JSON.
        note: what else a reader has to know, in sentences: that another generator had to step in and why, or what was not sent; else empty.
    """

    text: str
    citations: tuple[Citation, ...]
    supported: bool
    confidence: float
    model: str
    settings: str
    nearest: tuple[Citation, ...] = ()
    status: AnswerStatus = AnswerStatus.COMPLETE
    note: str = ""
