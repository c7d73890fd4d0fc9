"""Makes written words look like what a recogniser heard: `python -m generator.training.reader_noise --help`.

A word that is misheard becomes one or two words that sound alike, in the phones of the CMU dictionary; short words get lost. How often each
kind of word suffers is counted on development lectures that were really spoken and recognised.
"""

import argparse
import json
import math
import random
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from generator.spoken_form import spoken_form
from generator.training.corpus import read_lecture
from generator.training.reader_data import QuestionOnPassage, Words, read_questions

Phones: TypeAlias = tuple[str, ...]
Floats: TypeAlias = npt.NDArray[np.float32]

_NUM_KEPT: Final = 8  # words that sound like a word
_NUM_PARTS: Final = 2  # words that sound like each half of a word
_MIN_SPLIT: Final = 6  # phones of a word that may be heard as two
_SHARPNESS: Final = 1.6  # of the choice among them, per phone that differs
_COMMONNESS: Final = 0.08  # how much nearer a word seems for each factor e by which it is more usual
_MIN_COUNT: Final = 2  # a recogniser's vocabulary lacks what is rarer
_TRUST: Final = 3  # what was really heard for a word counts as much as its sound when it was misheard so often
_NUM_PLACES: Final = 4  # parts of a word in which phones are compared
_ROWS: Final = 512  # words compared at a time
_UNSEEN_VOICE: Final = 2  # lectures with this number modulo five are spoken by a voice that is kept for reports
_KINDS: Final = ("function", "common", "rare", "unknown")
_PHONE_NAMES: Final = "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
_PHONES: Final = tuple(_PHONE_NAMES.split())
_VOWELS: Final = frozenset(phone for phone in _PHONES if phone[0] in "aeiou")
_ALIKE: Final = (
    "iy ih", "eh ae", "ah ih", "ah eh", "ah ae", "aa ao", "aa ah", "ow ao", "uw uh", "er ah", "ey eh", "ay aa", "p b", "t d", "k g", "f v",
    "s z", "th dh", "sh zh", "ch jh", "m n", "n ng", "r l", "w l", "th f", "dh d", "v b", "s sh", "t k", "p t",
)  # fmt: skip
_LETTERS: Final = {  # a rough reading of words that no dictionary has; enough to find what sounds like them
    "tion": "sh ah n", "sch": "sh", "tch": "ch", "igh": "ay", "ch": "ch", "sh": "sh", "ph": "f", "th": "th", "ck": "k", "ng": "ng",
    "qu": "k w", "wh": "w", "oo": "uw", "ee": "iy", "ea": "iy", "ou": "aw", "ow": "ow", "ai": "ey", "ay": "ey", "oi": "oy", "oy": "oy",
    "au": "ao", "er": "er", "ar": "aa r", "or": "ao r", "kn": "n", "a": "ae", "b": "b", "c": "k", "d": "d", "e": "eh", "f": "f", "g": "g",
    "h": "hh", "i": "ih", "j": "jh", "k": "k", "l": "l", "m": "m", "n": "n", "o": "aa", "p": "p", "q": "k", "r": "r", "s": "s", "t": "t",
    "u": "ah", "v": "v", "w": "w", "x": "k s", "y": "iy", "z": "z",
}  # fmt: skip
_READING: Final = re.compile("|".join(sorted(_LETTERS, key=len, reverse=True)))


def read_cmudict(path: Path) -> dict[str, Phones]:
    """Return the first pronunciation of each word of PocketSphinx's dictionary: lines `word P1 P2`, further ones as `word(2)`."""
    lines = (line.lower().split() for line in path.read_text(encoding="utf-8").splitlines())
    return {word: tuple(phones) for word, *phones in lines if not word.endswith(")")}


def read_letters(word: str) -> Phones:
    """Return how a word might sound by its letters, double ones once."""
    single = re.sub(r"(.)\1", r"\1", word)
    return tuple(phone for match in _READING.finditer(single) for phone in _LETTERS[match[0]].split())


