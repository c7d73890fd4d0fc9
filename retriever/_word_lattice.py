"""Words that a search found, as a graph: its nodes are the word ends that survived, its arcs the ways to get there.

The best path, other paths and how sure each word is are read off it (Wessel et al. 2001, "Confidence Measures for Large Vocabulary
Continuous Speech Recognition").
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt

NO_WORD: Final = -1
_MAX_STEPS: Final = 400  # of the search for further paths, per path wanted

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arc:
    """A way to a word's end.

    Attributes:
        before: node that it leaves.
        word: number, or none: the same words as another node's, told apart only by time.
        start, end: searched frames, half-open.
        gain: what it adds to the score of a path.
        language: natural log-probability of the word.
        extra: the word's score and what its pronunciation costs.
    """

    before: int
    word: int
    start: int
    end: int
    gain: float
    language: float
    extra: float


@dataclass(frozen=True, slots=True)
class Path:
    """Words in order with the score of the whole."""

    arcs: tuple[Arc, ...]
    score: float

    @property
    def words(self) -> tuple[int, ...]:
        """Numbers of the words."""
        return tuple(arc.word for arc in self.arcs)


@dataclass(frozen=True, slots=True, eq=False)
class WordEnds:
    """Words that end with one frame; one element per word.

    Attributes:
        before: node of the word before.
        word: number, or none.
        start: first frame.
        language, extra: as in an arc.
    """

    before: Ints
    word: Ints
    start: Ints
    language: Floats
    extra: Floats

    def take(self, which: npt.NDArray[np.bool_]) -> "WordEnds":
        """Return some of the words."""
        return WordEnds(*(getattr(self, name)[which] for name in self.__slots__))


class Recorder:
    """Notes the word ends of a batch while they are found. Node g is the beginning of segment g, later nodes are word ends."""

    def __init__(self, num_segments: int) -> None:
        self._num_segments = self._num_nodes = num_segments
        nothing, zeros = np.full(num_segments, NO_WORD), np.zeros(num_segments, np.float32)
        self._winners = [_Noted(WordEnds(nothing, nothing, nothing, zeros, zeros), np.zeros(num_segments, np.int64), zeros, nothing)]
        self._losers: list[_Noted] = []

    def add(self, ends: WordEnds, end: int, score: Floats) -> Ints:
        """Note words by the score of the best path to each, and return the numbers of their nodes."""
        nodes = np.arange(self._num_nodes, self._num_nodes + len(score))
        self._num_nodes += len(score)
        self._winners.append(_Noted(ends, np.full(len(score), end), score, nodes))
        return nodes

    def add_losers(self, ends: WordEnds, end: int, gap: Floats, node: Ints) -> None:
        """Note ways that met a better one: by how much they were worse and the node of the better."""
        if len(gap):
            self._losers.append(_Noted(ends, np.full(len(gap), end), gap, node))

    def forget(self, alive: Ints) -> Ints:
        """Keep only the nodes from which others can still be reached, and return the new numbers of those that are alive."""
        winners, losers = _Noted.together(self._winners), _Noted.together(self._losers or [_NOTHING])
        used = np.zeros(self._num_nodes + 1, bool)  # the last stands for what is before a segment
        used[: self._num_segments] = True
        new = np.unique(alive)
        while len(new):
            used[new] = True
            before = np.concatenate((winners.ends.before[new], losers.ends.before[np.isin(losers.node, new)]))
            new = np.unique(before[~used[before]])
            new = new[new >= 0]
        used[-1] = False
        place = np.cumsum(used) - 1
        place[-1] = NO_WORD
        self._winners = [winners.take(used[:-1]).renumbered(place)]
        self._losers = [losers.take(used[losers.node]).renumbered(place)]
        self._num_nodes = int(used.sum())
        return place[alive]

    def graph(self) -> "Graph":
        """Return what was noted."""
        winners = _Noted.together(self._winners)
        score = winners.score
        gain = score - np.where(winners.ends.before >= 0, score[winners.ends.before], 0)
        losers = _Noted.together(self._losers or [_NOTHING])
        lost_gain = losers.score + score[losers.node] - score[losers.ends.before]
        everything = _Noted.together([winners, losers])
        node = np.concatenate([np.arange(len(score)), losers.node])
        order = np.argsort(node, kind="stable")
        ways = Ways(everything.ends, everything.end, np.concatenate([gain, lost_gain]))
        return Graph(ways, order, np.searchsorted(node[order], np.arange(self._num_nodes + 1)), score)


@dataclass(frozen=True, slots=True, eq=False)
class _Noted:
    """Word ends with their frame, score or gap, and node."""

    ends: WordEnds
    end: Ints
    score: Floats
    node: Ints

    def take(self, which: npt.NDArray[np.bool_]) -> "_Noted":
        return _Noted(self.ends.take(which), self.end[which], self.score[which], self.node[which])

    def renumbered(self, place: Ints) -> "_Noted":
        before = place[self.ends.before]  # -1 reads the last place
        return _Noted(replace(self.ends, before=before), self.end, self.score, place[self.node])

    @classmethod
    def together(cls, parts: Sequence["_Noted"]) -> "_Noted":
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("end", "score", "node"))
        return cls(WordEnds(*(np.concatenate([getattr(part.ends, name) for part in parts]) for name in WordEnds.__slots__)), *columns)


_NO_INTS: Final = np.zeros(0, np.int64)
_NO_FLOATS: Final = np.zeros(0, np.float32)
_NOTHING: Final = _Noted(WordEnds(_NO_INTS, _NO_INTS, _NO_INTS, _NO_FLOATS, _NO_FLOATS), _NO_INTS, _NO_FLOATS, _NO_INTS)


@dataclass(frozen=True, slots=True, eq=False)
class Ways:
    """All arcs, one element each."""

    ends: WordEnds
    end: Ints
    gain: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The nodes and arcs of a batch.

    Attributes:
        ways: the arcs.
        order: numbers of the arcs by the node they lead to.
        bounds: where each node's begin in `order`, and their number.
        scores: of the best path to each node.
    """

    ways: Ways
    order: Ints
    bounds: Ints
    scores: Floats

    def arcs_to(self, node: int) -> list[Arc]:
        """Return the arcs that lead to a node; none to the beginning of a segment."""
        which = self.order[self.bounds[node] : self.bounds[node + 1]]
        ends, ways = self.ways.ends, self.ways
        columns = (ends.before, ends.word, ends.start, ways.end, ways.gain, ends.language, ends.extra)
        return [Arc(*values) for values in zip(*(column[which].tolist() for column in columns), strict=True) if values[0] >= 0]


