"""Trigram models from counts: interpolated Kneser-Ney smoothing, and pruning by relative entropy.

Smoothing with three discounts as in Chen and Goodman 1999, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3;
pruning as in Stolcke 1998, "Entropy-based Pruning of Backoff Language Models".

Shapes: V words with the start, B bigrams, R trigrams.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.ngram_model import START

CUT: Final = -1  # in a stream of words: a place where a context ends, an unknown word or a paragraph's edge
UNKNOWN: Final = 0xFFFF  # as first word of a trigram: what it would count is only a different beginning

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """N-grams and how often they were said. An n-gram is a number, 16 bits per word.

    Attributes:
        num_words: V.
        words: (V,) counts.
        bigrams, bigram_counts: (B,) in ascending order.
        trigrams, trigram_counts: (R,) in ascending order; the first word may be `UNKNOWN`.
    """

    num_words: int
    words: Ids
    bigrams: Ids
    bigram_counts: Ids
    trigrams: Ids
    trigram_counts: Ids

    @classmethod
    def of(cls, streams: Sequence[Ids], weights: Sequence[int], num_words: int) -> "Counts":
        """Count the n-grams of token streams, each as often as its weight says."""
        words = np.zeros(num_words, np.int64)
        bigrams, trigrams = [], []
        for stream, weight in zip(streams, weights, strict=True):
            said = (stream != CUT) & (stream != START)
            words += weight * np.bincount(stream[said], minlength=num_words)
            pair = said[1:] & (stream[:-1] != CUT)
            bigrams.append(_counted((stream[:-1] << 16 | stream[1:])[pair], weight))
            triple = said[2:] & (stream[1:-1] != CUT)
            first = np.where((stream[1:-1] == START) | (stream[:-2] == CUT), UNKNOWN, stream[:-2])
            trigrams.append(_counted((first << 32 | stream[1:-1] << 16 | stream[2:])[triple], weight))
        return cls(num_words, words, *_summed(bigrams), *_summed(trigrams))


def _counted(keys: Ids, weight: int) -> tuple[Ids, Ids]:
    values, counts = np.unique(keys, return_counts=True)
    return values, counts * weight


def _summed(parts: Sequence[tuple[Ids, Ids]]) -> tuple[Ids, Ids]:
    keys, places = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    return keys, np.bincount(places, np.concatenate([part[1] for part in parts])).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Backoff:
    """A trigram model in back-off form, as natural logarithms; the weights follow from the probabilities.

    Attributes:
        words: (V,) log-probabilities; the start's is minus infinity.
        bigrams, bigram_probs: (B,) in ascending order.
        trigrams, trigram_probs: (R,) in ascending order; their first two words are a bigram of the model.
    """

    words: Floats
    bigrams: Ids
    bigram_probs: Floats
    trigrams: Ids
    trigram_probs: Floats

    @property
    def lower_of_bigrams(self) -> Floats:
        """(B,) log-probability of each bigram's second word alone."""
        lower: Floats = self.words[self.bigrams & 0xFFFF]
        return lower

    def word_backoffs(self) -> Floats:
        """(V,) log weights of contexts of one word."""
        return _weights(self.bigrams >> 16, self.bigram_probs, self.lower_of_bigrams, len(self.words))

    def lower_of_trigrams(self, backoffs: Floats) -> Floats:
        """(R,) log-probability of each trigram's last word after its second."""
        pairs = self.trigrams & 0xFFFFFFFF
        place, there = _place(self.bigrams, pairs)
        return np.where(there, self.bigram_probs[place], backoffs[pairs >> 16] + self.words[pairs & 0xFFFF])

    def contexts_of_trigrams(self) -> Ids:
        """(R,) numbers of the bigrams that trigrams continue."""
        return _place(self.bigrams, self.trigrams >> 16)[0]

    def bigram_backoffs(self, backoffs: Floats) -> Floats:
        """(B,) log weights of contexts of two words."""
        return _weights(self.contexts_of_trigrams(), self.trigram_probs, self.lower_of_trigrams(backoffs), len(self.bigrams))


