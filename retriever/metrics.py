"""How good retrieval and recognition are, as numbers.

A rank is the place of the first right segment among those found, counted from 1; None where none was right.
"""

from collections.abc import Sequence


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


def _refuse_nothing(ranks: Sequence[int | None]) -> None:
    if not ranks:
        raise ValueError("a mean over no questions is nothing; give at least one rank")
