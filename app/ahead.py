"""Listens to the segments of a lecture while the rest of it is still being decoded, with what the processor has to spare.

Nothing of it is in the library before the lecture is cut whole; then what was heard meanwhile is there at once. A lecture that cannot be
kept up with is not waited for: the segments left out are read again from the library, as they are after a crash.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Self

from retriever.base import Retriever
from retriever.domain import EmbeddedSegment, Segment, SegmentAudio, Span, to_samples

ROOM_SAMPLES: Final = to_samples(480)  # of sound that waits to be listened to: 30 MB


class ListeningAhead:
    """One lecture's listening, as a context: leaving it ends the work after what is in hand. Begun by the first segment offered."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._offered: set[Span] = set()
        self._waiting: SimpleQueue[SegmentAudio | None] = SimpleQueue()  # None: no more will be offered
        self._num_waiting = 0  # samples, changed under the lock
        self._lock = threading.Lock()
        self._rest: Iterable[SegmentAudio] = ()
        self._heard: SimpleQueue[EmbeddedSegment | Exception | None] = SimpleQueue()  # None: all was heard
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listening ahead")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._waiting.put(None)
        if self._offered:
            self._thread.join()

    def offer(self, one: SegmentAudio) -> None:
        """Listen to a segment soon, unless too much waits already."""
        with self._lock:
            if self._num_waiting and self._num_waiting + one.audio.num_samples > ROOM_SAMPLES:
                return
            self._num_waiting += one.audio.num_samples
        if not self._offered:
            self._thread.start()
        self._offered.add(one.segment.span)
        self._waiting.put(one)

    def embed(self, segments: Sequence[Segment], sound_of: Callable[[Segment], SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield segments with vectors and words: those offered first, then the others, each in order of time.

        Args:
            segments: what the library wants; what was offered beside them is dropped.
            sound_of: fetches the sound of one that was not offered.

        Raises:
            RecognitionFailed: as `Retriever.embed`.
        """
        sounds = (sound_of(segment) for segment in segments if segment.span not in self._offered)
        if not self._offered:
            with closing(self._retriever.embed(sounds)) as embedded:
                yield from embedded
            return
        self._rest = sounds
        self._waiting.put(None)
        wanted: Mapping[Span, Segment] = {segment.span: segment for segment in segments}
        while (one := self._heard.get()) is not None:
            if isinstance(one, Exception):
                raise one
            if one.segment.span in wanted:
                yield replace(one, segment=wanted[one.segment.span])

    def _listen(self) -> None:
        try:
            with closing(self._retriever.embed(self._sounds())) as embedded:
                for one in embedded:
                    self._heard.put(one)
                    if self._stopped.is_set():
                        return
        except Exception as error:  # raised again where the segments are asked for
            self._heard.put(error)
        else:
            self._heard.put(None)

    def _sounds(self) -> Iterator[SegmentAudio]:
        while (one := self._waiting.get()) is not None:
            if self._stopped.is_set():
                return
            with self._lock:
                self._num_waiting -= one.audio.num_samples
            yield one
        for one in self._rest:
            if self._stopped.is_set():
                return
            yield one
