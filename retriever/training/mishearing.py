"""Makes of a text what a recogniser might have heard: words that sound alike, words cut elsewhere, words missing, words too many.

Recognisers err in bursts and on rare words, and what they do not know they replace by what they know. Each misheard stretch of one or two
words is turned into phones by a pronunciation dictionary, cut into one to three pieces, and each piece becomes a word that sounds like it
and is common enough for a language model to like it.

Shapes: V words that can be heard, L phones of the longest of them.
"""

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.metrics import word_error_rate
from retriever.spoken_numbers import spell_numbers

Phones = tuple[str, ...]

NUM_HEARD_WORDS: Final = 15_000  # V: the commonest words of a text collection
NUM_COMMON_WORDS: Final = 2_000  # these are heard best
NUM_CHOICES: Final = 8  # words that sound alike, to draw from
MAX_PHONES: Final = 14  # L; no recogniser takes longer stretches for one word

_VOWELS: Final = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_ALIKE: Final = (  # consonants that are taken for each other
    "P B", "T D", "K G", "F V TH", "S Z SH", "TH DH", "M N NG", "CH JH SH", "L R W", "Y IY", "HH", "T K P",
)  # fmt: skip
_LETTERS: Final = {  # how an unknown word may be said: longest letters first
    "tion": "SH AH N", "sch": "SH", "tch": "CH", "igh": "AY", "ough": "OW",
    "ch": "CH", "sh": "SH", "th": "TH", "ph": "F", "ck": "K", "ng": "NG", "qu": "K W", "ee": "IY", "ea": "IY", "oo": "UW", "ou": "AW",
    "ow": "OW", "ai": "EY", "ay": "EY", "oi": "OY", "oy": "OY", "au": "AO", "aw": "AO", "er": "ER", "ar": "AA R", "or": "AO R",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K", "l": "L", "m": "M",
    "n": "N", "o": "OW", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V", "w": "W", "x": "K S", "y": "IY", "z": "Z",
}  # fmt: skip
_INSERTED: Final = ("the", "a", "of", "and", "in", "to", "is", "that", "it")
_SPELLING: Final = re.compile("|".join(sorted(_LETTERS, key=len, reverse=True)))


def spoken_form(text: str) -> str:
    """Return a text as it is heard: lower case, numbers in words, nothing but words of letters and apostrophes."""
    plain = re.sub(r"(?<=\d)[.](?=\d)", " point ", re.sub(r"[’`]", "'", text.lower()).replace("%", " percent "))
    return " ".join(word.strip("'") for word in re.findall(r"[a-z']+", spell_numbers(plain)) if word.strip("'"))


def read_dictionary(path: Path) -> dict[str, Phones]:
    """Return the first pronunciation of each word of a dictionary in CMU's format, stress left out."""
    words: dict[str, Phones] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        if "(" not in word and not word.startswith(";;;"):
            words[word] = tuple(phone.rstrip("012") for phone in phones)
    return words


@dataclass(frozen=True, slots=True, eq=False)
class _Sounds:
    """The words that can be heard, in order of length.

    Attributes:
        lengths: (V,) phones of each word.
        costs: (P, L, V) of hearing a phone in the place of a word's phone.
        liking: (V,) log of how often a word is said.
    """

    words: Sequence[str]
    lengths: npt.NDArray[np.int64]
    costs: npt.NDArray[np.float32]
    liking: npt.NDArray[np.float64]


