"""How good retrieval and recognition are, as numbers.

A rank is the place of the first right segment among those found, counted from 1; None where none was right.

Shapes: Q questions, C contexts (what counts as one hit: a segment, a passage), G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]  # (Q, C), higher is better; -inf where a context cannot be found
Places = npt.NDArray[np.integer]  # (Q,) in [0, C), the context that answers each question


def recall_at_k(ranks: Sequence[int | None], k: int) -> float:
    """Return the share of questions whose right segment is among the first k.

    Raises:
        ValueError: there are no questions, or k is below 1.
    """
    _refuse_nothing(ranks)
    if k < 1:
        raise ValueError(f"k counts segments from 1, got {k}")
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks)


def mean_reciprocal_rank(ranks: Sequence[int | None]) -> float:
    """Return the mean of 1 / rank, where a miss counts 0.

    Raises:
        ValueError: there are no questions.
    """
    _refuse_nothing(ranks)
    return sum(1 / rank for rank in ranks if rank is not None) / len(ranks)


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the fewest insertions, deletions and substitutions of words between both, for each word said; may exceed 1.

    Raises:
        ValueError: nothing was said.
    """
    if not said:
        raise ValueError("a word error rate needs at least one word that was said")
    return edit_distance(said, heard) / len(said)


def edit_distance(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the fewest insertions, deletions and substitutions that make one sequence of words the other (Levenshtein 1966)."""
    row = list(range(len(right) + 1))  # distances of what was seen of `left` to each beginning of `right`
    for seen, word in enumerate(left, start=1):
        diagonal, row[0] = row[0], seen
        for place, other in enumerate(right, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (word != other))
    return row[-1]


def context_ranks(scores: Scores, right: Places) -> list[int | None]:
    """Return the rank of each question's context among all contexts, each counted once; equal scores in order of place.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_shapes(scores, right)
    return [_rank(row, int(place)) for row, place in zip(scores, right, strict=True)]


def question_ranks(scores: Scores, right: Places) -> list[int | None]:
    """Return, for each context that answers a question, the rank of its best question among all; in order of the contexts.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_shapes(scores, right)
    ranks: list[int | None] = []
    for place in np.unique(right):
        found = [rank for question in np.flatnonzero(right == place) if (rank := _rank(scores[:, place], int(question))) is not None]
        ranks.append(min(found, default=None))
    return ranks


def matched_context_ranks(scores: Scores, right: Places) -> list[int | None]:
    """Return ranks as published for retrieval of Q contexts by Q questions: slot j holds question j's context, only slot i is right for i.

    A context that answers several questions fills several slots, of which all but one count as wrong.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_shapes(scores, right)
    return [_rank(row[right], question) for question, row in enumerate(scores)]


def matched_question_ranks(scores: Scores, right: Places) -> list[int | None]:
    """Return ranks as published for retrieval of Q questions by Q contexts: for slot i, which holds question i's context, only i is right.

    Raises:
        ValueError: shapes do not fit.
    """
    _check_shapes(scores, right)
    return [_rank(scores[:, place], question) for question, place in enumerate(right)]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with an interval that holds the true one in `level` of all cases."""

    mean: float
    low: float
    high: float
    level: float


def bootstrap_interval(values: Sequence[float], groups: Sequence[object] | None = None, seed: int = 0, level: float = 0.95) -> Interval:
    """Return the mean of values with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Of a paired difference when the values are differences.

    Args:
        values: one for each question.
        groups: what is drawn together, for questions about one context are not independent; None draws single values.
        seed: of the 10,000 draws.
        level: in (0, 1).

    Raises:
        ValueError: no values, another number of groups, or a level out of range.
    """
    if not values or (groups is not None and len(groups) != len(values)) or not 0 < level < 1:
        raise ValueError(f"an interval needs values, as many groups, and a level in (0, 1); got {len(values)} values, level {level}")
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups or ()))}
    which = np.array([numbers[group] for group in groups]) if groups is not None else np.arange(len(values))
    sums = np.bincount(which, np.asarray(values, np.float64))  # (G,)
    counts = np.bincount(which).astype(np.float64)  # (G,)
    generator, equal = np.random.default_rng(seed), np.full(len(sums), 1 / len(sums))
    parts = (generator.multinomial(len(sums), equal, size=500) for _ in range(20))  # (500, G) each, so that memory stays small
    means = np.concatenate([(part @ sums) / (part @ counts) for part in parts])  # (10,000,)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(values)), float(low), float(high), level)


def _rank(scores: npt.NDArray[np.floating], place: int) -> int | None:
    """Return the rank of one place, from 1; None where it cannot be found."""
    own = scores[place]
    if np.isneginf(own):
        return None
    return 1 + int(np.count_nonzero(scores > own)) + int(np.count_nonzero(scores[:place] == own))


def _check_shapes(scores: Scores, right: Places) -> None:
    if scores.ndim != 2 or right.shape != scores.shape[:1] or not len(right) or right.min() < 0 or right.max() >= scores.shape[1]:
        raise ValueError(f"scores must be (Q, C) and right (Q,) in [0, C), got {scores.shape} and {right.shape}")


def _refuse_nothing(ranks: Sequence[int | None]) -> None:
    if not ranks:
        raise ValueError("a mean over no questions is nothing; give at least one rank")
