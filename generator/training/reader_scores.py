"""Compares answers: exact match and F1 of words, overlap of moments.

Rajpurkar et al. 2016, "SQuAD", section 6.1 (EM, F1 over bags of words, the best of the gold answers; articles do not count); Li et al.
2018, "Spoken SQuAD" (AOS: shared time over the time of both). Words are compared in spoken form, so "1,200" and "one thousand two hundred"
are the same answer, and a possessive ending does not count.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from generator.spoken_form import spoken_form
from retriever.domain import Span

_ARTICLES: Final = frozenset(("a", "an", "the"))


def compared(text: str) -> list[str]:
    """Return the words of an answer that count.

    >>> compared("The king's 12 ships")
    ['king', 'twelve', 'ships']
    """
    return [word.removesuffix("'s") for word in spoken_form(text) if word not in _ARTICLES]


def exact_match(answer: str, golds: Iterable[str]) -> float:
    """Return 1 if the answer has the words of one of the gold answers in order, else 0."""
    return float(any(compared(answer) == compared(gold) for gold in golds))


def word_f1(answer: str, golds: Iterable[str]) -> float:
    """Return the best F1 of the answer's words with those of a gold answer; two empty ones are alike."""
    return max(_f1(compared(answer), compared(gold)) for gold in golds)


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    if not answer or not gold:
        return float(list(answer) == list(gold))
    shared = (Counter(answer) & Counter(gold)).total()
    return 2 * shared / (len(answer) + len(gold))


def audio_overlap(cited: Span | None, golds: Iterable[Span]) -> float:
    """Return the best AOS with a gold moment: shared time over the time of both together; 0 where nothing is cited."""
    if cited is None:
        return 0.0
    best = 0.0
    for gold in golds:
        shared = max(0, min(cited.end, gold.end) - max(cited.start, gold.start))
        best = max(best, shared / (cited.num_samples + gold.num_samples - shared))
    return best