def _likeness() -> Floats:
    """Return (39, 39): 1 for the same phone, 0.7 for those that are often confused, 0.3 within vowels or consonants."""
    pairs = {frozenset(pair.split()) for pair in _ALIKE}
    same = [[(one in _VOWELS) == (other in _VOWELS) for other in _PHONES] for one in _PHONES]
    alike = [[frozenset((one, other)) in pairs for other in _PHONES] for one in _PHONES]
    return np.where(np.eye(len(_PHONES)), 1.0, np.where(alike, 0.7, np.where(same, 0.3, 0.0))).astype(np.float32)


def sound_vectors(words: Sequence[Phones]) -> Floats:
    """Return (W, P x 39): which phones, or those like them, stand in each of P places of a word; near vectors sound alike."""
    likeness, numbers = _likeness(), {phone: number for number, phone in enumerate(_PHONES)}
    vectors = np.zeros((len(words), _NUM_PLACES, len(_PHONES)), np.float32)
    centres = (np.arange(_NUM_PLACES) + 0.5) / _NUM_PLACES
    for row, phones in enumerate(words):
        places = (np.arange(len(phones)) + 0.5) / max(len(phones), 1)  # (phones,)
        near = np.maximum(0, 1 - np.abs(places[:, None] - centres) * _NUM_PLACES).astype(np.float32)  # (phones, P)
        vectors[row] = near.T @ likeness[[numbers[phone] for phone in phones]]
    return vectors.reshape(len(words), -1)


class SoundAlikes:
    """Finds words that sound like given phones.

    Args:
        vocabulary: word -> (phones, how often it occurs).
    """

    def __init__(self, vocabulary: Mapping[str, tuple[Phones, int]]) -> None:
        self._words = list(vocabulary)
        self._vectors = sound_vectors([phones for phones, _ in vocabulary.values()])
        self._squares = (self._vectors**2).sum(axis=1)
        self._usual = (_COMMONNESS * np.log([count for _, count in vocabulary.values()])).astype(np.float32)

    def nearest(self, words: Sequence[Phones], num: int) -> list[list[tuple[str, float]]]:
        """Return for each word the nearest in sound with their costs, about one for each phone that differs; usual words seem nearer."""
        found: list[list[tuple[str, float]]] = []
        num = min(num, len(self._words))
        for start in range(0, len(words), _ROWS):
            vectors = sound_vectors(words[start : start + _ROWS])
            squares = (vectors**2).sum(axis=1)[:, None] + self._squares - 2 * vectors @ self._vectors.T
            costs = np.sqrt(np.maximum(squares, 0)) - self._usual
            best = np.argpartition(costs, num - 1, axis=1)[:, :num]
            for row, columns in zip(costs, best, strict=True):
                found.append(sorted(((self._words[column], round(float(row[column]), 2)) for column in columns), key=lambda pair: pair[1]))
        return found

    def table(self, said: Mapping[str, Phones]) -> dict[str, list[tuple[str, float]]]:
        """Return word -> what may be heard instead, one word or two, with its cost."""
        singles = self.nearest(list(said.values()), _NUM_KEPT + 1)
        table = {word: [pair for pair in near if pair[0] != word][:_NUM_KEPT] for word, near in zip(said, singles, strict=True)}
        long = [word for word, phones in said.items() if len(phones) >= _MIN_SPLIT]
        halves = [self.nearest([_half(said[word], part) for word in long], _NUM_PARTS) for part in (0, 1)]
        for word, lefts, rights in zip(long, *halves, strict=True):
            table[word] += [(f"{left} {right}", round(one + other, 2)) for left, one in lefts for right, other in rights]
        return table


def _half(phones: Phones, part: int) -> Phones:
    middle = len(phones) // 2
    return phones[middle:] if part else phones[:middle]


@dataclass(frozen=True, slots=True)
class Rates:
    """How words suffer: relative error of each kind of word (1 = the mean), and what an error is.

    Attributes:
        lost: share of errors that leave nothing, by kind.
        split: share of the other errors that leave two words.
        added: words added for each error.
    """

    relative: Mapping[str, float]
    lost: Mapping[str, float]
    split: float
    added: float


