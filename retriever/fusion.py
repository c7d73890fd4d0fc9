"""One ranking out of two: cosines of vectors and BM25 scores of words.

The score is cosine + weight x BM25 / (the best BM25 of this search), over the best of both sides. It ranks within one search only: any
question, on topic or not, has a best BM25, so decisions use the raw features.

Shapes: S segments in scope.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]  # (S,)
NUM_DECIMALS = 6  # below that, sums in another order differ, and equal segments would swap places


@dataclass(frozen=True, slots=True)
class Fusion:
    """How to fuse.

    Attributes:
        lexical_weight: of BM25 scaled to its maximum, beside the cosine.
        num_candidates: best of each side that are fused.
    """

    lexical_weight: float = 0.4
    num_candidates: int = 100

    def scores(self, cosine: Scores, lexical: Scores, k: int) -> Scores:
        """Return (S,) fused scores, at least k of them if there are as many segments; -inf for what is among the best of neither side."""
        num_best = max(self.num_candidates, k)
        chosen = _best(cosine, num_best) | (_best(lexical, num_best) & (lexical > 0))
        fused = cosine + self.lexical_weight * lexical / max(lexical.max(initial=0.0), np.finfo(np.float64).tiny)
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
