"""Cuts a stream of sound into segments with their sound, in bounded memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from uuid import UUID

import numpy as np

from retriever.base import Segmenter
from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, Segment, SegmentAudio, Span

NOWHERE = UUID(int=0)  # stands for lecture and run where nothing is kept
KEPT_SAMPLES = 180 * SAMPLE_RATE_HZ  # a segmenter looks back at most a segment and its look-ahead, about 90 s


class RollingSound:
    """The latest blocks of a stream, from which spans are cut in order of time; what lies before a cut span is let go."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, Samples]] = deque()  # (first sample, block)
        self._num_samples = 0

    def following(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Pass blocks through, keeping them."""
        for block in blocks:
            self._blocks.append((self._num_samples, block))
            self._num_samples += len(block)
            while self._blocks[0][0] + len(self._blocks[0][1]) <= self._num_samples - KEPT_SAMPLES:
                self._blocks.popleft()  # hours of silence are not remembered
            yield block

    def cut(self, span: Span) -> Audio:
        """Return the sound of a span, which must not begin before the last one cut."""
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= span.start:
            self._blocks.popleft()
        pieces = [block[max(0, span.start - first) : span.end - first] for first, block in self._blocks if first < span.end]
        return Audio(np.concatenate(pieces))


def cut_segments(blocks: Iterable[Samples], segmenter: Segmenter, lecture_id: UUID = NOWHERE) -> Iterator[SegmentAudio]:
    """Yield the segments of a sound, of no segmentation run yet, each as soon as it is certain."""
    sound = RollingSound()
    for span in segmenter.spans(sound.following(blocks)):
        yield SegmentAudio(Segment(lecture_id, span.start, span.end, NOWHERE), sound.cut(span))
