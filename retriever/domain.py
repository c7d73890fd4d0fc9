"""The nouns of retrieval: sound, lectures, segments, words, questions, hits.

Frozen records that import neither torch nor SQLAlchemy. Time is counted in integer samples at 16 kHz; seconds are a view.

Shapes: N samples of a sound, D dimensions of a vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, TypeAlias
from uuid import UUID, uuid4

import numpy as np
import numpy.typing as npt

from retriever.errors import InvalidAudio, InvalidQuestion, InvalidSegment

SAMPLE_RATE_HZ: Final = 16_000
MAX_SEGMENT_SAMPLES: Final = 30 * SAMPLE_RATE_HZ  # speech LLMs cut longer clips without saying so

MAX_QUESTION_S: Final = 60.0

Samples: TypeAlias = npt.NDArray[np.float32]  # (N,) in [-1, 1]
Vector: TypeAlias = npt.NDArray[np.float32]  # (D,) of length 1


def to_seconds(num_samples: int) -> float:
    """Return the duration in seconds of a number of samples at 16 kHz."""
    return num_samples / SAMPLE_RATE_HZ


def to_samples(seconds: float) -> int:
    """Return the nearest number of samples at 16 kHz of a duration in seconds."""
    return round(seconds * SAMPLE_RATE_HZ)


def clock(seconds: float) -> str:
    """Return a position or a length as mm:ss, or h:mm:ss from an hour on; seconds are rounded down, what is negative is 00:00."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A mono sound at 16 kHz that fits in memory: a clip or a spoken question, never a whole lecture.

    Attributes:
        samples: float32 of shape (N,), finite, in [-1, 1].

    Raises:
        InvalidAudio: the array has another shape, type or range.
    """

    samples: Samples

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise InvalidAudio(f"audio must be float32 of shape (N,), got {self.samples.dtype} of shape {self.samples.shape}")
        peak = float(np.abs(self.samples).max(initial=0.0))
        if not peak <= 1.0:  # also catches NaN
            raise InvalidAudio(f"audio must be finite and in [-1, 1], its peak is {peak}")

    @property
    def num_samples(self) -> int:
        """N, the length in samples."""
        return len(self.samples)

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return to_seconds(self.num_samples)


@dataclass(frozen=True, slots=True)
class Lecture:
    """A recording that its owner can ask.

    The same file added twice by one owner is one lecture; the sound itself is stored once for all owners.

    Attributes:
        content_hash: SHA-256 of the original bytes, in hexadecimal.
        num_samples: length at 16 kHz; 0 until the sound has been decoded.
    """

    id: UUID
    owner_id: UUID
    content_hash: str
    title: str
    language: str = "en"
    num_samples: int = 0

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return to_seconds(self.num_samples)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open stretch of samples.

    Raises:
        InvalidSegment: unless 0 <= start < end.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise InvalidSegment(f"a span needs 0 <= start < end, got {self.start} to {self.end}")

    @property
    def num_samples(self) -> int:
        """The length in samples."""
        return self.end - self.start

    @property
    def start_s(self) -> float:
        """The start in seconds."""
        return to_seconds(self.start)

    @property
    def end_s(self) -> float:
        """The end in seconds."""
        return to_seconds(self.end)


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A piece of a lecture, at most 30 s; the unit of retrieval. Sorts by lecture, then time.

    Attributes:
        start, end: half-open, in samples from the lecture's beginning.
        run_id: the segmentation run that cut it; a lecture may be cut anew with other settings.

    Raises:
        InvalidSegment: unless 0 <= start < end and it lasts at most 30 s.
    """

    lecture_id: UUID
    start: int
    end: int
    run_id: UUID

    def __post_init__(self) -> None:
        if self.span.num_samples > MAX_SEGMENT_SAMPLES:
            raise InvalidSegment(f"a segment lasts at most 30 s, got {to_seconds(self.end - self.start):.2f} s; cut it at a pause")

    @property
    def span(self) -> Span:
        """Where it lies in its lecture."""
        return Span(self.start, self.end)

    @property
    def id(self) -> int:
        """A number below 2**63 that depends only on the run and the span: the same cut made again has the same number."""
        name = self.run_id.bytes + self.start.to_bytes(8, "big") + self.end.to_bytes(8, "big")
        return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was heard: half-open span in samples from the lecture's beginning, confidence in [0, 1]."""

    text: str
    start: int
    end: int
    confidence: float = 1.0


def join_words(words: Sequence[Word]) -> str:
    """Return the words as one line of text."""
    return " ".join(word.text for word in words)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentAudio:
    """A segment with its sound, as the worker hands it to a retriever."""

    segment: Segment
    audio: Audio


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedSegment:
    """A segment made searchable by one model.

    Attributes:
        vector: (D,) of length 1.
        words: what was heard, in order of time.
        fingerprint: names the model that made both; vectors of different fingerprints are never compared.
    """

    segment: Segment
    vector: Vector
    words: tuple[Word, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A question, spoken or typed or both.

    Attributes:
        text: what was typed, or the user's correction of what was heard; wins over `heard`.
        heard: what the retriever understood of `audio`.
        scope: the lectures to look in; None means all of the owner's.
        corrects: the question whose wording this one mends; the sound is kept.

    Raises:
        InvalidQuestion: neither sound nor text is given.
    """

    audio: Audio | None = None
    text: str | None = None
    heard: str | None = None
    scope: frozenset[UUID] | None = None
    language: str = "en"
    corrects: UUID | None = None
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        if self.audio is None and not (self.text and self.text.strip()):
            raise InvalidQuestion("a question needs words or sound: type it, or record it with the microphone")

    @property
    def wording(self) -> str:
        """The words to search with: typed, else heard, else empty."""
        return self.text or self.heard or ""


@dataclass(frozen=True, slots=True, eq=False)
class EncodedQuestion:
    """A question as the index searches it.

    Attributes:
        vector: (D,) of length 1.
        wording: the words for the lexical side; empty if nothing was understood.
        heard: what was heard of a spoken question, else None.
    """

    vector: Vector
    wording: str
    heard: str | None


@dataclass(frozen=True, slots=True)
class HitFeatures:
    """Raw evidence for one hit; decisions use these, never the score.

    Attributes:
        cosine: of question and segment vectors, in [-1, 1].
        lexical: the BM25 score, unscaled.
        coverage: the share, by rarity, of the question's content words that the segment has, in [0, 1].
        margin: the cosine less that of the median segment searched.
    """

    cosine: float
    lexical: float
    coverage: float
    margin: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A segment found. The score ranks within one search only."""

    segment: Segment
    score: float
    features: HitFeatures
