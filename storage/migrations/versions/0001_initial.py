"""The first schema.

Revision ID: 0001
Revises:
"""

import uuid
from datetime import UTC, datetime
from importlib.util import find_spec

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Moment = sa.DateTime(timezone=True)


def _vector_type() -> sa.LargeBinary | sa.types.UserDefinedType[object]:
    """pgvector's type if this server has the extension or lets us make it, and its Python package is here; else bytes."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql" or find_spec("pgvector") is None:
        return sa.LargeBinary()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
    except sa.exc.DBAPIError:
        return sa.LargeBinary()
    from pgvector.sqlalchemy import VECTOR

    return VECTOR()


def upgrade() -> None:
    op.create_table(
        "index_generations",
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_index_generations"),
    )
    op.create_table(
        "owners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_owners"),
    )
    op.create_table(
        "sounds",
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("suffix", sa.String(length=16), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("decoded", sa.Boolean(), nullable=False),
        sa.Column("decoded_bytes", sa.BigInteger(), nullable=False),
        sa.Column("num_samples", sa.BigInteger(), nullable=False),
        sa.Column("added_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("content_hash", name="pk_sounds"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seen_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_workers"),
    )
    op.create_table(
        "courses",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_courses_owner_id_owners", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_courses"),
        sa.UniqueConstraint("owner_id", "name", name="uq_courses_owner_id_name"),
    )
    op.create_table(
        "questions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("heard", sa.Text(), nullable=True),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("corrects", sa.Uuid(), nullable=True),
        sa.Column("audio_hash", sa.String(length=64), nullable=True),
        sa.Column("asked_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["corrects"], ["questions.id"], name="fk_questions_corrects_questions", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_questions_owner_id_owners", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_questions"),
    )
    op.create_index("ix_questions_audio_hash", "questions", ["audio_hash"], unique=False)
    op.create_index("ix_questions_corrects", "questions", ["corrects"], unique=False)
    op.create_index("ix_questions_expires_at", "questions", ["expires_at"], unique=False)
    op.create_index("ix_questions_owner_id_asked_at", "questions", ["owner_id", "asked_at"], unique=False)
    op.create_table(
        "answers",
        sa.Column("question_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("supported", sa.Boolean(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("retriever", sa.String(length=200), nullable=False),
        sa.Column("timings_ms", sa.Text(), nullable=False),
        sa.Column("answered_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"], name="fk_answers_question_id_questions", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("question_id", name="pk_answers"),
    )
    op.create_table(
        "lectures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("added_at", Moment, nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["content_hash"], ["sounds.content_hash"], name="fk_lectures_content_hash_sounds"),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name="fk_lectures_course_id_courses", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_lectures_owner_id_owners", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_lectures"),
        sa.UniqueConstraint("owner_id", "content_hash", name="uq_lectures_owner_id_content_hash"),
    )
    op.create_index("ix_lectures_content_hash", "lectures", ["content_hash"], unique=False)
    op.create_index("ix_lectures_course_id", "lectures", ["course_id"], unique=False)
    op.create_index("ix_lectures_expires_at", "lectures", ["expires_at"], unique=False)
    op.create_table(
        "citations",
        sa.Column("question_id", sa.Uuid(), nullable=False),
        sa.Column("nearest", sa.Boolean(), nullable=False),
        sa.Column("rank", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("span_start", sa.BigInteger(), nullable=False),
        sa.Column("span_end", sa.BigInteger(), nullable=False),
        sa.Column("lecture_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("start_sample", sa.BigInteger(), nullable=False),
        sa.Column("end_sample", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["answers.question_id"], name="fk_citations_question_id_answers", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("question_id", "nearest", "rank", name="pk_citations"),
    )
    op.create_index("ix_citations_lecture_id", "citations", ["lecture_id"], unique=False)
    op.create_table(
        "evidence",
        sa.Column("question_id", sa.Uuid(), nullable=False),
        sa.Column("rank", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lecture_title", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("cosine", sa.Double(), nullable=False),
        sa.Column("lexical", sa.Double(), nullable=False),
        sa.Column("coverage", sa.Double(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=False),
        sa.Column("lecture_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("start_sample", sa.BigInteger(), nullable=False),
        sa.Column("end_sample", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["answers.question_id"], name="fk_evidence_question_id_answers", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("question_id", "rank", name="pk_evidence"),
    )
    op.create_index("ix_evidence_lecture_id", "evidence", ["lecture_id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("lecture_id", sa.Uuid(), nullable=False),
        sa.Column("language", sa.String(length=35), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("started_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("stage_started_at", Moment, nullable=True),
        sa.Column("stage_base", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", Moment, nullable=True),
        sa.ForeignKeyConstraint(["lecture_id"], ["lectures.id"], name="fk_jobs_lecture_id_lectures", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name="fk_jobs_owner_id_owners", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_lecture_id_created_at", "jobs", ["lecture_id", "created_at"], unique=False)
    op.create_index("ix_jobs_owner_id", "jobs", ["owner_id"], unique=False)
    op.create_index("ix_jobs_state_created_at", "jobs", ["state", "created_at"], unique=False)
    op.create_index(
        "uq_jobs_unfinished",
        "jobs",
        ["lecture_id", "kind"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "segmentation_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("lecture_id", sa.Uuid(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("warning", sa.Text(), nullable=False),
        sa.Column("num_segments", sa.BigInteger(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(["lecture_id"], ["lectures.id"], name="fk_segmentation_runs_lecture_id_lectures", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_segmentation_runs"),
    )
    op.create_index("ix_segmentation_runs_lecture_id", "segmentation_runs", ["lecture_id"], unique=False)
    op.create_index(
        "uq_segmentation_runs_current",
        "segmentation_runs",
        ["lecture_id"],
        unique=True,
        sqlite_where=sa.text("current"),
        postgresql_where=sa.text("current"),
    )
    op.create_table(
        "segments",
        sa.Column("id", BigId, autoincrement=False, nullable=False),
        sa.Column("lecture_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
        sa.Column("start_sample", sa.BigInteger(), nullable=False),
        sa.Column("end_sample", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("start_sample >= 0 AND start_sample < end_sample", name="ck_segments_span"),
        sa.ForeignKeyConstraint(["lecture_id"], ["lectures.id"], name="fk_segments_lecture_id_lectures", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["segmentation_runs.id"], name="fk_segments_run_id_segmentation_runs", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_segments"),
        sa.UniqueConstraint("run_id", "ordinal", name="uq_segments_run_id_ordinal"),
    )
    op.create_index("ix_segments_lecture_id", "segments", ["lecture_id"], unique=False)
    op.create_table(
        "transcripts",
        sa.Column("segment_id", BigId, nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], name="fk_transcripts_segment_id_segments", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id", "fingerprint", name="pk_transcripts"),
    )
    op.create_table(
        "vectors",
        sa.Column("segment_id", BigId, nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("dimension", sa.BigInteger(), nullable=False),
        sa.Column("vector", _vector_type(), nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], name="fk_vectors_segment_id_segments", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id", "fingerprint", name="pk_vectors"),
    )
    op.create_index("ix_vectors_fingerprint", "vectors", ["fingerprint"], unique=False)
    op.bulk_insert(
        sa.table("owners", sa.column("id", sa.Uuid()), sa.column("name", sa.Text()), sa.column("created_at", Moment)),
        [{"id": uuid.UUID("00000000-0000-0000-0000-000000000001"), "name": "local", "created_at": _now()}],
    )


def _now() -> datetime:
    now = datetime.now(UTC)
    return now if op.get_bind().dialect.name == "postgresql" else now.replace(tzinfo=None)


def downgrade() -> None:
    op.drop_table("vectors")
    op.drop_table("transcripts")
    op.drop_table("segments")
    op.drop_table("segmentation_runs")
    op.drop_table("jobs")
    op.drop_table("evidence")
    op.drop_table("citations")
    op.drop_table("lectures")
    op.drop_table("answers")
    op.drop_table("questions")
    op.drop_table("courses")
    op.drop_table("workers")
    op.drop_table("sounds")
    op.drop_table("owners")
    op.drop_table("index_generations")