class Confusions:
    """Mishears words.

    Args:
        alikes: word -> what may be heard instead (one or two words) with its cost.
        kinds: word -> one of `_KINDS`; a word that is not there is unknown.
        rates: measured.
        levels: lowest and highest share of words that are misheard in a passage.
        observed: word -> what was really heard when it was misheard, each time; may be nothing or several words.
    """

    def __init__(
        self,
        alikes: Mapping[str, Sequence[tuple[str, float]]],
        kinds: Mapping[str, str],
        rates: Rates,
        levels: tuple[float, float] = (0.08, 0.32),
        observed: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._observed = observed or {}
        self._kinds = kinds
        self._rates = rates
        self.levels = levels
        self._choices = {}
        for word, heard in alikes.items():
            singles, pairs = [one for one in heard if " " not in one[0]], [one for one in heard if " " in one[0]]
            self._choices[word] = (_weighted(singles), _weighted(pairs))
        self._short = sorted(word for word, kind in kinds.items() if kind == "function")

    @classmethod
    def read(cls, path: Path) -> "Confusions":
        """Read what `main` wrote."""
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(record["alikes"], record["kinds"], Rates(**record["rates"]), observed=record.get("observed"))

    def __call__(self, one: QuestionOnPassage, rng: random.Random) -> QuestionOnPassage:
        """Return the question as heard (every second one) on the passage as heard; answers are where they were said."""
        level = rng.uniform(*self.levels)
        passage, places = self.mishear(one.passage, level, rng)
        answers = tuple((places[first], places[last]) for first, last in one.answers if places[first] < places[last])
        if one.answers and not answers:
            return one  # nothing of the answer was heard: there is nothing to learn from it
        question = one.question if rng.random() < 0.5 else self.mishear(one.question, level * 0.8, rng)[0] or one.question
        return replace(one, question=question, passage=passage, answers=answers)

    def mishear(self, words: Words, level: float, rng: random.Random) -> tuple[Words, list[int]]:
        """Return what is heard of words, and for each word (and the end) where what is heard of it begins.

        Args:
            words: in spoken form.
            level: share of words that are misheard.
            rng: chooses.
        """
        heard: list[str] = []
        places = [0]
        for word in words:
            kind = self._kinds.get(word, "unknown")
            if rng.random() >= min(0.95, level * self._rates.relative[kind]):
                heard.append(word)
            else:
                heard.extend(self._instead(word, kind, rng))
                if self._short and rng.random() < self._rates.added:
                    heard.append(rng.choice(self._short))
            places.append(len(heard))
        return tuple(heard), places

    def _instead(self, word: str, kind: str, rng: random.Random) -> list[str]:
        seen = self._observed.get(word, ())
        if rng.random() < len(seen) / (len(seen) + _TRUST):
            return rng.choice(seen).split()
        if rng.random() < self._rates.lost[kind]:
            return []
        singles, pairs = self._choices.get(word, ((), ()))
        chosen = pairs if pairs and (not singles or rng.random() < self._rates.split) else singles
        if not chosen:
            return []
        names, sums = chosen
        return str(names[bisect(sums, rng.random() * sums[-1])]).split()


_Weighted: TypeAlias = tuple[tuple[str, ...], tuple[float, ...]]


def _weighted(heard: Sequence[tuple[str, float]]) -> _Weighted | tuple[()]:
    if not heard:
        return ()
    lowest = min(cost for _, cost in heard)
    weights = accumulate(math.exp(-_SHARPNESS * (cost - lowest)) for _, cost in heard)
    return tuple(name for name, _ in heard), tuple(weights)


def align(said: Sequence[str], heard: Sequence[str]) -> list[tuple[str, ...]]:
    """Return for each word said the words heard for it, by the smallest number of edits; words added go to the word before."""
    rows, columns = len(said), len(heard)
    cost = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows + 1):
        for j in range(columns + 1):
            if i == 0 or j == 0:
                cost[i][j] = i + j
            else:
                cost[i][j] = min(cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (said[i - 1] != heard[j - 1]))
    result: list[list[str]] = [[] for _ in said]
    i, j = rows, columns
    while i:
        if j and cost[i][j] == cost[i - 1][j - 1] + (said[i - 1] != heard[j - 1]):
            result[i - 1].insert(0, heard[j - 1])
            i, j = i - 1, j - 1
        elif j and cost[i][j] == cost[i][j - 1] + 1:
            result[i - 1].insert(0, heard[j - 1])
            j -= 1
        else:
            i -= 1
    return [tuple(words) for words in result]


