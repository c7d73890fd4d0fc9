"""The steps of a search for words, for many segments at once: what each frame makes of the states that the one before left.

Shapes: G segments, T frames of the longest, Q phones with the blank, K phones tried per frame, H states, N candidates for the next ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from retriever._word_lattice import NO_WORD, Lattice, Recorder, WordEnds
from retriever._word_states import Candidates, Duplicates, Floats, Ints, Mask, States, best_first
from retriever.ngram_model import START, NgramModel
from retriever.pronunciations import BLANK, NUM_OUTPUTS, PhoneTree

_FRAMES_REMEMBERED: Final = 64  # between two times when words that lead nowhere are forgotten


@dataclass(frozen=True, slots=True)
class Settings:
    """What the search weighs and what it leaves out.

    Attributes:
        blank_cost: nats taken from the blank: a network trained this way is too sure of it.
        prior_weight: of how usual each phone is (log-probability), taken from what the network says.
        language_weight: of the language model's natural log-probability beside the acoustic one.
        word_score: added for every word; more gives more and shorter words.
        unusual_cost: nats for a pronunciation that is not a word's first.
        num_states: kept per segment and frame.
        beam: nats below the segment's best state from which on states are dropped.
        num_phones: tried per frame.
        min_phone: log-probability below which no phone is tried.
        skip_blank: probability of the blank from which on a frame is passed over.
        lattice_beam: nats below the best path within which other paths are remembered.
        confidence_scale: of the scores when they become probabilities of words; below 1, as frames are not independent.
    """

    blank_cost: float = 2.5
    prior_weight: float = 0.5
    language_weight: float = 1.0
    word_score: float = 0.5
    unusual_cost: float = 0.7
    num_states: int = 100
    beam: float = 14.0
    num_phones: int = 8
    min_phone: float = -9.0
    skip_blank: float = 0.98
    lattice_beam: float = 10.0
    confidence_scale: float = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The frames of a segment that say something.

    Attributes:
        places: numbers of the frames that are searched.
        log_probs: float32, (len(places), Q).
        after_blank: whether frames were passed over just before.
        skipped: log-probability of the blanks passed over.
    """

    places: Ints
    log_probs: Floats
    after_blank: Mask
    skipped: float

    @classmethod
    def of(cls, log_probs: Floats, bonus: Floats, settings: Settings) -> "Frames":
        """Choose the frames of a segment and add (Q,) what each output gets more."""
        blank = log_probs[:, BLANK]
        kept = blank < np.log(settings.skip_blank)
        places = np.flatnonzero(kept)
        after_blank = np.diff(places, prepend=-1) > 1
        return cls(places, np.maximum(log_probs[places], np.float32(-1e4)) + bonus, after_blank, float(blank[~kept].sum(dtype=np.float64)))


