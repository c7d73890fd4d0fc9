"""The tables. Rows are private to this package and never leave it; `storage/migrations` makes the same tables, which a test compares.

What belongs to a user says so itself (`owner_id`) or through what it hangs on. Deleting an owner, a lecture, a run or a question takes
everything that hangs on it along. Only the history outlives lectures: what it cites is copied, and no foreign key binds it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, Enum, ForeignKey, Index, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from generator.domain import AnswerStatus
from retriever.domain import Vector, Word
from storage.columns import BigId, CleanText, JsonText, UtcDateTime, VectorColumn, WordsText, utc_now
from storage.domain import JobKind, JobStage, JobState

Fingerprint = String(200)
ContentHash = String(64)


def _words(enum: type[JobKind | JobState | JobStage | AnswerStatus]) -> Enum:
    """Store an enumeration as its values, in text: a value added later needs no change of the table."""
    return Enum(enum, values_callable=lambda kinds: [kind.value for kind in kinds], native_enum=False, create_constraint=False, length=20)


EMPTY = text("''")  # the default of a column that was added to a table with rows


class Base(DeclarativeBase):
    """Base of all tables; names of constraints are fixed so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, str: CleanText, int: BigInteger}  # noqa: RUF012 (SQLAlchemy reads it from the class)


class OwnerRow(Base):
    """Somebody who owns lectures and asks questions."""

    __tablename__ = "owners"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class CourseRow(Base):
    """A name that lectures of one owner share."""

    __tablename__ = "courses"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    name: Mapped[str]


class SoundRow(Base):
    """The sound of one or more lectures (of different owners), by the SHA-256 of its original bytes. Goes with the last of them."""

    __tablename__ = "sounds"

    content_hash: Mapped[str] = mapped_column(ContentHash, primary_key=True)
    suffix: Mapped[str] = mapped_column(String(16))
    num_bytes: Mapped[int]
    decoded: Mapped[bool] = mapped_column(default=False)
    decoded_bytes: Mapped[int] = mapped_column(default=0)
    num_samples: Mapped[int] = mapped_column(default=0)
    added_at: Mapped[datetime] = mapped_column(default=utc_now)