def measure(pairs: Iterable[tuple[Sequence[str], Sequence[str]]], kinds: Mapping[str, str]) -> tuple[Rates, float]:
    """Return rates of errors, and the share of words that were misheard, of (said, heard) pairs."""
    seen, wrong, lost = Counter[str](), Counter[str](), Counter[str]()
    split = added = 0
    for said, heard in pairs:
        aligned = align(said, heard)
        is_wrong = [word not in instead for word, instead in zip(said, aligned, strict=True)]
        for place, (word, instead) in enumerate(zip(said, aligned, strict=True)):
            kind = kinds.get(word, "unknown")
            seen[kind] += 1
            wrong[kind] += is_wrong[place]
            lost[kind] += not instead
            extra = len(instead) > 1
            beside = is_wrong[place] or any(is_wrong[place + 1 : place + 2])  # an extra word beside a wrong one: a word heard as two
            split += extra and beside
            added += extra and not beside
    mean = sum(wrong.values()) / max(1, sum(seen.values()))
    kept = sum(wrong.values()) - sum(lost.values())
    rates = Rates(
        relative={kind: round(wrong[kind] / max(1, seen[kind]) / mean, 3) for kind in _KINDS},
        lost={kind: round(lost[kind] / max(1, wrong[kind]), 3) for kind in _KINDS},
        split=round(split / max(1, kept), 3),
        added=round(added / max(1, sum(wrong.values())), 3),
    )
    return rates, mean


def heard_lectures(calibration: Path, fingerprint: str) -> list[tuple[Sequence[str], Sequence[str]]]:
    """Return (said, heard) for stretches of development lectures, one for each sentence; voices kept for reports are left out."""
    pairs: list[tuple[Sequence[str], Sequence[str]]] = []
    for path in sorted((calibration / "heard" / fingerprint).glob("*.json")):
        lecture = read_lecture(calibration / path.name)
        if int(path.name.split("-")[0]) % 5 == _UNSEEN_VOICE:
            continue
        words = [word for _, _, words in json.loads(path.read_text(encoding="utf-8")) for word in words]
        for sentence in lecture.sentences:
            inside = [word[0] for word in words if sentence.start <= (word[1] + word[2]) // 2 < sentence.end]
            pairs.append((spoken_form(sentence.text), spoken_form(" ".join(inside))))
    return pairs


def word_kinds(counts: Counter[str], known: Mapping[str, object]) -> dict[str, str]:
    """Return the kind of each word that a recogniser knows: the 150 commonest, those seen ten times, the rest."""
    ordered = [word for word, count in counts.most_common() if word in known and count >= _MIN_COUNT]
    return {word: "function" if rank < 150 else "common" if counts[word] >= 10 else "rare" for rank, word in enumerate(ordered)}


def main() -> None:
    """Read the arguments, find what sounds alike, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/")
    parser.add_argument("--cmudict", type=Path, required=True, help="PocketSphinx's cmudict-en-us.dict")
    parser.add_argument("--calibration", type=Path, required=True, help="folder of generator.training.calibrate")
    parser.add_argument("--fingerprint", required=True, help="whose hearing to copy: a folder of `heard` in it")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    questions = read_questions(arguments.data / "qa", "train")
    counts = Counter(word for passage in {one.passage for one in questions} for word in passage)
    counts.update(word for one in questions for word in one.question)
    known = {word: phones for word, phones in read_cmudict(arguments.cmudict).items() if word in counts}
    said = {word: known.get(word) or read_letters(word) for word in counts}
    kinds = word_kinds(counts, known)
    alikes = SoundAlikes({word: (known[word], counts[word]) for word in kinds})
    rates, mean = measure(heard_lectures(arguments.calibration, arguments.fingerprint), kinds)
    print(f"{mean:.3f} of the words were misheard; {rates}")
    record = {
        "alikes": alikes.table(said),
        "kinds": kinds,
        "rates": asdict(rates),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
