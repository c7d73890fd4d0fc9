"""What a library must do: three shelves (lectures, jobs, history) over one database, and the sound beside it.

Every method that touches what belongs to a user takes that owner, and treats the things of others as absent. Methods without an owner
serve the worker and the index, which serve everybody.
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from generator.domain import Answer, Evidence
from retriever.domain import Audio, EmbeddedSegment, Hit, Lecture, Question, Samples, Segment, Span
from storage.domain import (
    AddedLecture,
    HeardSegment,
    HistoryEntry,
    HistoryPage,
    HistoryQuery,
    Job,
    JobKind,
    JobStage,
    JobState,
    LectureInfo,
    NewLecture,
)


class Lectures(Protocol):
    """Lectures, their segments, and what models made of them."""

    def add(self, new: NewLecture, owner: UUID) -> AddedLecture:
        """Keep the file, then commit the lecture and its job together: the original is safe on disk before anything refers to it.

        The same bytes added again by the same owner change nothing (`new` is False) and give the latest job.

        Raises:
            DiskFull: too little room; nothing is kept.
        """
        ...

    def get(self, lecture_id: UUID, owner: UUID) -> Lecture:
        """Return a lecture. Raises NotFound."""
        ...

    def info(self, lecture_id: UUID, owner: UUID, fingerprint: str) -> LectureInfo:
        """Return a lecture as listed. Raises NotFound."""
        ...

    def list(self, owner: UUID, fingerprint: str) -> Sequence[LectureInfo]:
        """Return all lectures, the newest first."""
        ...

    def rename(self, lecture_id: UUID, owner: UUID, title: str, course: str | None) -> None:
        """Change title and course (made if new, removed when empty). Raises NotFound."""
        ...

    def delete(self, lecture_id: UUID, owner: UUID) -> None:
        """Remove the lecture with all that belongs to it, and its sound if no other owner shares it.

        History that cites it stays and says so.

        Raises:
            NotFound: no such lecture.
        """
        ...

    def searchable(self, owner: UUID, fingerprint: str, scope: Collection[UUID] | None) -> frozenset[UUID]:
        """Return those lectures of the owner (within `scope`, if given) with at least one segment embedded by this model."""
        ...

    def original_path(self, lecture_id: UUID) -> Path:
        """Return the file as it was given. Raises NotFound, SoundMissing."""
        ...

    def write_sound(self, lecture_id: UUID, blocks: Iterable[Samples]) -> Generator[Samples, None, None]:
        """Keep the blocks as the lecture's decoded sound (16 kHz mono, 16 bits), complete only when the generator ends.

        Yields each block as it is kept, rounded to 16 bits.

        Raises:
            DiskFull: too little room; what was written is removed.
        """
        ...

    def has_sound(self, lecture_id: UUID) -> bool:
        """Whether the decoded sound is complete on disk (another owner may have brought it)."""
        ...

    def read_sound(self, lecture_id: UUID) -> Generator[Samples, None, None]:
        """Yield the decoded sound in blocks of a few seconds. Raises SoundMissing."""
        ...

    def clip(self, lecture_id: UUID, span: Span) -> Audio:
        """Cut exactly this span out of the decoded sound (less where the sound ends). Raises NotFound, SoundMissing."""
        ...

    def add_run(self, lecture_id: UUID, settings: str, spans: Sequence[Span], num_samples: int, warning: str) -> Sequence[Segment]:
        """Commit a segmentation run with its segments; it becomes the current one, and the older run's segments go."""
        ...

    def segments(self, lecture_id: UUID) -> Sequence[Segment]:
        """Return the current run's segments in order of time; empty until there is a run."""
        ...

    def pending(self, lecture_id: UUID, fingerprint: str) -> Sequence[Segment]:
        """Return the current run's segments that this model has not embedded, in order of time."""
        ...

    def add_embedded(self, batch: Sequence[EmbeddedSegment]) -> None:
        """Commit vectors and words in one transaction and move the generation on; segments deleted meanwhile are passed over."""
        ...

    def generation(self, fingerprint: str) -> int:
        """Return a number that grows with every change to what this model's index should hold."""
        ...

    def embedded_ids(self, fingerprint: str) -> frozenset[int]:
        """Return the ids of all segments embedded by this model, of all owners."""
        ...

    def embedded(self, fingerprint: str, ids: Collection[int] | None = None) -> Iterator[EmbeddedSegment]:
        """Yield embedded segments (all, or these), a bounded number in memory at a time."""
        ...

    def outdated(self, fingerprint: str) -> Sequence[Lecture]:
        """Return lectures, of all owners, that have segments which this model has not embedded and whose latest job is done.

        What waits or runs will be done anyway; what was cancelled or has failed waits for its owner.
        """
        ...

    def heard(self, lecture_id: UUID, owner: UUID, fingerprint: str) -> Sequence[HeardSegment]:
        """Return what this model heard, in order of time. Raises NotFound."""
        ...

    def evidence(self, hits: Sequence[Hit], owner: UUID, fingerprint: str) -> Sequence[Evidence]:
        """Return hits with words, neighbours' words and titles, in the same order; hits of lectures deleted meanwhile are left out."""
        ...

    def delete_expired(self, now: datetime) -> int:
        """Delete lectures and questions whose expiry has passed; return how many."""
        ...


