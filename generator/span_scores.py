"""Finds the best spans from the scores of their starts and ends. W words, L words of the longest span."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
NEVER: Final = np.float32(-1e4)  # score of a span that is not allowed


@dataclass(frozen=True, slots=True, order=True)
class ScoredSpan:
    """Words `first` to `last` (half-open) with the log-odds that they answer, against that nothing in the window does."""

    score: float
    first: int
    last: int


def span_scores(starts: Scores, ends: Scores, longest: int) -> Scores:
    """Return (W, L): the score of the span that begins at a word and has 1 to L words; `NEVER` where it would end behind the last word."""
    num_words = len(starts)
    padded = np.concatenate([ends, np.full(longest, NEVER, np.float32)])
    scores = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)[:num_words]  # (W, L)
    places = np.arange(num_words)[:, None] + np.arange(longest)  # (W, L), last word
    return np.where(places < num_words, scores, NEVER)


def best_spans(scores: Scores, num: int) -> list[ScoredSpan]:
    """Return the best allowed spans of (W, L) scores, best first; ties go to the earlier, then to the shorter."""
    flat = scores.ravel()
    num = min(num, len(flat))
    if not num:
        return []
    least = np.partition(flat, len(flat) - num)[len(flat) - num]
    found = np.flatnonzero((flat >= least) & (flat > NEVER / 2))
    order = found[np.lexsort((found, -flat[found]))][:num]
    return [
        ScoredSpan(float(flat[place]), int(row), int(row + size + 1)) for place in order for row, size in [divmod(place, scores.shape[1])]
    ]


def log_total(scores: Scores) -> float:
    """Return the log of the summed odds of all spans: how much speaks for any answer in the window."""
    flat = scores.ravel().astype(np.float64)
    most = flat.max(initial=float(NEVER))
    return float(most + np.log(np.exp(flat - most).sum())) if len(flat) else float(NEVER)