class Lattice:
    """The words found in one segment.

    Args:
        graph: of the batch.
        nodes: word ends that may be the segment's last.
        scores: of the best path that ends in each of `nodes`.
        beam: paths that are worse than the best by more are left out.
    """

    def __init__(self, graph: Graph, nodes: Sequence[int], scores: Sequence[float], beam: float) -> None:
        self._reached: dict[int, float] = {}
        self._last: dict[int, float] = {}  # node -> what follows it, on the best path that ends there
        self._arcs: dict[int, list[Arc]] = {}
        lowest = max(scores) - beam
        for node, score in zip(nodes, scores, strict=True):
            if score >= lowest:
                rest = score - float(graph.scores[node])
                self._last[node] = max(rest, self._last.get(node, -math.inf))
        ahead = dict(self._last)
        waiting = [-node for node in ahead]
        heapq.heapify(waiting)
        while waiting:  # arcs lead to later nodes only, so what follows a node is complete when its turn comes
            node = -heapq.heappop(waiting)
            self._reached[node] = float(graph.scores[node])
            self._arcs[node] = []
            for arc in graph.arcs_to(node):
                rest = arc.gain + ahead[node]
                if graph.scores[arc.before] + rest >= lowest:
                    self._arcs[node].append(arc)
                    if arc.before not in ahead:
                        heapq.heappush(waiting, -arc.before)
                    ahead[arc.before] = max(rest, ahead.get(arc.before, -math.inf))

    def best_paths(self, number: int) -> list[Path]:
        """Return up to so many paths with different words, best first; at least one."""
        found: dict[tuple[int, ...], Path] = {}
        tie = count()
        waiting: list[tuple[float, int, int, float, _Chain | None]] = [
            (-self._reached[node] - rest, next(tie), node, rest, None) for node, rest in self._last.items()
        ]
        heapq.heapify(waiting)
        for _ in range(_MAX_STEPS * number):
            if not waiting or len(found) == number:
                break
            worse, _, node, rest, chain = heapq.heappop(waiting)
            if not self._arcs[node]:
                path = Path(tuple(arc for arc in _unlinked(chain) if arc.word != NO_WORD), -worse)
                found.setdefault(path.words, path)
            for arc in self._arcs[node]:
                if chain and arc.end > chain.arc.start:
                    continue  # came to this node after the next word had left it
                total = self._reached[arc.before] + arc.gain + rest
                heapq.heappush(waiting, (-total, next(tie), arc.before, arc.gain + rest, _Chain(arc, chain)))
        return list(found.values())

    def confidences(self, paths: Sequence[Path], scale: float) -> list[list[float]]:
        """Return for each word of each path the share of all paths that have this word at this time, weighted by exp(scale * score)."""
        before: dict[int, float] = {}
        for node in sorted(self._arcs):
            ways = [before[arc.before] + scale * arc.gain for arc in self._arcs[node]]
            before[node] = _log_sum(ways) if ways else 0.0
        after: dict[int, list[float]] = defaultdict(list)
        for node, rest in self._last.items():
            after[node].append(scale * rest)
        total = _log_sum([before[node] + scale * rest for node, rest in self._last.items()])
        said: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
        for node in sorted(self._arcs, reverse=True):
            rest = _log_sum(after[node])
            for arc in self._arcs[node]:
                after[arc.before].append(scale * arc.gain + rest)
                said[arc.word].append((arc.start, arc.end, math.exp(before[arc.before] + scale * arc.gain + rest - total)))
        return [[_share(said[arc.word], arc) for arc in path.arcs] for path in paths]


@dataclass(frozen=True, slots=True)
class _Chain:
    """The end of a path: an arc and what follows."""

    arc: Arc
    rest: "_Chain | None"


def _share(said: Sequence[tuple[int, int, float]], arc: Arc) -> float:
    return min(1.0, math.fsum(share for start, end, share in said if start < arc.end and arc.start < end))


def _unlinked(chain: _Chain | None) -> Iterator[Arc]:
    while chain:
        yield chain.arc
        chain = chain.rest


def _log_sum(values: Sequence[float]) -> float:
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))
