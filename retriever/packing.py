"""From the speech probability of each frame to spans of speech of at most 30 s; pure, streamed, in samples.

Two steps. `SpeechFinder` finds runs of speech between pauses, with padding, none longer than a segment may be; `Packer` joins runs to
segments. Both hold less than 70 s of frames or runs, however long the sound is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from retriever.config import SpeechPauses
from retriever.domain import SAMPLE_RATE_HZ, Span, to_samples

FRAME_SAMPLES: Final = 512  # what silero judges at once, 32 ms
FAR_APART: Final = 5 * SAMPLE_RATE_HZ  # a longer silence does not belong into a segment
_HYSTERESIS: Final = 0.15  # silero's: speech has ended only this far below the threshold


@dataclass(frozen=True, slots=True)
class Frame:
    """512 samples as judged; only the last of a sound may be shorter.

    Attributes:
        probability: of speech, in [0, 1].
        energy: mean square of the samples.
    """

    probability: float
    energy: float
    num_samples: int = FRAME_SAMPLES


def pack_speech(frames: Iterable[Frame], config: SpeechPauses) -> Iterator[Span]:
    """Yield segments of speech in order of time, each as soon as it is certain."""
    finder, packer = SpeechFinder(config), Packer(config)
    for frame in frames:
        for run in finder.add(frame):
            yield from packer.add(run)
        if finder.is_silent:
            yield from packer.wait(finder.now)
    for run in finder.finish():
        yield from packer.add(run)
    yield from packer.finish()


class SpeechFinder:
    """Finds runs of speech: hysteresis as in silero, padded on both sides by at most half of the pause.

    A run longer than a segment may be is cut where speech is least likely, and among equally likely places where it is quietest; a shorter
    one is never cut. Every frame at or above the threshold lies in a run.
    """

    def __init__(self, config: SpeechPauses) -> None:
        self._threshold = config.threshold
        self._pad = to_samples(config.pad_ms / 1000)
        self._min_pause = to_samples(config.min_pause_ms / 1000)
        self._min, self._target, self._max = (to_samples(s) for s in (config.min_segment_s, config.target_segment_s, config.max_segment_s))
        self._now = 0
        self._is_speaking = False
        self._start = 0  # of the run, padded
        self._end: int | None = None  # of the run, not padded, once it has ended; until the padding is known the run is kept
        self._quiet_since: int | None = None
        self._frames: list[Frame] = []  # of the run
        self._origin = 0  # where they begin

    @property
    def now(self) -> int:
        """How many samples were taken."""
        return self._now

    @property
    def is_silent(self) -> bool:
        """Whether no run is under way: the next one begins at `now`, less its padding, or later."""
        return not self._is_speaking and self._end is None

    def add(self, frame: Frame) -> Iterator[Span]:
        """Take the next frame; yield runs that are complete."""
        begin = self._now
        self._now += frame.num_samples
        if not self._is_speaking and frame.probability >= self._threshold:
            yield from self._begin(begin)
        if self._is_speaking:
            self._frames.append(frame)
            self._listen(frame, begin)
            if self._is_speaking and self._now - self._start > self._max + self._min:
                yield self._split(self._start + self._target, self._start + self._max)
        elif self._end is not None and self._now - self._end >= 2 * self._pad:
            yield from self._release(self._end + self._pad)

    def finish(self) -> Iterator[Span]:
        """Yield the run at the end of the sound."""
        if self._is_speaking:
            self._stop(self._now if self._quiet_since is None else self._quiet_since)
        if self._end is not None:
            yield from self._release(min(self._end + self._pad, self._now))

    def _begin(self, begin: int) -> Iterator[Span]:
        start = max(0, begin - self._pad)
        if self._end is not None:  # the pause is short: the paddings share it
            middle = self._end + (begin - self._end) // 2
            start = max(start, middle)
            yield from self._release(min(self._end + self._pad, middle))
        self._is_speaking, self._start, self._quiet_since = True, start, None
        self._frames, self._origin = [], begin

    def _listen(self, frame: Frame, begin: int) -> None:
        if frame.probability >= self._threshold:
            self._quiet_since = None
        elif frame.probability < self._threshold - _HYSTERESIS and self._quiet_since is None:
            self._quiet_since = begin
        if self._quiet_since is not None and self._now - self._quiet_since >= self._min_pause:
            self._stop(self._quiet_since)

    def _stop(self, end: int) -> None:
        self._is_speaking, self._end = False, end

    def _release(self, end: int) -> Iterator[Span]:
        while end - self._start > self._max:
            latest = min(self._start + self._max, end - self._min)
            yield self._split(min(max(self._start + self._target, end - self._max), latest), latest)
        yield Span(self._start, end)
        self._end = None

    def _split(self, earliest: int, latest: int) -> Span:
        """Cut the run at its weakest frame between two samples; return the part before."""
        first = max(0, -(-(earliest - self._origin - FRAME_SAMPLES // 2) // FRAME_SAMPLES))
        last = max(first, (latest - self._origin - FRAME_SAMPLES // 2) // FRAME_SAMPLES)
        within = range(first, min(last + 1, len(self._frames)))
        weakest = min(within, key=lambda i: (round(self._frames[i].probability, 1), self._frames[i].energy))
        cut = self._origin + weakest * FRAME_SAMPLES + FRAME_SAMPLES // 2
        part = Span(self._start, cut)
        del self._frames[:weakest]
        self._origin += weakest * FRAME_SAMPLES
        self._start = cut
        return part


class Packer:
    """Joins runs of speech to segments, cut at the longest pauses.

    From its beginning, a segment ends at the longest pause between the target and the greatest length; failing that, at the longest after
    the least length; failing that, at any. A silence of 5 s or more ends it too. Then each piece under the least length joins a neighbour,
    the one before if possible, wherever the two fit into one segment.
    """

    def __init__(self, config: SpeechPauses) -> None:
        self._min, self._target, self._max = (to_samples(s) for s in (config.min_segment_s, config.target_segment_s, config.max_segment_s))
        self._runs: list[Span] = []
        self._pending: Span | None = None

    def add(self, run: Span) -> Iterator[Span]:
        """Take the next run; yield segments that are complete."""
        if self._runs and run.start - self._runs[-1].end >= FAR_APART and self._can_stand():
            yield from self._close()
        self._runs.append(run)
        while self._extent() > self._max + self._min:  # so much look-ahead shows whether what follows is too short to stand alone
            yield from self._cut(is_closed=False)

    def wait(self, now: int) -> Iterator[Span]:
        """Yield what nothing can join any more, since the silence has lasted longer than a segment may."""
        certain = now - self._max - FAR_APART
        if self._runs and self._runs[-1].end < certain:
            yield from self._close()
        if self._pending is not None and not self._runs and self._pending.end < certain:
            yield self._pending
            self._pending = None

    def finish(self) -> Iterator[Span]:
        """Yield what is left."""
        if self._runs:
            yield from self._close()
        if self._pending is not None:
            yield self._pending

    def _extent(self) -> int:
        return self._runs[-1].end - self._runs[0].start

    def _can_stand(self) -> bool:
        if self._extent() >= self._min:
            return True
        return self._pending is not None and self._runs[-1].end - self._pending.start <= self._max

    def _close(self) -> Iterator[Span]:
        while self._extent() > self._max:
            yield from self._cut(is_closed=True)
        yield from self._emit(Span(self._runs[0].start, self._runs[-1].end))
        self._runs = []

    def _cut(self, *, is_closed: bool) -> Iterator[Span]:
        start = self._runs[0].start
        fitting = [j for j in range(1, len(self._runs)) if self._runs[j - 1].end - start <= self._max]
        best = max(fitting, key=lambda j: self._rank(j, is_closed=is_closed))
        yield from self._emit(Span(start, self._runs[best - 1].end))
        del self._runs[:best]

    def _rank(self, j: int, *, is_closed: bool) -> tuple[bool, bool, bool, int, int]:
        """Return how good a cut before run `j` is."""
        before = self._runs[j - 1].end - self._runs[0].start
        after = self._runs[-1].end - self._runs[j].start
        pause = self._runs[j].start - self._runs[j - 1].end
        is_long = before >= self._min
        return is_long and (not is_closed or after >= self._min), is_long, before >= self._target, pause, before

    def _emit(self, piece: Span) -> Iterator[Span]:
        if self._pending is None:
            self._pending = piece
        elif min(self._pending.num_samples, piece.num_samples) < self._min and piece.end - self._pending.start <= self._max:
            self._pending = Span(self._pending.start, piece.end)
        else:
            yield self._pending
            self._pending = piece
