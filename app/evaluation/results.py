"""What an evaluation found, as records that become JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.evaluation.listening import Cost
from app.evaluation.transcripts import WordErrors
from retriever.metrics import (
    Interval,
    bootstrap_interval,
    context_ranks,
    matched_context_ranks,
    matched_question_ranks,
    mean_reciprocal_rank,
    question_ranks,
    recall_at_k,
)

Ranks = Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Recall:
    """Shares of questions (or of contexts) whose right counterpart is among the first k."""

    r1: float
    r5: float
    r10: float
    mrr: float


@dataclass(frozen=True, slots=True)
class SideResult:
    """One side of the search.

    Attributes:
        context, question: question to context and context to question, each counted once.
        matched_context, matched_question: as published, N by N: counterparts of equal contexts count as wrong.
        r1: of `context`, with an interval over contexts drawn anew.
        ranks: of `context`, by question.
    """

    context: Recall
    question: Recall
    matched_context: Recall
    matched_question: Recall
    r1: Interval
    ranks: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class FormResult:
    """Questions in one form, typed or spoken.

    Attributes:
        errors: of the questions as heard; None for typed ones, where it is not known what was said, or where no word was heard in any.
        encode_p50_s: median time until a question was encoded.
        search_p50_s, search_p95_s: of the search alone.
    """

    sides: dict[str, SideResult]
    errors: WordErrors | None
    encode_p50_s: float
    search_p50_s: float
    search_p95_s: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What it took to make the contexts searchable.

    Attributes:
        audio_s: of all contexts.
        total: measured over all.
        text_encoder: its share, measured on some segments and multiplied.
        recogniser: the rest.
        realtime_factor: wall seconds for each second of sound.
    """

    audio_s: float
    total: Cost
    text_encoder: Cost
    recogniser: Cost
    realtime_factor: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A system under one condition.

    Attributes:
        num_without_segments: contexts in which nobody was heard to speak; they are never found.
        errors: of the contexts as heard; None for a system that reads, and for one that hears no words.
        speed: None for a system that reads instead of listening.
        forms: by name, typed and spoken.
    """

    system: str
    segmentation: str
    noise: str
    fingerprint: str
    num_segments: int
    num_without_segments: int
    errors: WordErrors | None
    speed: Speed | None
    forms: dict[str, FormResult]


@dataclass(frozen=True, slots=True)
class Difference:
    """R@1 of one side of a system less that of another system or another of its own sides, on the same questions.

    Attributes:
        interval: contexts drawn anew.
    """

    system: str
    side: str
    other: str
    other_side: str
    segmentation: str
    noise: str
    form: str
    interval: Interval


def side_result(scores: npt.NDArray[np.float32], right: npt.NDArray[np.int64]) -> SideResult:
    """Return all that is said of one side.

    Args:
        scores: (Q, C).
        right: (Q,) the context that answers each question.
    """
    ranks = tuple(context_ranks(scores, right))
    return SideResult(
        context=_recall(ranks),
        question=_recall(question_ranks(scores, right)),
        matched_context=_recall(matched_context_ranks(scores, right)),
        matched_question=_recall(matched_question_ranks(scores, right)),
        r1=bootstrap_interval(_firsts(ranks), groups=right.tolist()),
        ranks=ranks,
    )


def difference(left: Ranks, right: Ranks, groups: Sequence[object]) -> Interval:
    """Return by how much more often the left ranks are first than the right ones, question by question."""
    pairs = zip(_firsts(left), _firsts(right), strict=True)
    return bootstrap_interval([one - other for one, other in pairs], groups)


def _firsts(ranks: Ranks) -> list[float]:
    return [float(rank == 1) for rank in ranks]


def _recall(ranks: Ranks) -> Recall:
    return Recall(recall_at_k(ranks, 1), recall_at_k(ranks, 5), recall_at_k(ranks, 10), mean_reciprocal_rank(ranks))
