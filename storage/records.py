"""Rows to records: what leaves this package is made here."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from retriever.domain import Lecture, Segment
from storage.columns import utc_now
from storage.database import insert_new
from storage.domain import Job
from storage.errors import NotFound
from storage.tables import JobRow, LectureRow, OwnerRow, SegmentRow, SoundRow


def not_found(what: str, number: UUID) -> NotFound:
    """Return the error for a lecture, job or question that this owner does not have."""
    return NotFound(f"there is no {what} {number}; it may have been deleted: look at the list again")


def to_lecture(row: LectureRow, sound: SoundRow) -> Lecture:
    """Return a lecture."""
    return Lecture(row.id, row.owner_id, row.content_hash, row.title, row.language, sound.num_samples)


def to_job(row: JobRow) -> Job:
    """Return a job."""
    return Job(
        id=row.id,
        owner_id=row.owner_id,
        lecture_id=row.lecture_id,
        kind=row.kind,
        state=row.state,
        stage=row.stage,
        done=row.done,
        total=row.total,
        message=row.message,
        attempts=row.attempts,
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        stage_started_at=row.stage_started_at,
        stage_base=row.stage_base,
    )


def select_segments() -> Select[UUID, int, int, UUID]:
    """Select the fields of Segment, in its order."""
    return select(SegmentRow.lecture_id, SegmentRow.start, SegmentRow.end, SegmentRow.run_id)


def lecture_of(session: Session, lecture_id: UUID, owner: UUID) -> tuple[LectureRow, SoundRow]:
    """Return a lecture's rows. Raises NotFound if it is not this owner's."""
    statement = select(LectureRow, SoundRow).join(SoundRow).where(LectureRow.id == lecture_id, LectureRow.owner_id == owner)
    rows = session.execute(statement).one_or_none()
    if rows is None:
        raise not_found("lecture", lecture_id)
    return rows[0], rows[1]


def sound_of(session: Session, lecture_id: UUID) -> SoundRow:
    """Return the sound of a lecture, whoever owns it. Raises NotFound."""
    row = session.scalars(select(SoundRow).join(LectureRow).where(LectureRow.id == lecture_id)).one_or_none()
    if row is None:
        raise not_found("lecture", lecture_id)
    return row


def note_owner(session: Session, owner: UUID) -> None:
    """Make sure that the owner, who has shown elsewhere who he is, can be referred to."""
    if session.get(OwnerRow, owner) is None:
        insert_new(session, OwnerRow, [{"id": owner, "name": str(owner), "created_at": utc_now()}])


def segments_of(rows: Sequence[tuple[UUID, int, int, UUID]]) -> list[Segment]:
    """Return segments from what `select_segments` selects."""
    return [Segment(*row) for row in rows]
