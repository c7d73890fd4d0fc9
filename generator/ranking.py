"""Scores the spans of evidence against a question: meaning by text vectors, words by rarity.

All spans go through the text encoder in one call. B spans, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from generator.calibration import SPAN_FEATURES, ReaderSpanFeatures, ReaderSupportFeatures, SpanFeatures, SupportFeatures
from generator.domain import Evidence
from generator.spans import CandidateSpan, candidate_spans
from generator.wording import Rarity, asks_for_number, content_words, holds_number, normal_words

MAX_SPANS: Final = 32  # encoded for one question; 200 choose no better (weights/MODEL_CARD.md)


class Encoder(Protocol):
    """Turns texts into vectors of length 1."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return an array of shape (B, D)."""
        ...


Features = TypeVar("Features", SpanFeatures, ReaderSpanFeatures)


@dataclass(frozen=True, slots=True, eq=False)
class RankedSpan(Generic[Features]):
    """A span with its features; the score is the weighted sum of the features."""

    place: CandidateSpan
    features: Features
    score: float


class Ranker(Protocol[Features]):
    """Finds the spans of evidence that may answer a question."""

    def rank(self, wording: str, evidence: Sequence[Evidence], max_answer_s: float) -> list[RankedSpan[Features]]:
        """Return spans, best first, none that lasts longer than `max_answer_s`; the same input gives the same spans."""
        ...

    def support(
        self, wording: str, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[Features]]
    ) -> SupportFeatures | ReaderSupportFeatures:
        """Return what the decision rests on whether the best span answers; at least one span is given."""
        ...


class SpanRanker:
    """Ranks the stretches between pauses by meaning and by shared words.

    Args:
        encoder: of questions and spans.
        rarity: how rare words are in general.
        weights: of the span features, in the order of `SPAN_FEATURES`.
    """

    def __init__(self, encoder: Encoder, rarity: Rarity, weights: Sequence[float]) -> None:
        self._encoder = encoder
        self.rarity = rarity
        self._weights = tuple(weights)

    def rank(self, wording: str, evidence: Sequence[Evidence], max_answer_s: float) -> list[RankedSpan[SpanFeatures]]:
        """Return the spans of all evidence, best first; ties go to the better hit, then to the earlier span."""
        spans = self._preselect(wording, candidate_spans(evidence, max_answer_s))
        if not spans:
            return []
        vectors = self._encoder.encode([wording, *(span.text for span in spans)])  # (1 + B, D)
        cosines = vectors[1:] @ vectors[0]  # (B,)
        ranked = [self._score(wording, evidence, span, float(cosine)) for span, cosine in zip(spans, cosines, strict=True)]
        return sorted(ranked, key=lambda span: (-span.score, span.place.rank, span.place.first, span.place.last))

    def _preselect(self, wording: str, spans: Sequence[CandidateSpan]) -> list[CandidateSpan]:
        """Keep the `MAX_SPANS` that share most with the question, in their order."""
        if len(spans) <= MAX_SPANS:
            return list(spans)
        asked = content_words(wording)
        shared = [self.rarity.coverage(asked, normal_words(span.text)) for span in spans]
        best = sorted(range(len(spans)), key=lambda index: (-shared[index], spans[index].rank, index))
        return [spans[index] for index in sorted(best[:MAX_SPANS])]

    def _score(self, wording: str, evidence: Sequence[Evidence], span: CandidateSpan, cosine: float) -> RankedSpan[SpanFeatures]:
        hit = evidence[span.rank].hit
        features = SpanFeatures(
            cosine=cosine,
            coverage=self.rarity.coverage(content_words(wording), normal_words(span.text)),
            hit_cosine=hit.features.cosine,
            hit_coverage=hit.features.coverage,
            rank=float(span.rank),
            has_number=float(asks_for_number(wording) and holds_number(span.text)),
            length=float(np.log(span.last - span.first)),
        )
        score = sum(weight * getattr(features, name) for name, weight in zip(SPAN_FEATURES, self._weights, strict=True))
        return RankedSpan(span, features, score)

    def support(self, wording: str, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[SpanFeatures]]) -> SupportFeatures:
        """Return what the decision rests on."""
        return support_features(wording, evidence, ranked, self.rarity)


def support_features(
    wording: str, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[SpanFeatures]], rarity: Rarity
) -> SupportFeatures:
    """Return what the decision rests on, from the hits and the best span.

    Args:
        wording: the question's words.
        evidence: best first, at least one.
        ranked: its spans, best first, at least one.
        rarity: how rare words are in general.
    """
    hits = [one.hit.features for one in evidence]
    asked = content_words(wording)
    best = ranked[0]
    rarest = sorted(asked, key=rarity.of, reverse=True)[:2]
    heard = set(normal_words(best.place.text))
    return SupportFeatures(
        cosine=max(hit.cosine for hit in hits),
        coverage=max(hit.coverage for hit in hits),
        margin=max(hit.margin for hit in hits),
        lexical=max(hit.lexical for hit in hits) / max(1, len(asked)),
        span_cosine=best.features.cosine,
        span_coverage=best.features.coverage,
        rarest=sum(word in heard for word in rarest) / max(1, len(rarest)),
        num_words=float(len(asked)),
    )
