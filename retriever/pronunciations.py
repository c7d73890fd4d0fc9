"""The pronouncing dictionary as the search walks it: a tree of phones with words at its nodes.

Files hold the pronunciations sorted by their phones, each without what it shares with the one before. The tree is built when it is read.

Shapes: P pronunciations, L phones of the longest, M nodes, Q phones with the blank.
"""

import io
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.errors import ModelFilesMissing

_PHONES: Final = "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
PHONES: Final = tuple(_PHONES.split())
BLANK: Final = 0  # phones are numbered from 1
NUM_OUTPUTS: Final = len(PHONES) + 1  # Q
FILE_NAME: Final = "lexicon.xz"

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pronunciations:
    """Words and how they are said, in the order of their phones.

    Attributes:
        words: (P,) numbers of a vocabulary.
        ranks: (P,) 0 for a word's most usual pronunciation, 1 for the next.
        lengths: (P,).
        phones: (P, L) numbers from 1; 0 after the end.
    """

    words: npt.NDArray[np.uint32]
    ranks: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.uint8]
    phones: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, lexicon: Mapping[str, Sequence[Sequence[str]]], vocabulary: Sequence[str]) -> "Pronunciations":
        """Number a dictionary; words of the vocabulary without a pronunciation cannot be heard."""
        numbers = {phone: number for number, phone in enumerate(PHONES, start=1)}
        lines = sorted(
            (tuple(numbers[phone] for phone in phones), word, rank)
            for word, name in enumerate(vocabulary)
            for rank, phones in enumerate(dict.fromkeys(map(tuple, lexicon.get(name, ()))))
        )
        phones = np.zeros((len(lines), max((len(line[0]) for line in lines), default=1)), np.uint8)
        for row, (said, _, _) in zip(phones, lines, strict=True):
            row[: len(said)] = said
        words, ranks = (np.array([line[column] for line in lines]) for column in (1, 2))
        lengths = np.array([len(line[0]) for line in lines])
        return cls(words.astype(np.uint32), ranks.astype(np.uint8), lengths.astype(np.uint8), phones)

    def save(self, path: Path) -> None:
        """Write one compressed file; a reader never sees half of it."""
        shared = _shared(self.phones, self.lengths)
        columns = np.arange(self.phones.shape[1])
        rest = self.phones[(columns >= shared[:, None]) & (columns < self.lengths[:, None])]
        num_bytes = 2 if self.words.max(initial=0) < 1 << 16 else 3
        words = self.words.astype("<u4").view(np.uint8).reshape(-1, 4).T[:num_bytes]
        packed = io.BytesIO()
        np.savez(packed, words=words, ranks=self.ranks, lengths=self.lengths, shared=shared.astype(np.uint8), rest=rest)
        partial = path.with_suffix(".part")
        partial.write_bytes(lzma.compress(packed.getvalue(), preset=6))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Pronunciations":
        """Read what `save` wrote.

        Raises:
            ModelFilesMissing: the file is absent or damaged.
        """
        try:
            with np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False) as arrays:
                words = np.zeros((len(arrays["ranks"]), 4), np.uint8)
                words[:, : len(arrays["words"])] = arrays["words"].T
                phones = _unshared(arrays["shared"], arrays["lengths"], arrays["rest"])
                return cls(words.view("<u4").reshape(-1).astype(np.uint32), arrays["ranks"], arrays["lengths"], phones)
        except (OSError, KeyError, ValueError, lzma.LZMAError) as error:
            raise ModelFilesMissing(f"{path} is no pronouncing dictionary ({error}); install the application again") from error