class Mishearing:
    """Mishears texts; the same random state gives the same mistakes."""

    def __init__(self, dictionary: Mapping[str, Phones], counts: Mapping[str, int]) -> None:
        """Prepare.

        Args:
            dictionary: word -> phones (ARPAbet without stress).
            counts: how often words are said, in a collection of texts.
        """
        self._dictionary = dictionary
        fit = [word for word in counts if word in dictionary and len(dictionary[word]) <= MAX_PHONES]
        commonest = sorted(fit, key=lambda word: (-counts[word], word))[:NUM_HEARD_WORDS]
        self._ranks = {word: rank for rank, word in enumerate(commonest)}
        words = sorted(commonest, key=lambda word: len(dictionary[word]))
        names = sorted({phone for word in words for phone in dictionary[word]})
        self._numbers = {name: number for number, name in enumerate(names)}
        phones = np.zeros((MAX_PHONES, len(words)), np.int64)
        for column, word in enumerate(words):
            phones[: len(dictionary[word]), column] = [self._numbers[phone] for phone in dictionary[word]]
        lengths = np.array([len(dictionary[word]) for word in words])
        self._sounds = _Sounds(words, lengths, _substitution_costs(names)[:, phones], np.log([counts[word] for word in words]))
        self._alike = lru_cache(maxsize=None)(self._find_alike)

    def mishear(self, text: str, rate: float, rng: random.Random) -> str:
        """Return a text in spoken form with about `rate` of its words misheard; words the recogniser cannot know come on top."""
        words, heard, place, burst = text.split(), list[str](), 0, 1.0
        while place < len(words):
            if rng.random() >= self._risk(words[place], rate) * burst:
                heard.append(words[place])
                place, burst = place + 1, 1.0
                continue
            taken = 2 if rng.random() < 0.15 else 1
            heard += self._misheard(words[place : place + taken], rng)
            place, burst = place + taken, 1.6
        return " ".join(heard)

    def _risk(self, word: str, rate: float) -> float:
        rank = self._ranks.get(word)
        if rank is None:
            return 0.9
        return rate * (0.7 if rank < NUM_COMMON_WORDS else 1.1)

    def _misheard(self, words: Sequence[str], rng: random.Random) -> list[str]:
        draw = rng.random()
        if draw < 0.07 and all(len(word) < 5 for word in words):
            return []
        if draw > 0.95:
            return [*words, rng.choice(_INSERTED)]
        phones = tuple(phone for word in words for phone in self.phones(word))
        num_pieces = rng.choices((1, 2, 3), (6, 2 if len(phones) < 7 else 5, 0 if len(phones) < 9 else 2))[0]
        num_pieces = max(num_pieces, math.ceil(len(phones) / MAX_PHONES))
        cuts = sorted(rng.sample(range(2, len(phones) - 1), num_pieces - 1)) if len(phones) > num_pieces + 2 else []
        pieces = [phones[start:end] for start, end in zip([0, *cuts], [*cuts, len(phones)], strict=True)]
        return [self._sounding_like(piece, set(words), rng) for piece in pieces if piece]

    def phones(self, word: str) -> Phones:
        """Return how a word is said; by its letters where no dictionary has it."""
        known = self._dictionary.get(word) or self._dictionary.get(word.removesuffix("'s"))
        return known or tuple(phone for letters in _SPELLING.findall(word) for phone in _LETTERS[letters].split())

    def _sounding_like(self, phones: Phones, excluded: set[str], rng: random.Random) -> str:
        words, weights = self._alike(phones[:MAX_PHONES])
        pairs = list(zip(words, weights, strict=True))
        pairs = [pair for pair in pairs if pair[0] not in excluded] or pairs
        return rng.choices([word for word, _ in pairs], [weight for _, weight in pairs])[0]

    def _find_alike(self, phones: Phones) -> tuple[list[str], list[float]]:
        """Return words that sound like the phones, with weights."""
        sounds = self._sounds
        near = slice(*np.searchsorted(sounds.lengths, (len(phones) - 1, len(phones) + 2)).tolist())
        if near.start == near.stop:  # a small dictionary has no word of about this length
            near = slice(0, len(sounds.words))
        query = [self._numbers[phone] for phone in phones if phone in self._numbers]
        badness = _distances(query, sounds.costs[:, :, near], sounds.lengths[near]) - 0.12 * sounds.liking[near]
        best = np.argsort(badness)[: NUM_CHOICES + 2]
        weights = np.exp(2.0 * (badness.min() - badness[best]))
        return [sounds.words[near.start + row] for row in best], weights.tolist()


def _substitution_costs(names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return (P, P): 0 for the same, less than 1 for phones that are taken for each other."""
    alike = [set(group.split()) for group in (*_ALIKE, _VOWELS)]
    return np.array(
        [
            [0.0 if one == other else 0.45 if any({one, other} <= group for group in alike) else 1.0 for other in names]
            for one in names
        ],
        np.float32,
    )  # fmt: skip


def _distances(query: Sequence[int], costs: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return (V,) weighted edit distances of a sequence of phones to words, given the costs (P, L, V) of each phone in each place."""
    gap, num_words = np.float32(0.8), len(lengths)  # of a phone too many or too few
    longest = int(lengths.max(initial=0))
    row = np.repeat(np.arange(longest + 1, dtype=np.float32)[:, None] * gap, num_words, axis=1)  # (L + 1, V)
    for seen, phone in enumerate(query, start=1):
        swapped = row[:-1] + costs[phone, :longest]
        better = np.minimum(swapped, row[1:] + gap)
        row[0] = seen * gap
        for place in range(longest):
            np.minimum(better[place], row[place] + gap, out=row[place + 1])
    found: npt.NDArray[np.float32] = row[lengths, np.arange(num_words)]
    return found


def measured_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Return the mean word error rate of misheard texts."""
    return sum(word_error_rate(one.split(), other.split()) for one, other in zip(said, heard, strict=True)) / len(said)
