"""The whole application in one class: `SpokenQA`, with two main verbs, `ingest` and `ask`, and the small ones around them.

Pages, the command line and adapters only call it. It never works on a lecture itself: `ingest` keeps the file and queues a job, which the
worker (`app/worker.py`) takes, so that nothing is bound to the life of a page.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from app.answering import answers, broken_off, settled
from app.errors import NothingToSearch
from app.found import Asked, Found
from app.listening import cut_segments
from app.titles import in_one_line, title_from
from generator.base import Generator
from generator.domain import Answer, AnswerStatus
from retriever.audio import open_audio, read_audio
from retriever.base import Retriever, Segmenter
from retriever.config import AudioLimits
from retriever.domain import MAX_QUESTION_S, Audio, Question, Span
from retriever.errors import AudioLimitExceeded
from retriever.index import LiveIndex
from storage.base import Library
from storage.domain import (
    LOCAL_OWNER,
    AddedLecture,
    HeardSegment,
    HistoryEntry,
    HistoryPage,
    HistoryQuery,
    Job,
    JobKind,
    JobState,
    LectureInfo,
    NewLecture,
)
from storage.errors import SoundMissing

HISTORY_PAGE = 500
WORKER_SILENCE = timedelta(seconds=15)  # a worker beats every two seconds


@dataclass(frozen=True, slots=True, eq=False)
class SpokenQA:
    """One owner's view of the application; `replace(qa, owner=…)` gives another's over the same parts."""

    library: Library
    retriever: Retriever
    index: LiveIndex
    generator: Generator
    segmenter: Segmenter
    limits: AudioLimits
    num_hits: int = 5
    owner: UUID = LOCAL_OWNER

    # The two main verbs

    def ingest(
        self, path: Path, title: str | None = None, *, course: str | None = None, move: bool = False, file_name: str = ""
    ) -> AddedLecture:
        """Keep a recording and queue the work on it; it becomes searchable segment by segment.

        A file that is already there changes nothing, unless the work on it failed or was cancelled, or its decoded sound is gone from the
        disk: then it is queued again.

        Raises:
            UnreadableAudio: the file cannot be a lecture; the message says why.
            DiskFull: no room.
        """
        with open_audio(path, self.limits):  # refuses at the door what can never work
            pass
        added = self.library.lectures.add(
            NewLecture(path, in_one_line(title or "") or title_from(path), course=course, move=move, file_name=file_name), self.owner
        )
        if not added.new and added.job.state.is_over and not self._is_whole(added.lecture.id):
            return replace(added, job=self.resume(added.lecture.id))
        return added

    def ask(self, question: Question, num_hits: int | None = None) -> Asked:
        """Retrieve, answer, remember. The question is kept before anything is searched, the answer before it is shown.

        Raises:
            NothingToSearch: no lecture in scope is searchable yet; the question is in the history all the same.
        """
        *_, last = self.asking(question, num_hits)
        return last

    def asking(self, question: Question, num_hits: int | None = None) -> Iterator[Asked]:
        """Ask, and yield the answer as it comes, the finished one last; each state is in the history before it is yielded.

        Whoever closes the iterator before the end leaves an answer that says that it broke off.

        Raises:
            NothingToSearch: no lecture in scope is searchable yet; the question is in the history all the same.
        """
        self.library.history.add_question(question, self.owner)
        found = self.search(question, num_hits)
        self.library.history.add_question(found.question, self.owner)  # now with what was heard
        started = time.perf_counter()
        asked: Asked | None = None
        try:
            with closing(answers(self.generator, found.question, found.evidence)) as states:
                for answer in states:
                    asked = self._keep(found, answer, _since(started))
                    yield asked
        finally:
            if asked is None or asked.answer.status is AnswerStatus.STREAMING:
                self._keep(found, broken_off(asked.answer if asked else None), _since(started))

    def search(self, question: Question, num_hits: int | None = None) -> Found:
        """Retrieve only; nothing is remembered.

        Raises:
            NothingToSearch: no lecture in scope is searchable yet.
        """
        scope = self.library.lectures.searchable(self.owner, self.retriever.fingerprint, question.scope)
        if not scope:
            raise NothingToSearch(
                "no lecture here is searchable yet: add one, or wait until the first minutes of one have been listened to"
            )
        index = self.index.current()
        if index is None:
            raise NothingToSearch(
                "the index is not there: the worker makes it within seconds, so try again; if no worker runs, `askaloud rebuild` makes it"
            )
        started = time.perf_counter()
        encoded = self.retriever.encode(question)
        encode_ms = _since(started)
        started = time.perf_counter()
        hits = index.search(encoded, num_hits or self.num_hits, scope)
        evidence = self.library.lectures.evidence(hits, self.owner, self.retriever.fingerprint)
        heard = question if encoded.heard is None else replace(question, heard=encoded.heard)
        return Found(heard, tuple(e.hit for e in evidence), tuple(evidence), {"encode": encode_ms, "search": _since(started)})

    # Questions asked before

    def correct(self, question_id: UUID, text: str) -> Asked:
        """Ask again in other words; the sound and the scope are kept. Raises NotFound, NothingToSearch."""
        return self.ask(self.corrected(question_id, text))

    def corrected(self, question_id: UUID, text: str) -> Question:
        """Return a question in other words; the sound and the scope are kept. Raises NotFound."""
        return replace(self.repeated(question_id), text=text, corrects=question_id)

    def ask_again(self, question_id: UUID) -> Asked:
        """Ask the same question anew, of the lectures as they are now. Raises NotFound, NothingToSearch."""
        return self.ask(self.repeated(question_id))

    def repeated(self, question_id: UUID) -> Question:
        """Return a question like a remembered one, to be asked anew. Raises NotFound."""
        entry = self.entry(question_id)
        audio = self.question_audio(question_id) if entry.has_audio else None
        return replace(entry.question, audio=audio, id=uuid4())

    def history(self, query: HistoryQuery, limit: int = 50, offset: int = 0) -> HistoryPage:
        """Return remembered questions that match, newest first."""
        page = self.library.history.find(self.owner, query, limit, offset)
        return replace(page, entries=tuple(map(settled, page.entries)))

    def whole_history(self, query: HistoryQuery) -> Iterator[HistoryEntry]:
        """Yield all remembered questions that match, newest first, a page of them in memory at a time."""
        offset = 0
        while entries := self.history(query, HISTORY_PAGE, offset).entries:
            yield from entries
            offset += len(entries)

    def entry(self, question_id: UUID) -> HistoryEntry:
        """Return a remembered question. Raises NotFound."""
        return settled(self.library.history.get(question_id, self.owner))

    def question_audio(self, question_id: UUID) -> Audio:
        """Return a question's sound. Raises NotFound, SoundMissing."""
        return self.library.history.question_audio(question_id, self.owner)

    def forget(self, question_id: UUID) -> None:
        """Delete a question with its answer and sound. Raises NotFound."""
        self.library.history.delete(question_id, self.owner)

    def forget_all(self) -> int:
        """Delete all questions with their answers and sound; return how many."""
        return self.library.history.delete_all(self.owner)

    def read_question(self, path: Path) -> Audio:
        """Read a spoken question of at most a minute from a file. Raises UnreadableAudio."""
        try:
            return read_audio(path, self.limits, MAX_QUESTION_S)
        except AudioLimitExceeded as error:
            raise AudioLimitExceeded(f"a spoken question may last {MAX_QUESTION_S:g} s at most: put it more briefly, or type it") from error

    # Lectures and the work on them

    def lectures(self) -> Sequence[LectureInfo]:
        """Return all lectures, the newest first."""
        return self.library.lectures.list(self.owner, self.retriever.fingerprint)

    def lecture(self, lecture_id: UUID) -> LectureInfo:
        """Return a lecture. Raises NotFound."""
        return self.library.lectures.info(lecture_id, self.owner, self.retriever.fingerprint)

    def rename(self, lecture_id: UUID, title: str, course: str | None) -> None:
        """Change a lecture's title and course. Raises NotFound."""
        self.library.lectures.rename(lecture_id, self.owner, in_one_line(title), course)

    def delete_lecture(self, lecture_id: UUID) -> None:
        """Delete a lecture with its sound, segments and words; the history that cites it says so. Raises NotFound."""
        self.library.lectures.delete(lecture_id, self.owner)

    def heard(self, lecture_id: UUID) -> Sequence[HeardSegment]:
        """Return what was heard in a lecture, in order of time. Raises NotFound."""
        return self.library.lectures.heard(lecture_id, self.owner, self.retriever.fingerprint)

    def clip(self, lecture_id: UUID, span: Span) -> Audio:
        """Cut exactly this stretch out of a lecture's sound. Raises NotFound, SoundMissing.

        Decoded sound that is gone from the disk is queued to be made again from the original, if that is still there.
        """
        self.library.lectures.get(lecture_id, self.owner)
        try:
            return self.library.lectures.clip(lecture_id, span)
        except SoundMissing as error:
            if self.library.lectures.has_sound(lecture_id):  # all of it, but damaged
                raise
            raise SoundMissing(self._restore_sound(lecture_id)) from error

    def job(self, job_id: UUID) -> Job:
        """Return a job. Raises NotFound."""
        return self.library.jobs.get(job_id, self.owner)

    def cancel(self, job_id: UUID) -> Job:
        """Stop a job; what was done so far is kept and stays searchable. Raises NotFound."""
        return self.library.jobs.cancel(job_id, self.owner)

    def resume(self, lecture_id: UUID) -> Job:
        """Queue the rest of the work on a lecture; decoded sound that is gone is made again. Raises NotFound."""
        return self.library.jobs.queue(lecture_id, self.owner, JobKind.INGEST)

    def worker_is_alive(self) -> bool:
        """Whether a worker gave a sign of life lately; if not, jobs wait."""
        seen_at = self.library.jobs.worker_seen_at()
        return seen_at is not None and datetime.now(UTC) - seen_at < WORKER_SILENCE

    # Sound that is not kept

    def listen(self, path: Path) -> Iterator[HeardSegment]:
        """Yield what the retriever hears in a file, segment by segment; nothing is kept; sound without speech yields nothing.

        Raises:
            UnreadableAudio: the file yields no sound.
        """
        with open_audio(path, self.limits) as stream, closing(self.retriever.embed(cut_segments(stream, self.segmenter))) as embedded:
            for one in embedded:
                yield HeardSegment(one.segment, one.words)

    def _is_whole(self, lecture_id: UUID) -> bool:
        return self.lecture(lecture_id).is_complete and self.library.lectures.has_sound(lecture_id)

    def _restore_sound(self, lecture_id: UUID) -> str:
        """Queue the decoding of a lecture whose decoded sound is gone; return what to tell.

        Raises:
            SoundMissing: the original is gone as well; the message says that adding the file again brings all back.
        """
        info = self.lecture(lecture_id)
        self.library.lectures.original_path(lecture_id)
        gone = f"the sound of {info.lecture.title!r} is gone from the disk"
        if info.job is not None and info.job.state is JobState.FAILED:  # not over and over
            return f"{gone}, and making it again failed ({info.job.message}); add its file again"
        self.resume(lecture_id)
        return f"{gone}; the worker makes it again from the original file: try again in a moment"

    def _keep(self, found: Found, answer: Answer, answer_ms: float) -> Asked:
        timings = found.timings_ms | {"answer": answer_ms}
        timings["total"] = sum(timings.values())
        self.library.history.add_answer(found.question.id, self.owner, answer, found.evidence, self.retriever.fingerprint, timings)
        return Asked(replace(found, timings_ms=timings), answer)


def _since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