def _place(keys: Ids, wanted: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def _weights(contexts: Ids, log_probs: Floats, lower: Floats, number: int) -> Floats:
    """Return log of what the kept n-grams of each context leave, over what they would have had without the context."""
    left, below = (1 - np.bincount(contexts, np.exp(values), minlength=number) for values in (log_probs, lower))
    return np.log(np.maximum(left, 1e-6)) - np.log(np.maximum(below, 1e-6))


def smooth(counts: Counts) -> Backoff:
    """Return the interpolated Kneser-Ney model of some counts."""
    seconds = counts.bigrams & 0xFFFF
    known = counts.trigrams >> 32 != UNKNOWN
    different = np.bincount(seconds, minlength=counts.num_words).astype(np.float64)
    different[START] = 0
    words = _interpolated(np.zeros(counts.num_words, np.int64), different, np.full(counts.num_words, 1 / (counts.num_words - 1)))
    words[START] = 0

    pairs, beginnings = np.unique(counts.trigrams & 0xFFFFFFFF, return_counts=True)
    place, there = _place(pairs, counts.bigrams)
    at_start = counts.bigrams >> 16 == START  # nothing can come before a start, so what counts is how often
    different = np.where(at_start | ~there, counts.bigram_counts, beginnings[place]).astype(np.float64)
    bigram_probs = _interpolated(counts.bigrams >> 16, different, words[seconds])

    trigrams = counts.trigrams[known]
    place, _ = _place(counts.bigrams, trigrams & 0xFFFFFFFF)
    trigram_probs = _interpolated(trigrams >> 16, counts.trigram_counts[known].astype(np.float64), bigram_probs[place])
    with np.errstate(divide="ignore"):
        return Backoff(np.log(words), counts.bigrams, np.log(bigram_probs), trigrams, np.log(trigram_probs))


def _interpolated(contexts: Ids, counts: Floats, lower: Floats) -> Floats:
    """Return the probability of each n-gram: its discounted count, and its share of what was taken from its context."""
    _, group = np.unique(contexts, return_inverse=True)
    seen = [float(np.sum(counts == number)) for number in (1, 2, 3, 4)]
    one = seen[0] / (seen[0] + 2 * seen[1]) if seen[0] else 0.5
    discounts = [number - (number + 1) * one * seen[number] / seen[number - 1] if seen[number - 1] else 0.5 for number in (1, 2, 3)]
    steps = [0.0, *(min(max(value, 0.1), 0.95 * number) for number, value in enumerate(discounts, 1))]
    taken: Floats = np.choose(np.minimum(counts, 3).astype(np.int64), steps)
    total = np.bincount(group, counts)[group]
    return (counts - taken) / total + np.bincount(group, taken)[group] / total * lower


class Pruner:
    """Makes smaller models of one: n-grams leave that raise its perplexity least, contexts of what stays stay too."""

    def __init__(self, model: Backoff, counts: Counts) -> None:
        self._model = model
        total = float(counts.bigram_counts.sum())
        self._contexts = model.contexts_of_trigrams()
        lower = model.lower_of_trigrams(model.word_backoffs())
        self._trigram_costs = _costs(self._contexts, model.trigram_probs, lower, counts.bigram_counts / total)
        firsts = model.bigrams >> 16
        said = np.bincount(firsts, counts.bigram_counts, minlength=counts.num_words) / total
        self._bigram_costs = _costs(firsts, model.bigram_probs, model.lower_of_bigrams, said)

    def above(self, cost: float) -> Backoff:
        """Return the model without the n-grams whose loss alone raises the perplexity by less than this share."""
        kept, needed = self._chosen(cost)
        model = self._model
        return Backoff(model.words, model.bigrams[needed], model.bigram_probs[needed], model.trigrams[kept], model.trigram_probs[kept])

    def to_size(self, num_ngrams: int) -> Backoff:
        """Return the model with at most so many bigrams and trigrams, as many as a search for the cost finds."""
        low, high = math.log(1e-16), math.log(1.0)
        while high - low > 0.01:
            middle = (low + high) / 2
            if sum(int(chosen.sum()) for chosen in self._chosen(math.exp(middle))) > num_ngrams:
                low = middle
            else:
                high = middle
        return self.above(math.exp(high))

    def _chosen(self, cost: float) -> tuple[Mask, Mask]:
        kept = self._trigram_costs >= cost
        needed = self._bigram_costs >= cost
        needed[self._contexts[kept]] = True
        return kept, needed


def _costs(contexts: Ids, log_probs: Floats, lower: Floats, said: Floats) -> Floats:
    """Return by which share the perplexity rises if one n-gram is left out (Stolcke 1998, equation 3)."""
    probs, lower_probs = np.exp(log_probs), np.exp(lower)
    left = np.maximum(1 - np.bincount(contexts, probs, minlength=len(said)), 1e-6)[contexts]
    below = np.maximum(1 - np.bincount(contexts, lower_probs, minlength=len(said)), 1e-6)[contexts]
    before, after = np.log(left / below), np.log((left + probs) / (below + lower_probs))
    costs: Floats = np.expm1(-said[contexts] * (probs * (lower + after - log_probs) + left * (after - before)))
    return costs
