"""The worker: takes jobs one after the other, makes lectures searchable, and keeps the index equal to the library.

It may be killed at any moment. The library is the truth: a job found running belongs to a worker that died and is begun again, at the
segment where it stopped; the index is brought up to the library at every start and whenever nothing else is to be done.
"""

import logging
import math
import os
import platform
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from app.ahead import ListeningAhead
from app.errors import WorkerBusy
from app.index_keeper import IndexKeeper
from app.listening import cut_segments
from retriever.audio import open_audio
from retriever.base import Retriever, Segmenter
from retriever.config import AudioLimits
from retriever.domain import Samples, SegmentAudio, to_samples
from retriever.errors import RetrieverError, SilentAudio
from storage.base import Library
from storage.domain import Job, JobKind, JobStage, JobState
from storage.errors import StorageError

BEAT_S = 2.0
IDLE_S = 0.3
KEEP_HOUSE_EVERY_S = 10.0  # it looks at every segment: 20 ms for a hundred hours of lectures

log = logging.getLogger(__name__)


class JobStopped(Exception):
    """The user cancelled the job, or deleted its lecture."""


@dataclass(eq=False)
class Worker:
    """Takes jobs from the library. One at a time holds the lock; `run` returns when `stop` says so."""

    library: Library
    retriever: Retriever
    segmenter: Segmenter
    limits: AudioLimits
    index_folder: Path
    lock_path: Path

    def run(self, stop: Callable[[], bool], wait_for_lock_s: float = 0.0) -> None:
        """Work until `stop()` is true; it is asked whenever no job waits.

        Raises:
            WorkerBusy: another worker kept the lock for longer than `wait_for_lock_s` (negative: wait for ever).
        """
        with self._locked(wait_for_lock_s), self._beating(), closing(self.retriever):
            keeper = self._keeper()
            keeper.sync()
            house_kept_at = -math.inf
            while True:
                job = self.library.jobs.claim()
                if job is not None:
                    self._work_on(job, keeper)
                    house_kept_at = -math.inf
                    continue
                if time.monotonic() - house_kept_at >= KEEP_HOUSE_EVERY_S:
                    self._keep_house(keeper.fingerprint)
                    house_kept_at = time.monotonic()
                keeper.sync()
                if stop():
                    return
                time.sleep(IDLE_S)

    def rebuild_index(self) -> int:
        """Make the index again from the library; return how many segments it holds.

        Raises:
            WorkerBusy: a worker is running.
        """
        with self._locked(0.0):
            return self._keeper().rebuild()

    def _keeper(self) -> IndexKeeper:
        fingerprint = self.retriever.fingerprint
        return IndexKeeper(self.library, self.index_folder / fingerprint, fingerprint, self.retriever.dimension)

    def _work_on(self, job: Job, keeper: IndexKeeper) -> None:
        log.info("job %s: %s of lecture %s, attempt %d", job.id, job.kind, job.lecture_id, job.attempts)
        try:
            with ListeningAhead(self.retriever) as ahead:
                is_cut = bool(self.library.lectures.segments(job.lecture_id))
                message = self._restore(job) if is_cut else self._decode(job, ahead)
                self._listen(job, keeper, ahead)
            state, message = JobState.DONE, self._with_language(job, message)
        except JobStopped:
            state, message = JobState.CANCELLED, "Cancelled. What was done so far is kept; resume it to do the rest."
        except (RetrieverError, StorageError) as error:
            state, message = JobState.FAILED, str(error)
        except Exception as error:
            log.exception("job %s failed", job.id)
            state, message = JobState.FAILED, f"Something unforeseen went wrong ({error}); the log has the details. Resume it to try again."
        self.library.jobs.finish(job.id, state, message)
        keeper.sync()
        log.info("job %s: %s %s", job.id, state, message)

    def _with_language(self, job: Job, message: str) -> str:
        """Add to the message if the lecture's language is not the one that is understood; a lecture resumed has it already."""
        language = self.library.lectures.get(job.lecture_id, job.owner_id).language
        known = self.retriever.language
        warning = f"This lecture is in {language!r}, the model hears {known!r}: words and hits will often be wrong."
        if language.partition("-")[0].lower() == known or warning in message:
            return message
        return f"{message} {warning}".strip()

    def _decode(self, job: Job, ahead: ListeningAhead) -> str:
        """Decode the original, keep the sound, cut it into segments; return what was wrong with the file although it could be used."""
        lectures = self.library.lectures
        if lectures.has_sound(job.lecture_id):  # decoded before, or brought by another owner
            return self._cut(job, self._counted(job, lectures.read_sound(job.lecture_id), 0), ahead, lambda: "")
        with open_audio(lectures.original_path(job.lecture_id), self.limits) as stream:
            total = to_samples(stream.probe.duration_s or 0)
            blocks = self._counted(job, lectures.write_sound(job.lecture_id, stream), total)
            return self._cut(job, blocks, ahead, lambda: stream.warning or "")

    def _restore(self, job: Job) -> str:
        """Decode the original again if the decoded sound is gone or damaged; segments and what was heard in them stay."""
        lectures = self.library.lectures
        if lectures.has_sound(job.lecture_id):
            return job.message
        log.info("the decoded sound of lecture %s is gone; it is made again", job.lecture_id)
        with (
            open_audio(lectures.original_path(job.lecture_id), self.limits) as stream,
            closing(self._counted(job, lectures.write_sound(job.lecture_id, stream), to_samples(stream.probe.duration_s or 0))) as blocks,
        ):
            for _ in blocks:
                pass
        return job.message

    def _cut(self, job: Job, blocks: "_Counted", ahead: ListeningAhead, warning: Callable[[], str]) -> str:
        spans = []
        with closing(blocks):  # a cancelled decoder ends at once
            for one in cut_segments(blocks, self.segmenter, job.lecture_id):
                spans.append(one.segment.span)
                ahead.offer(one)
        if not spans:
            raise SilentAudio("nobody speaks in this file: listen to it, and add the one that was meant")
        self.library.lectures.add_run(job.lecture_id, self.segmenter.settings, spans, blocks.num_samples, warning())
        return warning()

    def _counted(self, job: Job, blocks: Generator[Samples, None, None], total: int) -> "_Counted":
        return _Counted(blocks, lambda done: self._note(job, JobStage.DECODING, done, max(total, done)))

    def _listen(self, job: Job, keeper: IndexKeeper, ahead: ListeningAhead) -> None:
        """Embed what this model has not embedded yet: first into the library, then into the index."""
        lectures = self.library.lectures
        pending = lectures.pending(job.lecture_id, keeper.fingerprint)
        total = len(lectures.segments(job.lecture_id))
        done = total - len(pending)
        self._note(job, JobStage.LISTENING, done, total)
        with closing(ahead.embed(pending, lambda one: SegmentAudio(one, lectures.clip(one.lecture_id, one.span)))) as embedded:
            for one in embedded:
                lectures.add_embedded([one])
                keeper.add(one)
                done += 1
                self._note(job, JobStage.LISTENING, done, total)

    def _note(self, job: Job, stage: JobStage, done: int, total: int) -> None:
        if not self.library.jobs.progress(job.id, stage, done, total):
            raise JobStopped

    def _keep_house(self, fingerprint: str) -> None:
        """What is done when nobody waits: what has expired goes, what is out of date is embedded anew."""
        self.library.lectures.delete_expired(datetime.now(UTC))
        for lecture in self.library.lectures.outdated(fingerprint)[:1]:
            self.library.jobs.queue(lecture.id, lecture.owner_id, JobKind.REEMBED)

    @contextmanager
    def _locked(self, wait_s: float) -> Iterator[None]:
        self.lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock_path)
        try:
            lock.acquire(timeout=wait_s)
        except Timeout as error:
            raise WorkerBusy("another worker is at work on this library; it takes the jobs, or stop it first") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Show every two seconds that this worker lives."""
        name, over = f"{platform.node()}:{os.getpid()}", threading.Event()

        def beat() -> None:
            while True:
                try:
                    self.library.jobs.beat(name)
                except StorageError as error:  # a busy database: the next beat will do
                    log.warning("no sign of life given: %s", error)
                if over.wait(BEAT_S):
                    return

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class _Counted:
    """Passes blocks through and tells how many samples went by, a few times a second."""

    def __init__(self, blocks: Generator[Samples, None, None], tell: Callable[[int], None]) -> None:
        self._blocks, self._tell = blocks, tell
        self.num_samples = 0

    def close(self) -> None:
        """Close what the blocks come from."""
        self._blocks.close()

    def __iter__(self) -> Iterator[Samples]:
        told_at = 0.0
        for block in self._blocks:
            self.num_samples += len(block)
            if time.monotonic() - told_at > 0.3:
                self._tell(self.num_samples)
                told_at = time.monotonic()
            yield block
