"""A trigram language model in a few arrays: how likely each next word is, for many contexts at once.

Back-off form (Katz 1987, "Estimation of Probabilities from Sparse Data"): an n-gram that was kept has its own probability, any other the
probability without its first word times the weight of the context. Word 0 is the start of a sentence; it is a context and never predicted.

A state is what of the past still matters: v for the word v alone, V + i for the i-th kept bigram if trigrams continue it.

Rare words are one word to the n-grams, their class, number V - 1. A rare word's probability is that of its class, times its own within the
class; its number is V or more. The class is never said itself. A model without rare words has no class.

Shapes: V words of the n-grams with the start, S rare words, B kept bigrams, R kept trigrams, N queries.
"""

import io
import lzma
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from retriever.errors import ModelFilesMissing

START: Final = 0  # the state and the word number of a sentence's start
STEP: Final = 1 / 12  # nats between two codes of a probability: at most 4 % wrong
BACKOFF_STEP: Final = 1 / 30  # of a back-off weight, which all words share that a context does not list
BACKOFF_ZERO: Final = 90  # code of weight 1; weights reach from e^-5.5 to e^3
FILE_NAME: Final = "language-model.xz"

Ids = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]
LogProbs = npt.NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Ngrams:
    """What is stored; words in the order of their numbers, bigrams and trigrams sorted by their contexts, then by their words.

    Attributes:
        words: (V,) the first is the start, the last the class of the rare words, if there are any.
        word_probs, word_backoffs: (V,) codes: minus the natural logarithm, in steps.
        num_successors: (V,) kept bigrams that begin with each word.
        bigram_words: (B,) their second words.
        bigram_probs, bigram_backoffs: (B,) codes; weights can exceed one and have their own steps.
        num_continuations: (B,) kept trigrams that begin with each bigram.
        trigram_words: (R,) their third words.
        trigram_probs: (R,) codes.
        rare_words: (S,).
        rare_probs: (S,) codes of their probabilities within the class; rounding errors in their sum are taken out when they are read.
    """

    words: tuple[str, ...]
    word_probs: Codes
    word_backoffs: Codes
    num_successors: npt.NDArray[np.uint16]
    bigram_words: npt.NDArray[np.uint16]
    bigram_probs: Codes
    bigram_backoffs: Codes
    num_continuations: npt.NDArray[np.uint16]
    trigram_words: npt.NDArray[np.uint16]
    trigram_probs: Codes
    rare_words: tuple[str, ...] = ()
    rare_probs: Codes = field(default_factory=lambda: np.zeros(0, np.uint8))


_TEXTS: Final = ("words", "rare_words")
_ARRAYS: Final = tuple(name for name in Ngrams.__dataclass_fields__ if name not in (*_TEXTS, "rare_probs"))


def encode(log_probs: npt.NDArray[np.floating]) -> Codes:
    """Return codes of log-probabilities; what is rarer than the rarest code becomes that."""
    codes: Codes = np.clip(np.rint(-log_probs / STEP), 0, 255).astype(np.uint8)
    return codes


def encode_backoffs(log_weights: npt.NDArray[np.floating]) -> Codes:
    """Return codes of log back-off weights."""
    codes: Codes = np.clip(BACKOFF_ZERO - np.rint(log_weights / BACKOFF_STEP), 0, 255).astype(np.uint8)
    return codes


