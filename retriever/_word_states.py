"""The states of a search for words, for many segments at once: one array per attribute, one element per state.

A state is a node of the phone tree, a state of the language model, and whether the last output was blank; of all paths to it the best is
kept. After a word the path is at the root again; the root knows the word's last phone, which must not be repeated without a blank between.

Shapes: H states, N candidates for the next ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever._word_lattice import NO_WORD

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_NODE_BITS: Final = 21  # of a state's key; the dictionary's tree must be smaller
_CONTEXT_BITS: Final = 24  # words and pairs of words of the language model together
_SLOT_BITS: Final = 18  # of the table that finds equal states
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing: 2^64 over the golden ratio


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """(H,) states, those of a segment together, in the order of the segments.

    Attributes:
        segment: of the batch.
        node: of the tree.
        silent: whether the last output was blank.
        context: state of the language model.
        score: of the best path, look-ahead included.
        history: number of the arc that ended the last word.
        start: frame in which the current word began.
    """

    segment: Ints
    node: Ints
    silent: Mask
    context: Ints
    score: Floats
    history: Ints
    start: Ints

    @classmethod
    def together(cls, parts: Sequence["States"]) -> "States":
        """Return several sets of states as one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def take(self, which: Ints | Mask | slice) -> "States":
        """Return some of the states."""
        return States(*(getattr(self, name)[which] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """(N,) states that the next frame may bring.

    Attributes:
        source: number of the state that each comes from.
        node, silent, context, score: as in a state.
        word: that ends with this frame, or none.
        language: natural log-probability of that word.
        extra: what else it adds to the score.
    """

    source: Ints
    node: Ints
    silent: Mask
    context: Ints
    score: Floats
    word: Ints
    language: Floats
    extra: Floats

    @classmethod
    def inside(cls, source: Ints, node: Ints, silent: bool, context: Ints, score: Floats) -> "Candidates":
        """Return candidates that end no word."""
        none = np.zeros(len(source), np.float32)
        return cls(source, node, np.full(len(source), silent), context, score, np.full(len(source), NO_WORD), none, none)

    @classmethod
    def together(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """Return several sets of candidates as one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def take(self, which: Ints | Mask) -> "Candidates":
        """Return some of the candidates."""
        return Candidates(*(getattr(self, name)[which] for name in self.__slots__))


class Duplicates:
    """Finds candidates that are the same state; keeps its table from frame to frame."""

    def __init__(self) -> None:
        self._slots = np.zeros(1 << _SLOT_BITS, np.int64)

    def winners(self, segment: Ints, candidates: Candidates) -> Ints:
        """Return for each of (N,) candidates, the best first, the best that is the same state: itself, or one that comes before it."""
        key = segment << (_NODE_BITS + _CONTEXT_BITS + 1)
        key ^= (candidates.context << (_NODE_BITS + 1)) ^ (candidates.node << 1) ^ candidates.silent
        key = key.astype(np.uint64)
        winner = np.arange(len(key))
        pending = winner.copy()
        mixed = key
        while len(pending):  # again, mixed anew, for those that another state kept out of their slot
            mixed = (mixed ^ (mixed >> np.uint64(32))) * _SPREAD
            slot = (mixed[pending] >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
            self._slots[slot[::-1]] = pending[::-1]  # of equal places the last assignment stays: the best
            winner[pending] = self._slots[slot]
            pending = pending[key[winner[pending]] != key[pending]]
        return winner


def best_first(segment: Ints, score: Floats) -> Ints:
    """Return the order by segment, then the best first; equals as they come, so that a segment's order is the same in every batch.

    Segment, score and place are packed into one integer each: sorting those is several times as fast as sorting places by two keys.
    """
    bits = (-score).view(np.int32)
    ascending = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)  # negative floats count backwards
    place_bits = len(score).bit_length()
    keys = (segment << (32 + place_bits)) + (ascending << place_bits) + np.arange(len(score))
    keys.sort()
    return keys & ((1 << place_bits) - 1)
