"""Scores of every question against every context, by each side of the search alone and by all of them fused.

The fused scores, cosines and BM25 scores are the index's own (`SegmentIndex.search` over all segments), so that what is measured is what
the application does. A context's score is that of its best segment.

Shapes: Q questions, C contexts.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.domain import EmbeddedSegment, EncodedQuestion, join_words
from retriever.fusion import Fusion
from retriever.index import SegmentIndex
from retriever.lexical import GRAM_SATURATION, NUM_GRAMS, Postings, content_letters, letter_grams, rarity

Scores = npt.NDArray[np.float32]  # (Q, C)

NUM_HITS: Final = 10  # of a timed search, as an application asks
DENSE, WORDS, CHARACTERS, DENSE_WORDS, FUSED = "dense", "words", "characters", "dense+words", "fused"
ALL_SIDES: Final = (DENSE, WORDS, CHARACTERS, DENSE_WORDS, FUSED)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores by side, and how long each question's search took in seconds."""

    sides: Mapping[str, Scores]
    search_s: Sequence[float]


def score(questions: Sequence[EncodedQuestion], contexts: Sequence[Sequence[EmbeddedSegment]], fusion: Fusion) -> Scored:
    """Return the scores of all questions against all contexts; -inf for a context without segments.

    Args:
        questions: encoded by the retriever that made the segments.
        contexts: the segments of each; those of one context are one lecture of the index.
        fusion: how the index fuses.
    """
    segments = [one for context in contexts for one in context]
    sides: dict[str, Scores] = {side: np.full((len(questions), len(contexts)), -np.inf, np.float32) for side in ALL_SIDES}
    if not segments:
        return Scored(sides, [0.0] * len(questions))
    context_of = {one.segment.id: number for number, context in enumerate(contexts) for one in context}
    row_of = {one.segment.id: row for row, one in enumerate(segments)}
    index = SegmentIndex.create(segments[0].fingerprint, len(segments[0].vector), fusion)
    index.add(segments)
    index.prepare()
    lectures = {one.segment.lecture_id for one in segments}
    letters = _Letters(segments)
    search_s = []
    for row, question in enumerate(questions):
        start = time.perf_counter()
        index.search(question, NUM_HITS, lectures)
        search_s.append(time.perf_counter() - start)
        hits = index.search(question, len(segments), lectures)
        places = np.array([context_of[hit.segment.id] for hit in hits])
        cosine = np.array([hit.features.cosine for hit in hits])
        lexical = np.array([hit.features.lexical for hit in hits])
        found = {
            DENSE: cosine,
            WORDS: lexical,
            CHARACTERS: letters.match(question.wording)[[row_of[hit.segment.id] for hit in hits]],
            DENSE_WORDS: cosine + fusion.lexical_weight * lexical / rarity(1, len(segments)),
            FUSED: np.array([hit.score for hit in hits]),
        }
        for side, values in found.items():
            np.maximum.at(sides[side][row], places, values.astype(np.float32))
    return Scored(sides, search_s)


class _Letters:
    """The letters' BM25, which the index fuses without showing it."""

    def __init__(self, segments: Sequence[EmbeddedSegment]) -> None:
        bags = [letter_grams(content_letters(join_words(one.words))) for one in segments]
        self._postings = Postings(bags, NUM_GRAMS, GRAM_SATURATION)
        self._all = np.ones(len(segments), np.bool_)

    def match(self, wording: str) -> npt.NDArray[np.float64]:
        """Return the score of each segment."""
        grams = dict.fromkeys(letter_grams(content_letters(wording)).tolist())
        return self._postings.match(grams, self._all).bm25
