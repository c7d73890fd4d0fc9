"""One ranking out of three: cosines of vectors, BM25 scores of words, BM25 scores of runs of letters.

The score is cosine + the sum of weight x BM25 / (what a term is worth that only one segment has), over the best of each side. So a word
found counts the same among twenty segments and among thousands, and a question of many rare words leans more on words than one of few.
Decisions use the raw features.

Shapes: S segments in scope.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retriever.lexical import rarity

Scores = npt.NDArray[np.float64]  # (S,)
NUM_DECIMALS = 6  # below that, sums in another order differ, and equal segments would swap places


@dataclass(frozen=True, slots=True)
class Fusion:
    """How to fuse.

    Attributes:
        lexical_weight: of the words' BM25, in units of the rarest word's weight, beside the cosine.
        num_candidates: best of each side that are fused.
        gram_weight: of the letters' BM25, likewise.
    """

    lexical_weight: float = 0.07
    num_candidates: int = 100
    gram_weight: float = 0.035

    def scores(self, cosine: Scores, lexical: Scores, grams: Scores, k: int) -> Scores:
        """Return (S,) fused scores, at least k of them if there are as many segments; -inf for what is among the best of no side."""
        num_best = max(self.num_candidates, k)
        chosen, fused = _best(cosine, num_best), cosine
        unit = rarity(1, max(len(cosine), 1))
        for bm25, weight in ((lexical, self.lexical_weight), (grams, self.gram_weight)):
            if weight:
                chosen = chosen | (_best(bm25, num_best) & (bm25 > 0))
                fused = fused + weight * bm25 / unit
        scores: Scores = np.where(chosen, np.round(fused, NUM_DECIMALS), -np.inf)
        return scores


def ranking(scores: Scores, k: int) -> npt.NDArray[np.intp]:
    """Return the positions of the k highest scores, highest first; equal ones in order of position."""
    order: npt.NDArray[np.intp] = np.argsort(-scores, kind="stable")[:k]
    return order


def _best(scores: Scores, k: int) -> npt.NDArray[np.bool_]:
    best = np.zeros(len(scores), np.bool_)
    best[ranking(np.round(scores, NUM_DECIMALS), k)] = True
    return best