class NgramModel:
    """Scores words by the two words before them."""

    def __init__(self, ngrams: Ngrams) -> None:
        self.ngrams = ngrams
        self.words = ngrams.words + ngrams.rare_words
        self._num_words = len(ngrams.words)
        self._within = _within_class(ngrams.rare_probs)
        self._class = len(ngrams.words) - 1 if ngrams.rare_words else None
        self._probs = _decode(ngrams.word_probs)
        self._bigram_probs, self._trigram_probs = _decode(ngrams.bigram_probs), _decode(ngrams.trigram_probs)
        self._backoffs = decode_backoffs(np.concatenate((ngrams.word_backoffs, ngrams.bigram_backoffs)))
        first = np.repeat(np.arange(self._num_words, dtype=np.int64), ngrams.num_successors)
        self._bigrams = first << 16 | ngrams.bigram_words
        pairs = np.repeat(np.arange(len(self._bigrams), dtype=np.int64), ngrams.num_continuations)
        self._trigrams = pairs << 16 | ngrams.trigram_words
        self._has_trigrams = ngrams.num_continuations > 0

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Word -> number, V + S of them."""
        return {word: number for number, word in enumerate(self.words)}

    @property
    def unigrams(self) -> LogProbs:
        """(V + S,) natural log-probabilities without a context; minus infinity for what is never said, the start and the class."""
        said = np.concatenate(([-np.inf], self._probs[1:], self._probs[-1] + self._within))
        if self._class is not None:
            said[self._class] = -np.inf
        return said.astype(np.float32)

    def contexts(self, words: Ids) -> Ids:
        """Return the (N,) words of the n-grams that stand for words: the class for rare ones."""
        return np.minimum(words, self._num_words - 1)

    def score(self, states: Ids, words: Ids) -> tuple[LogProbs, Ids]:
        """Return (N,) natural log-probabilities of words after states, and the (N,) states that follow."""
        rare = np.flatnonzero(words >= self._num_words)
        within, words = self._within[words[rare] - self._num_words], self.contexts(words)
        last = self._last_words(states)
        pair, is_pair = _find(self._bigrams, last << 16 | words)
        scores = np.where(is_pair, _pick(self._bigram_probs, pair), self._backoffs[last] + self._probs[words])
        longer = states >= self._num_words
        triple, is_triple = _find(self._trigrams, (states - self._num_words) << 16 | words)
        is_triple &= longer
        scores = np.where(longer, scores + self._backoffs[states], scores)
        scores = np.where(is_triple, _pick(self._trigram_probs, triple), scores)
        scores[rare] += within
        continues = is_pair & _pick(self._has_trigrams, pair)
        return scores.astype(np.float32), np.where(continues, pair + self._num_words, words)

    def log_prob(self, words: tuple[str, ...]) -> float:
        """Return the natural log-probability of words after a sentence's start; minus infinity with a word it does not know."""
        state, total = np.array([START]), 0.0
        for word in words:
            number = self.numbers.get(word, START)
            if number in (START, self._class):
                return -np.inf
            scores, state = self.score(state, np.array([number]))
            total += float(scores[0])
        return total

    def _last_words(self, states: Ids) -> Ids:
        if not len(self._bigrams):
            return states
        return np.where(states < self._num_words, states, self._bigrams[np.maximum(states - self._num_words, 0)] & 0xFFFF)

    def save(self, path: Path) -> None:
        """Write the arrays into one compressed file; a reader never sees half of it."""
        packed = io.BytesIO()
        arrays: dict[str, Any] = {name: _split(getattr(self.ngrams, name)) for name in _ARRAYS}
        if self.ngrams.rare_words:
            arrays |= {"rare_words": _text(self.ngrams.rare_words), "rare_probs": self.ngrams.rare_probs}
        np.savez(packed, words=_text(self.ngrams.words), **arrays)
        partial = path.with_suffix(".part")
        partial.write_bytes(lzma.compress(packed.getvalue(), preset=6))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "NgramModel":
        """Read what `save` wrote.

        Raises:
            ModelFilesMissing: the file is absent or damaged.
        """
        try:
            with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as arrays:
                stored: dict[str, Any] = {name: _joined(arrays[name]) for name in _ARRAYS}
                if "rare_words" in arrays:
                    stored |= {"rare_words": _words(arrays["rare_words"]), "rare_probs": arrays["rare_probs"]}
                return cls(Ngrams(_words(arrays["words"]), **stored))
        except (OSError, KeyError, ValueError, lzma.LZMAError) as error:
            raise ModelFilesMissing(f"{path} is no language model ({error}); install the application again") from error


def decode_backoffs(codes: Codes) -> LogProbs:
    """Return the log back-off weights that codes stand for."""
    return ((BACKOFF_ZERO - codes.astype(np.float32)) * np.float32(BACKOFF_STEP)).astype(np.float32)


def _decode(codes: Codes) -> LogProbs:
    return (-codes.astype(np.float32) * np.float32(STEP)).astype(np.float32)


def _within_class(codes: Codes) -> LogProbs:
    """Return the log-probabilities that codes stand for, moved so that the probabilities sum to one."""
    values = _decode(codes)
    return values - np.float32(np.log(np.exp(values.astype(np.float64)).sum())) if len(values) else values


def _text(words: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def _words(text: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(text.tobytes().decode().split("\n"))


def _find(keys: Ids, wanted: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
    """Return where each wanted key is in sorted keys, and whether it is there at all."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted


def _pick(values: npt.NDArray[Value], places: Ids) -> npt.NDArray[Value]:
    return values[places] if len(values) else np.zeros(len(places), values.dtype)


def _split(values: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint8]:
    """Return the low bytes and then the high bytes: each kind compresses better alone."""
    return values if values.dtype == np.uint8 else values.astype("<u2").view(np.uint8).reshape(-1, 2).T.copy()


def _joined(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.unsignedinteger]:
    return values if values.ndim == 1 else values.T.copy().view("<u2").reshape(-1)
