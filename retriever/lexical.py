"""The lexical sides of the search: BM25 over the words that were heard, and over runs of four letters of them.

Runs of letters cross from word to word, so that "coordination" meets "co ordination" and half of a misheard name still counts.

Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond", section 3.2, with the idf that cannot be negative
(log of 1 + odds). Rarity and mean length are those of the segments in scope: what other lectures, or other owners, say changes nothing.

Shapes: S segments, T distinct terms of all segments, P postings (a term in a segment).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.spoken_numbers import spell_numbers

# Both chosen, with the endings below and without stop words, on development questions over written passages; EXPERIMENTS.md.
SATURATION: Final = 0.9  # k1: how soon further occurrences stop counting
LENGTH_WEIGHT: Final = 0.75  # b: how far long segments are held back

GRAM_LENGTH: Final = 4  # letters; against 3, 5, 3 with 4, and phones on development questions: EXPERIMENTS.md
GRAM_SATURATION: Final = 0.5  # k1 of runs of letters
NUM_LETTERS: Final = 28  # a to z, and two for all others
NUM_GRAMS: Final = NUM_LETTERS**GRAM_LENGTH

# Words that carry the grammar of a sentence and not its topic; neither side counts them.
_GRAMMAR: Final = """
    a about after all also an and any are as at be because been before being between both but by can could did do does doing during each
    for from had has have having he her here hers him his how i if in into is it its just me more most my no nor not of off on once only or
    other our out over own please same say she should so some such than that the their them then there these they this those through to too
    under until up very was we were what when where which while who whom whose why will with would you your tell
"""
STOP_WORDS: Final = frozenset(_GRAMMAR.split())

Scores = npt.NDArray[np.float64]  # (S,)
Mask = npt.NDArray[np.bool_]  # (S,)
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What the words say about each segment; zero outside the scope.

    Attributes:
        bm25: (S,).
        coverage: (S,) share, by rarity, of the question's content words that the segment has, in [0, 1].
    """

    bm25: Scores
    coverage: Scores


class Vocabulary:
    """Terms and their numbers, in order of appearance."""

    def __init__(self, terms: Iterable[str] = ()) -> None:
        self._numbers = {term: number for number, term in enumerate(terms)}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def terms(self) -> list[str]:
        """All terms, by number."""
        return list(self._numbers)

    def number(self, term: str) -> int | None:
        """Return a term's number, or None if it never appeared."""
        return self._numbers.get(term)

    def learn(self, terms: Sequence[str]) -> Ids:
        """Return the terms' numbers, giving new ones where needed."""
        return np.array([self._numbers.setdefault(term, len(self._numbers)) for term in terms], np.int32)


class Postings:
    """Which segments have a term, and how often: an inverted index that does not change. Six bytes for each posting."""

    def __init__(self, bags: Sequence[Ids], num_terms: int, saturation: float = SATURATION) -> None:
        """Invert.

        Args:
            bags: for each of S segments, the numbers of its terms, with repetitions.
            num_terms: T.
            saturation: k1.
        """
        self._saturation = saturation
        self.lengths = np.array([len(bag) for bag in bags], np.float64)  # (S,)
        num_segments = max(len(bags), 1)
        pairs = np.concatenate([np.empty(0, np.int32), *bags]).astype(np.int64)  # in place from here on: there are millions
        pairs *= num_segments
        pairs += np.repeat(np.arange(len(bags), dtype=np.int32), [len(bag) for bag in bags])
        pairs.sort()
        firsts = np.flatnonzero(np.diff(pairs, prepend=-1))  # (P,) by term, then segment
        self._counts = np.minimum(np.diff(firsts, append=len(pairs)), np.iinfo(np.uint16).max).astype(np.uint16)
        pairs = pairs[firsts]
        self._segments = (pairs % num_segments).astype(np.int32)
        pairs //= num_segments
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(pairs, minlength=num_terms))]).astype(np.int32)  # (T + 1,)

    def match(self, question: Iterable[int | None], scope: Mask) -> Matches:
        """Score the segments in scope.

        Args:
            question: the numbers of its distinct content words; None for a word that no segment has.
            scope: (S,).
        """
        bm25, coverage, total = np.zeros(len(scope)), np.zeros(len(scope)), 0.0
        num_segments = int(scope.sum())
        mean_length = max(float(self.lengths[scope].mean()), 1.0) if num_segments else 1.0
        holding_back = self._saturation * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * self.lengths / mean_length)
        for term in question:
            found, counts = self._posted(term, scope)
            weight = rarity(len(found), num_segments)
            bm25[found] += weight * counts * (self._saturation + 1) / (counts + holding_back[found])
            coverage[found] += weight
            total += weight
        return Matches(bm25, coverage / total if total else coverage)

    def _posted(self, term: int | None, scope: Mask) -> tuple[Ids, Scores]:
        if term is None:
            return np.empty(0, np.int32), np.empty(0)
        piece = slice(self._starts[term], self._starts[term + 1])
        kept = scope[self._segments[piece]]
        return self._segments[piece][kept], self._counts[piece][kept].astype(np.float64)


def rarity(num_having: int, num_segments: int) -> float:
    """Return the weight of a term that so many of the segments have: BM25's idf, never negative."""
    return float(np.log1p((num_segments - num_having + 0.5) / (num_having + 0.5)))


def content_terms(text: str) -> list[str]:
    """Return the terms of a text's content words, in order: lower case, numbers in words, without stop words and common endings."""
    return [stem(word) for word in _content_words(text)]


def content_letters(text: str) -> bytes:
    """Return the letters of a text's content words, in order and without gaps: one byte below `NUM_LETTERS` for each.

    >>> list(content_letters("The cab"))
    [2, 0, 1]
    """
    return bytes(
        ord(letter) - ord("a") if "a" <= letter <= "z" else 26 + ord(letter) % 2 for letter in "".join(_content_words(text))
    )  # fmt: skip


def letter_grams(letters: bytes) -> Ids:
    """Return the number, below `NUM_GRAMS`, of each run of `GRAM_LENGTH` letters."""
    codes = np.frombuffer(letters, np.uint8).astype(np.int32)
    num_grams = max(0, len(codes) - GRAM_LENGTH + 1)
    grams = np.zeros(num_grams, np.int32)
    for place in range(GRAM_LENGTH):
        grams = grams * NUM_LETTERS + codes[place : place + num_grams]
    return grams


def _content_words(text: str) -> list[str]:
    words = re.findall(r"[^\W_]+", spell_numbers(re.sub(r"['’]s\b|['’]", "", text.lower())))
    return [word for word in words if word not in STOP_WORDS]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return a word without plural, -ed, -ing and final e: a light cousin of Porter's step 1, for matching only.

    >>> [stem(word) for word in ("cities", "glasses", "running", "houses", "house", "sing")]
    ['city', 'glass', 'run', 'hous', 'hous', 'sing']
    """
    word = _singular(word)
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and re.search("[aeiouy]", base) and not word.endswith("eed"):
            word = _undoubled(base)
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def _undoubled(base: str) -> str:
    if base.endswith(("at", "bl", "iz")):
        return base + "e"
    return base[:-1] if base[-1] == base[-2] and base[-1] not in "lsz" else base