class Jobs(Protocol):
    """Work that waits, runs or is over."""

    def queue(self, lecture_id: UUID, owner: UUID, kind: JobKind) -> Job:
        """Queue work on a lecture; if unfinished work of this kind exists, return that. Raises NotFound."""
        ...

    def claim(self) -> Job | None:
        """Take the next job: one left running by a worker that died, else the oldest queued; count the attempt; None if nothing waits.

        Only the one worker that holds the lock calls this. What was begun five times in a row without a segment done fails and says so.
        """
        ...

    def progress(self, job_id: UUID, stage: JobStage, done: int, total: int) -> bool:
        """Note how far a running job is; return False when the user asked to cancel it or its lecture is gone."""
        ...

    def finish(self, job_id: UUID, state: JobState, message: str = "") -> None:
        """End a running job. Raises IllegalTransition unless it is running and `state` is an end."""
        ...

    def cancel(self, job_id: UUID, owner: UUID) -> Job:
        """Cancel at once what is queued, ask the worker to stop what runs, leave alone what is over. Raises NotFound."""
        ...

    def get(self, job_id: UUID, owner: UUID) -> Job:
        """Return a job. Raises NotFound."""
        ...

    def list(self, owner: UUID) -> Sequence[Job]:
        """Return jobs, the newest first."""
        ...

    def beat(self, worker: str) -> None:
        """Note that the worker (its host and process id) is alive now."""
        ...

    def worker_seen_at(self) -> datetime | None:
        """Return when a worker was last alive, UTC; None if never."""
        ...


class History(Protocol):
    """Questions, evidence and answers."""

    def add_question(self, question: Question, owner: UUID) -> None:
        """Keep a question and its sound, before anything is searched. Adding it again updates what was heard."""
        ...

    def add_answer(
        self, question_id: UUID, owner: UUID, answer: Answer, evidence: Sequence[Evidence], retriever: str, timings_ms: Mapping[str, float]
    ) -> None:
        """Keep an answer with the evidence it was given; a later answer to the same question replaces it (streaming, then complete)."""
        ...

    def find(self, owner: UUID, query: HistoryQuery, limit: int, offset: int = 0) -> HistoryPage:
        """Return entries that match, newest first."""
        ...

    def get(self, question_id: UUID, owner: UUID) -> HistoryEntry:
        """Return an entry. Raises NotFound."""
        ...

    def question_audio(self, question_id: UUID, owner: UUID) -> Audio:
        """Return a question's sound. Raises NotFound, SoundMissing."""
        ...

    def delete(self, question_id: UUID, owner: UUID) -> None:
        """Remove an entry with its sound. Raises NotFound."""
        ...

    def delete_all(self, owner: UUID) -> int:
        """Remove all entries of an owner; return how many."""
        ...


class Library(Protocol):
    """The three shelves together."""

    @property
    def lectures(self) -> Lectures:
        """Lectures and what models made of them."""
        ...

    @property
    def jobs(self) -> Jobs:
        """Work."""
        ...

    @property
    def history(self) -> History:
        """Questions and answers."""
        ...

    def disk_usage(self) -> Mapping[str, int]:
        """Return bytes: "sound", "database", "free"."""
        ...

    def check(self) -> Sequence[str]:
        """Return what is wrong (schema, integrity, sound that is missing), a sentence each with the way out; empty if all is well."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
