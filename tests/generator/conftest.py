"""Evidence made by hand, with the shipped calibration and, where it is there, the shipped text encoder."""

from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID, uuid5

import numpy as np
import pytest

from generator.domain import Evidence
from retriever.domain import Audio, Hit, HitFeatures, Segment, Word, to_samples

MakeWords: TypeAlias = Callable[..., tuple[Word, ...]]
MakeEvidence: TypeAlias = Callable[..., Evidence]

LECTURE_ID = UUID("6d1f3f0c-0000-4000-8000-000000000001")


def speak(text: str, start_s: float = 0.0, word_s: float = 0.3, pause_s: float = 0.5) -> tuple[Word, ...]:
    """Return words one after the other; a full stop is a pause."""
    words, at = [], to_samples(start_s)
    for token in text.split():
        end = at + to_samples(word_s)
        words.append(Word(token.strip(".,").lower(), at, end))
        at = end + (to_samples(pause_s) if token.endswith(".") else 0)
    return tuple(words)


def bring(
    words: tuple[Word, ...],
    before: tuple[Word, ...] = (),
    after: tuple[Word, ...] = (),
    features: HitFeatures | None = None,
    lecture_id: UUID = LECTURE_ID,
) -> Evidence:
    """Return evidence around words; the segment ends where its words end."""
    segment = Segment(lecture_id, words[0].start, words[-1].end, uuid5(lecture_id, "run"))
    features = features or HitFeatures(cosine=0.6, lexical=12.0, coverage=0.8, margin=0.4)
    silence = np.zeros(segment.span.num_samples, dtype=np.float32)
    return Evidence(Hit(segment, 1.0, features), "Made by hand", words, before, after, lambda: Audio(silence))


@pytest.fixture
def make_words() -> MakeWords:
    return speak


@pytest.fixture
def make_evidence() -> MakeEvidence:
    return bring


@pytest.fixture(scope="session")
def make_evidence_of() -> Callable[[tuple[Word, ...], int, int], Evidence]:
    """Return words `first` to `last` as a segment, the rest as its neighbours."""
    return lambda words, first, last: bring(words[first:last], words[:first], words[last:])