class LectureRow(Base):
    """A lecture."""

    __tablename__ = "lectures"
    __table_args__ = (UniqueConstraint("owner_id", "content_hash"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    content_hash: Mapped[str] = mapped_column(ContentHash, ForeignKey("sounds.content_hash"), index=True)
    course_id: Mapped[UUID | None] = mapped_column(ForeignKey("courses.id", ondelete="SET NULL"), index=True)
    title: Mapped[str]
    language: Mapped[str] = mapped_column(String(35))
    file_name: Mapped[str]
    added_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime | None] = mapped_column(index=True)


class RunRow(Base):
    """A cutting of one lecture into segments; the segments of older runs are gone, their settings stay."""

    __tablename__ = "segmentation_runs"
    __table_args__ = (
        Index("uq_segmentation_runs_current", "lecture_id", unique=True, sqlite_where=text("current"), postgresql_where=text("current")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    lecture_id: Mapped[UUID] = mapped_column(ForeignKey("lectures.id", ondelete="CASCADE"), index=True)
    settings: Mapped[str]
    warning: Mapped[str]
    num_segments: Mapped[int]
    current: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class SegmentRow(Base):
    """A segment of a lecture's current run. `ordinal` counts from 0 in order of time, so that neighbours are found by number."""

    __tablename__ = "segments"
    __table_args__ = (
        UniqueConstraint("run_id", "ordinal"),
        CheckConstraint("start_sample >= 0 AND start_sample < end_sample", name="span"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    lecture_id: Mapped[UUID] = mapped_column(ForeignKey("lectures.id", ondelete="CASCADE"), index=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("segmentation_runs.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    start: Mapped[int] = mapped_column("start_sample")
    end: Mapped[int] = mapped_column("end_sample")


class VectorRow(Base):
    """What one model made of a segment, to search by."""

    __tablename__ = "vectors"

    segment_id: Mapped[int] = mapped_column(BigId, ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Fingerprint, primary_key=True, index=True)
    dimension: Mapped[int]
    vector: Mapped[Vector] = mapped_column(VectorColumn)


class TranscriptRow(Base):
    """What one model heard in a segment."""

    __tablename__ = "transcripts"

    segment_id: Mapped[int] = mapped_column(BigId, ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Fingerprint, primary_key=True)
    text: Mapped[str]
    words: Mapped[tuple[Word, ...]] = mapped_column(WordsText)


class GenerationRow(Base):
    """How often what a model's index should hold has changed. Never deleted: a number must not come again."""

    __tablename__ = "index_generations"

    fingerprint: Mapped[str] = mapped_column(Fingerprint, primary_key=True)
    generation: Mapped[int]


class JobRow(Base):
    """Work on a lecture; at most one unfinished of a kind."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_unfinished",
            "lecture_id",
            "kind",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
        Index("ix_jobs_lecture_id_created_at", "lecture_id", "created_at"),
        Index("ix_jobs_state_created_at", "state", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"), index=True)
    lecture_id: Mapped[UUID] = mapped_column(ForeignKey("lectures.id", ondelete="CASCADE"))
    language: Mapped[str] = mapped_column(String(35))
    kind: Mapped[JobKind] = mapped_column(_words(JobKind))
    state: Mapped[JobState] = mapped_column(_words(JobState), default=JobState.QUEUED)
    stage: Mapped[JobStage] = mapped_column(_words(JobStage), default=JobStage.WAITING)
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(default="")
    attempts: Mapped[int] = mapped_column(default=0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    stage_started_at: Mapped[datetime | None]
    stage_base: Mapped[int] = mapped_column(default=0)
    expires_at: Mapped[datetime | None]


class WorkerRow(Base):
    """A worker and when it was last alive."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]


class QuestionRow(Base):
    """A question. `folded` is what words are looked up in: typed and heard, without regard to case."""

    __tablename__ = "questions"
    __table_args__ = (Index("ix_questions_owner_id_asked_at", "owner_id", "asked_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"))
    text: Mapped[str | None]
    heard: Mapped[str | None]
    folded: Mapped[str]
    scope: Mapped[Any | None] = mapped_column(JsonText)
    language: Mapped[str] = mapped_column(String(35))
    corrects: Mapped[UUID | None] = mapped_column(ForeignKey("questions.id", ondelete="SET NULL"), index=True)
    audio_hash: Mapped[str | None] = mapped_column(ContentHash, index=True)
    asked_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime | None] = mapped_column(index=True)


class AnswerRow(Base):
    """The latest answer to a question."""

    __tablename__ = "answers"

    question_id: Mapped[UUID] = mapped_column(ForeignKey("questions.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[AnswerStatus] = mapped_column(_words(AnswerStatus))
    text: Mapped[str]
    folded: Mapped[str]
    supported: Mapped[bool]
    confidence: Mapped[float]
    model: Mapped[str]
    settings: Mapped[str]
    retriever: Mapped[str] = mapped_column(Fingerprint)
    timings_ms: Mapped[Any] = mapped_column(JsonText)
    answered_at: Mapped[datetime] = mapped_column(default=utc_now)
    note: Mapped[str] = mapped_column(server_default=EMPTY)


class _Moment:
    """A segment as history keeps it: by value, for it may be deleted."""

    lecture_id: Mapped[UUID] = mapped_column(index=True)
    run_id: Mapped[UUID]
    start: Mapped[int] = mapped_column("start_sample")
    end: Mapped[int] = mapped_column("end_sample")
    text: Mapped[str]


class CitationRow(_Moment, Base):
    """A moment that an answer rests on, or (`nearest`) one that came nearest."""

    __tablename__ = "citations"

    question_id: Mapped[UUID] = mapped_column(ForeignKey("answers.question_id", ondelete="CASCADE"), primary_key=True)
    nearest: Mapped[bool] = mapped_column(primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    span_start: Mapped[int]
    span_end: Mapped[int]


class EvidenceRow(_Moment, Base):
    """A hit as it was when the question was asked."""

    __tablename__ = "evidence"

    question_id: Mapped[UUID] = mapped_column(ForeignKey("answers.question_id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    lecture_title: Mapped[str]
    score: Mapped[float]
    cosine: Mapped[float]
    lexical: Mapped[float]
    coverage: Mapped[float]
    margin: Mapped[float]
