"""The nouns of storage: jobs, lectures as listed, questions as remembered."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final
from uuid import UUID

from generator.domain import Answer, Citation
from retriever.domain import Hit, Lecture, Question, Segment, Word

LOCAL_OWNER: Final = UUID("00000000-0000-0000-0000-000000000001")  # the one user of a personal installation


class JobKind(StrEnum):
    """What a worker does."""

    INGEST = "ingest"
    REEMBED = "reembed"


class JobState(StrEnum):
    """States only move forward: queued, running, then one of the three ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class JobStage(StrEnum):
    """Where a running job is."""

    WAITING = "waiting"
    DECODING = "decoding"  # done and total count samples
    LISTENING = "listening"  # done and total count segments


@dataclass(frozen=True, slots=True)
class Job:
    """Work on one lecture.

    Attributes:
        done, total: in the stage's unit; total is 0 while unknown.
        message: what the user should know: a warning, or why it failed and the way out.
        attempts: how often a worker began it since a segment was last done; more than one means that a worker died.
        cancel_requested: the user asked to stop; the worker ends it at the next segment.
        stage_started_at: since when the present attempt is in this stage, and `stage_base` how much was done then; both serve the ETA.
    """

    id: UUID
    owner_id: UUID
    lecture_id: UUID
    kind: JobKind
    state: JobState
    stage: JobStage
    done: int
    total: int
    message: str
    attempts: int
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    stage_started_at: datetime | None = None
    stage_base: int = 0


@dataclass(frozen=True, slots=True)
class NewLecture:
    """A file that shall become a lecture.

    Attributes:
        path: the file; its bytes are copied into the library, or moved if `move`.
        file_name: what the user calls the file; empty means that `path` tells.
    """

    path: Path
    title: str
    language: str = "en"
    course: str | None = None
    expires_at: datetime | None = None
    move: bool = False
    file_name: str = ""


@dataclass(frozen=True, slots=True)
class AddedLecture:
    """What became of a file: its lecture, whether that is new, and the job that works on it (the latest, if not new)."""

    lecture: Lecture
    new: bool
    job: Job


@dataclass(frozen=True, slots=True)
class LectureInfo:
    """A lecture as listed.

    Attributes:
        num_segments: of the current segmentation run; 0 until it has been decoded.
        num_embedded: of these, made searchable by the model asked for.
        num_bytes: on disk, original and decoded sound.
        job: the latest.
        warning: what was wrong with the file although it could be used, else empty.
    """

    lecture: Lecture
    course: str | None
    file_name: str
    added_at: datetime
    num_segments: int
    num_embedded: int
    num_bytes: int
    job: Job | None
    warning: str

    @property
    def is_complete(self) -> bool:
        """Whether all of it is searchable."""
        return 0 < self.num_segments == self.num_embedded


@dataclass(frozen=True, slots=True)
class HeardSegment:
    """A segment with the words one model heard in it."""

    segment: Segment
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """Evidence as it was when the question was asked; the lecture may be gone since.

    Attributes:
        lecture_deleted: its sound can no longer be played.
    """

    hit: Hit
    lecture_title: str
    text: str
    lecture_deleted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class HistoryEntry:
    """A question with all that came of it.

    Attributes:
        question: without its sound; if nobody typed words, an empty sound stands for what `History.question_audio` gives; see `has_audio`.
        evidence: in the order of rank.
        retriever: fingerprint of the model that searched.
        timings_ms: "encode", "search", "answer", "total".
    """

    question: Question
    has_audio: bool
    asked_at: datetime
    answer: Answer | None
    evidence: tuple[EvidenceRecord, ...]
    retriever: str
    timings_ms: Mapping[str, float]

    def title_of(self, citation: Citation) -> str:
        """Return the title of the cited lecture as it was when the question was asked."""
        return next((e.lecture_title for e in self.evidence if e.hit.segment.lecture_id == citation.segment.lecture_id), "deleted lecture")


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which entries of the history to show; all conditions hold at once.

    Attributes:
        words: each must occur in the question, what was heard, or the answer; case does not matter.
        lecture_id: the question cites it or was limited to it.
        supported: whether the lectures held the answer.
        spoken: whether the question has sound.
        since, until: of asking, UTC, half-open.
    """

    words: str = ""
    lecture_id: UUID | None = None
    supported: bool | None = None
    spoken: bool | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class HistoryPage:
    """Some entries, newest first, and how many there are in all."""

    entries: tuple[HistoryEntry, ...]
    total: int