@dataclass(frozen=True, slots=True, eq=False)
class PhoneTree:
    """Where each phone leads, and which words end there. The first Q nodes are the root as entered by a word that ended in each phone.

    A node's children lie beside each other in the order of their phones: one number and one bit per phone say where each is.

    Attributes:
        branches: (M,) the phones that lead on from each node, as bits.
        first_child: (M,) the node that the first of them leads to.
        phones: (M,) phone that leads to each node, 0 for the root after silence.
        first_word, num_words: (M,) of each node, in `words`.
        words: (P,) numbers in the vocabulary, by node.
        costs: (P,) of each of `words`: what its pronunciation costs for being unusual, in nats.
        outlooks: (M,) best log-probability of a word that can still be reached from a node, its own included.
    """

    branches: npt.NDArray[np.uint64]
    first_child: npt.NDArray[np.int32]
    phones: npt.NDArray[np.uint8]
    first_word: npt.NDArray[np.int32]
    num_words: npt.NDArray[np.uint16]
    words: npt.NDArray[np.int32]
    costs: npt.NDArray[np.float32]
    outlooks: npt.NDArray[np.float32]

    @classmethod
    def build(cls, lexicon: Pronunciations, word_log_probs: npt.NDArray[np.float32], unusual_cost: float) -> "PhoneTree":
        """Build the tree.

        Args:
            lexicon: what is said how.
            word_log_probs: how likely each word of the vocabulary is.
            unusual_cost: nats for a pronunciation that is not a word's first.
        """
        levels = _grow(lexicon)
        parents, phones = levels.parents[NUM_OUTPUTS:], levels.phones
        branches = np.zeros(len(phones), np.uint64)
        np.bitwise_or.at(branches, parents, _BIT << phones[NUM_OUTPUTS:].astype(np.uint64))
        first_child = np.searchsorted(parents, np.arange(len(phones))) + NUM_OUTPUTS  # the levels are in the order of their parents
        branches[:NUM_OUTPUTS], first_child[:NUM_OUTPUTS] = branches[0], first_child[0]
        by_node = np.argsort(levels.ends, kind="stable")
        num_words = np.bincount(levels.ends, minlength=len(phones))
        return cls(
            branches,
            first_child.astype(np.int32),
            phones.astype(np.uint8),
            (np.cumsum(num_words) - num_words).astype(np.int32),
            num_words.astype(np.uint16),
            lexicon.words[by_node].astype(np.int32),
            np.where(lexicon.ranks[by_node] > 0, np.float32(unusual_cost), np.float32(0)),
            levels.outlooks(word_log_probs[lexicon.words]),
        )

    def children(self, nodes: Ids, phones: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Return where phones lead from nodes, arrays that broadcast, and whether they lead anywhere; where not, the node is the root."""
        branches, bits = self.branches[nodes], _BIT << phones.astype(np.uint64)
        possible = (branches & bits) > 0
        before = np.bitwise_count(branches & (bits - _BIT))
        return np.where(possible, self.first_child[nodes] + before.astype(np.int64), 0), possible


_BIT: Final = np.uint64(1)


@dataclass(frozen=True, slots=True, eq=False)
class _Levels:
    """The tree level by level: parents come before their children.

    Attributes:
        parents, phones: of each node.
        starts: the first node of each level after the roots, and the number of nodes.
        ends: (P,) the node where each pronunciation ends.
    """

    parents: npt.NDArray[np.int64]
    phones: npt.NDArray[np.int64]
    starts: tuple[int, ...]
    ends: npt.NDArray[np.int64]

    def outlooks(self, log_probs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return each node's best log-probability of the (P,) pronunciations at or below it."""
        best = np.full(len(self.parents), -np.inf, np.float32)
        np.maximum.at(best, self.ends, log_probs)
        for start, stop in reversed(list(pairwise(self.starts))):
            np.maximum.at(best, self.parents[start:stop], best[start:stop])
        best[:NUM_OUTPUTS] = best[0]
        return best


def _grow(lexicon: Pronunciations) -> _Levels:
    shared = _shared(lexicon.phones, lexicon.lengths)
    at = np.zeros(len(lexicon.words), np.int64)  # the node that each pronunciation has reached
    parents, phones = [np.zeros(NUM_OUTPUTS, np.int64)], [np.arange(NUM_OUTPUTS, dtype=np.int64)]
    starts = [NUM_OUTPUTS]
    for depth in range(lexicon.phones.shape[1]):
        alive = np.flatnonzero(lexicon.lengths > depth)
        new = shared[alive] <= depth  # else the one before, which is alive too, has made this node
        parents.append(at[alive[new]])
        phones.append(lexicon.phones[alive[new], depth].astype(np.int64))
        at[alive] = starts[-1] - 1 + np.cumsum(new)
        starts.append(starts[-1] + int(new.sum()))
    return _Levels(np.concatenate(parents), np.concatenate(phones), tuple(starts), at)


def _shared(phones: npt.NDArray[np.uint8], lengths: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return how many first phones each pronunciation shares with the one before."""
    shared = np.zeros(len(lengths), np.int64)
    if len(lengths) > 1:
        same = np.cumprod(phones[1:] == phones[:-1], axis=1, dtype=np.uint8).sum(axis=1)
        shared[1:] = np.minimum(same, np.minimum(lengths[1:], lengths[:-1]))
    return shared


def _unshared(shared: npt.NDArray[np.uint8], lengths: npt.NDArray[np.uint8], rest: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the (P, L) phones from what `save` keeps: each column's missing places are those of the line above."""
    width = int(lengths.max(initial=1))
    columns = np.arange(width)
    given = (columns >= shared[:, None]) & (columns < lengths[:, None])
    phones = np.zeros((len(lengths), width), np.uint8)
    phones[given] = rest
    rows = np.arange(len(lengths), dtype=np.int32)[:, None]
    source = np.maximum.accumulate(np.where(columns >= shared[:, None], rows, np.int32(0)), axis=0)  # the last line that wrote this column
    filled = phones[source, columns]
    return np.where(columns < lengths[:, None], filled, 0).astype(np.uint8)