class WordBeam:
    """One search over a batch of segments, the longest first."""

    def __init__(self, tree: PhoneTree, language: NgramModel, settings: Settings, frames: Sequence[Frames]) -> None:
        self._tree, self._language, self._settings = tree, language, settings
        self._num_frames = np.array([len(one.places) for one in frames])
        self._outlooks = (settings.language_weight * tree.outlooks).astype(np.float32)
        self._log_probs, self._after_blank = _stacked(frames)
        self._phones, self._phone_log_probs = _likely_phones(self._log_probs, settings)
        self._recorder = Recorder(len(frames))
        self._duplicates = Duplicates()

    def run(self) -> list[Lattice]:
        """Search all frames and return what was found in each segment."""
        num_segments = len(self._num_frames)
        zeros = np.zeros(num_segments, np.int64)
        numbers = np.arange(num_segments)
        score = np.full(num_segments, self._outlooks[0])
        states = States(numbers, zeros, zeros == 0, zeros + START, score, numbers, zeros)
        finished: list[States] = []
        for frame in range(len(self._log_probs)):
            first_done = np.searchsorted(states.segment, np.searchsorted(-self._num_frames, -frame))
            finished.append(states.take(slice(first_done, None)))
            states = self._step(frame, states.take(slice(0, first_done)))
            if frame % _FRAMES_REMEMBERED == _FRAMES_REMEMBERED - 1:
                states, finished = self._without_dead_ends(states, finished)
        finished.append(states)
        return self._lattices(States.together(finished))

    def _without_dead_ends(self, states: States, finished: Sequence[States]) -> tuple[States, list[States]]:
        done = States.together(finished)
        history = self._recorder.forget(np.concatenate((done.history, states.history)))
        number = len(done.history)
        return replace(states, history=history[number:]), [replace(done, history=history[:number])]

    def _step(self, frame: int, states: States) -> States:
        log_probs = self._log_probs[frame]
        states = self._after_silence(states, self._after_blank[frame][states.segment])
        everything = np.arange(len(states.node))
        at_root = states.node < NUM_OUTPUTS
        blank = states.score + log_probs[states.segment, BLANK]
        phone = self._tree.phones[states.node].astype(np.int64)
        again = np.flatnonzero(~states.silent & (phone > 0))
        repeated = states.score[again] + log_probs[states.segment[again], phone[again]]
        moved, children = self._moves(frame, states, phone)

        starts = np.flatnonzero(np.diff(states.segment, prepend=-1))
        best = np.maximum(blank, moved.max(axis=1))
        best[again] = np.maximum(best[again], repeated)
        lengths = np.diff(starts, append=len(best))
        floors = np.repeat(np.maximum.reduceat(best, starts) - np.float32(self._settings.beam), lengths)

        chosen = np.flatnonzero(moved >= floors[:, None])
        source, child, score = chosen // moved.shape[1], children.reshape(-1)[chosen], moved.reshape(-1)[chosen]
        inner = self._tree.branches[child] > 0
        likely = blank >= np.minimum(floors, np.repeat(np.maximum.reduceat(blank, starts), lengths))  # one stays, come what may
        likely_again = repeated >= floors[again]
        again = again[likely_again]
        candidates = Candidates.together([  # of equal scores the first stays: a word end, so that what lost to it is remembered
            self._word_ends(states, source, child, score, floors),
            Candidates.inside(everything[likely], np.where(at_root, 0, states.node)[likely], True, states.context[likely], blank[likely]),
            Candidates.inside(again, states.node[again], False, states.context[again], repeated[likely_again]),
            Candidates.inside(source[inner], child[inner], False, states.context[source[inner]], score[inner]),
        ])  # fmt: skip
        return self._survivors(frame, states, candidates)

    @staticmethod
    def _after_silence(states: States, passed_over: Mask) -> States:
        if not passed_over.any():
            return states
        node = np.where(passed_over & (states.node < NUM_OUTPUTS), 0, states.node)
        return States(states.segment, node, states.silent | passed_over, states.context, states.score, states.history, states.start)

    def _moves(self, frame: int, states: States, phone: Ints) -> tuple[Floats, Ints]:
        """Return (H, K) scores of going on with each likely phone, minus infinity where that is impossible, and (H, K) nodes."""
        phones = self._phones[frame][states.segment]
        children, possible = self._tree.children(states.node[:, None], phones)
        moved = (states.score - self._outlooks[states.node])[:, None] + self._phone_log_probs[frame][states.segment]
        moved += self._outlooks[children]
        possible &= (phones != phone[:, None]) | states.silent[:, None]
        moved[~possible] = -np.inf
        return moved, children

    def _word_ends(self, states: States, source: Ints, child: Ints, score: Floats, floors: Floats) -> Candidates:
        """Return what the words that end at these nodes lead to."""
        ending = np.flatnonzero(self._tree.num_words[child])
        num_words = self._tree.num_words[child[ending]].astype(np.int64)
        each = np.repeat(ending, num_words)
        offset = np.arange(len(each)) - np.repeat(np.cumsum(num_words) - num_words, num_words)
        place = self._tree.first_word[child[each]] + offset
        word, source = self._tree.words[place].astype(np.int64), source[each]
        language, context = self._language.score(states.context[source], word)
        extra = np.float32(self._settings.word_score) - self._tree.costs[place]
        total = score[each] - self._outlooks[child[each]] + self._settings.language_weight * language + extra + self._outlooks[0]
        phone = self._tree.phones[child[each]].astype(np.int64)
        ends = Candidates(source, phone, np.zeros(len(each), bool), context, total.astype(np.float32), word, language, extra)
        return ends.take(total >= floors[source])

    def _survivors(self, frame: int, states: States, candidates: Candidates) -> States:
        """Return the best candidates as states; equal ones are one."""
        segment = states.segment[candidates.source]
        order = best_first(segment, candidates.score)
        candidates, segment = candidates.take(order), segment[order]
        winner = self._duplicates.winners(segment, candidates)
        kept = winner == np.arange(len(winner))
        rank = np.cumsum(kept) - 1
        starts = np.flatnonzero(np.diff(segment, prepend=-1))
        lengths = np.diff(starts, append=len(segment))
        rank -= np.repeat(rank[starts], lengths)  # a segment's first is its best, so it is kept
        worst = np.repeat(candidates.score[starts] - np.float32(self._settings.beam), lengths)
        kept &= (rank < self._settings.num_states) & (candidates.score >= worst)
        return self._recorded(frame, states, candidates, kept, winner)

    def _recorded(self, frame: int, states: States, candidates: Candidates, kept: Mask, winner: Ints) -> States:
        """Return the kept candidates as states and remember the words that ended, with what lost against them."""
        history, source = states.history[candidates.source], candidates.source
        entered = (states.node[source] < NUM_OUTPUTS) & ((candidates.node >= NUM_OUTPUTS) | (candidates.word != NO_WORD))
        start = np.where(entered, frame, states.start[source])
        own_score = candidates.score - self._outlooks[candidates.node]
        ends = WordEnds(before := history.copy(), candidates.word, start, candidates.language, candidates.extra)
        ended = kept & (candidates.word != NO_WORD)
        history[ended] = self._recorder.add(ends.take(ended), frame + 1, own_score[ended])
        node = history[winner]
        gap = candidates.score - candidates.score[winner]
        lost = (winner != np.arange(len(winner))) & kept[winner] & (candidates.node < NUM_OUTPUTS) & (before < node)
        lost &= gap > -self._settings.lattice_beam
        self._recorder.add_losers(ends.take(lost), frame + 1, gap[lost], node[lost])
        return States(
            states.segment[source[kept]], candidates.node[kept], candidates.silent[kept], candidates.context[kept], candidates.score[kept],
            history[kept], start[kept],
        )  # fmt: skip

    def _lattices(self, ends: States) -> list[Lattice]:
        """Return each segment's words; a segment that ends within a word is taken without it, if no word ends there."""
        order = np.argsort(ends.segment, kind="stable")
        ends = ends.take(order)
        score = ends.score - self._outlooks[ends.node]
        bounds = np.searchsorted(ends.segment, np.arange(len(self._num_frames) + 1))
        graph = self._recorder.graph()
        lattices = []
        for start, stop in pairwise(bounds.tolist()):
            whole = np.flatnonzero(ends.node[start:stop] < NUM_OUTPUTS) + start
            chosen = whole if len(whole) else np.arange(start, stop)
            lattices.append(Lattice(graph, ends.history[chosen].tolist(), score[chosen].tolist(), self._settings.lattice_beam))
        return lattices


def _stacked(frames: Sequence[Frames]) -> tuple[Floats, Mask]:
    """Return (T, G, Q) log-probabilities and (T, G) whether blanks went before; nothing is read beyond a segment's end."""
    length = max(len(one.places) for one in frames)
    log_probs = np.zeros((length, len(frames), NUM_OUTPUTS), np.float32)
    after_blank = np.zeros((length, len(frames)), bool)
    for number, one in enumerate(frames):
        log_probs[: len(one.places), number] = one.log_probs
        after_blank[: len(one.places), number] = one.after_blank
    return log_probs, after_blank


def _likely_phones(log_probs: Floats, settings: Settings) -> tuple[Ints, Floats]:
    """Return the (T, G, K) likeliest phones of each frame and their log-probabilities, minus infinity where too unlikely."""
    num_phones = min(settings.num_phones, NUM_OUTPUTS - 1)
    phones = np.argpartition(-log_probs[:, :, 1:], num_phones - 1, axis=2)[:, :, :num_phones] + 1
    values = np.take_along_axis(log_probs, phones, axis=2)
    return phones, np.where(values >= settings.min_phone, values, np.float32(-np.inf))
