"""The catalogue of lectures: added, listed, renamed, deleted."""

import builtins
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session

from retriever.domain import Lecture
from storage.columns import utc_now
from storage.database import Database, insert_new
from storage.domain import AddedLecture, JobKind, LectureInfo, NewLecture
from storage.files import Kind, SoundFiles, Taken
from storage.records import lecture_of, not_found, note_owner, to_job, to_lecture
from storage.removal import keeping, remove_empty_courses, remove_lectures, remove_questions
from storage.tables import CourseRow, JobRow, LectureRow, QuestionRow, RunRow, SegmentRow, SoundRow, VectorRow


class Shelf:
    """What shelves stand on: a database and files."""

    def __init__(self, db: Database, files: SoundFiles) -> None:
        self._db = db
        self._files = files


class Catalogue(Shelf):
    """The part of `storage.base.Lectures` that a user sees as a list."""

    def add(self, new: NewLecture, owner: UUID) -> AddedLecture:
        """Keep the file, then commit lecture and job together. Raises DiskFull, SoundMissing."""
        with self._files.take(new.path, move=new.move) as taken, keeping(self._db, self._files, Kind.LECTURE, taken.content_hash):
            self._keep_original(taken)
            with self._db.write() as session:
                added = _add(session, new, taken, owner)
        if new.move and not new.path.is_symlink():
            new.path.unlink(missing_ok=True)
        return added

    def get(self, lecture_id: UUID, owner: UUID) -> Lecture:
        """Return a lecture. Raises NotFound."""
        with self._db.read() as session:
            return to_lecture(*lecture_of(session, lecture_id, owner))

    def info(self, lecture_id: UUID, owner: UUID, fingerprint: str) -> LectureInfo:
        """Return a lecture as listed. Raises NotFound."""
        found = self._listed(owner, fingerprint, LectureRow.id == lecture_id)
        if not found:
            raise not_found("lecture", lecture_id)
        return found[0]

    def list(self, owner: UUID, fingerprint: str) -> Sequence[LectureInfo]:
        """Return all lectures, the newest first."""
        return self._listed(owner, fingerprint)

    def rename(self, lecture_id: UUID, owner: UUID, title: str, course: str | None) -> None:
        """Change title and course. Raises NotFound."""
        with self._db.write(durable=False) as session:
            row, _ = lecture_of(session, lecture_id, owner)
            row.title = title
            row.course_id = _course(session, owner, course)
            session.flush()
            remove_empty_courses(session, owner)

    def delete(self, lecture_id: UUID, owner: UUID) -> None:
        """Remove the lecture with all that belongs to it. Raises NotFound."""
        if not remove_lectures(self._db, self._files, LectureRow.id == lecture_id, LectureRow.owner_id == owner):
            raise not_found("lecture", lecture_id)

    def delete_expired(self, now: datetime) -> int:
        """Delete lectures and questions whose expiry has passed; return how many."""
        with self._db.read() as session:
            any_lecture = session.scalar(select(func.count()).select_from(LectureRow).where(LectureRow.expires_at <= now))
            any_question = session.scalar(select(func.count()).select_from(QuestionRow).where(QuestionRow.expires_at <= now))
        lectures = remove_lectures(self._db, self._files, LectureRow.expires_at <= now) if any_lecture else 0
        return lectures + (remove_questions(self._db, self._files, QuestionRow.expires_at <= now) if any_question else 0)

    def searchable(self, owner: UUID, fingerprint: str, scope: Collection[UUID] | None) -> frozenset[UUID]:
        """Return those lectures (within `scope`, if given) with at least one segment embedded by this model."""
        embedded = (
            select(SegmentRow.id)
            .join(VectorRow, VectorRow.segment_id == SegmentRow.id)
            .where(SegmentRow.lecture_id == LectureRow.id, VectorRow.fingerprint == fingerprint)
        )
        with self._db.read() as session:
            found = frozenset(session.scalars(select(LectureRow.id).where(LectureRow.owner_id == owner, embedded.exists())))
        return found if scope is None else found & frozenset(scope)

    def _keep_original(self, taken: Taken) -> None:
        """Give the file its place unless the same bytes are there already; what had gone from the disk comes back so."""
        with self._db.read() as session:
            known = session.get(SoundRow, taken.content_hash)
            place = self._files.original(taken.content_hash, taken.suffix if known is None else known.suffix)
        if not place.is_file() or place.stat().st_size != taken.num_bytes:
            self._files.keep(taken.part, place)

    def _listed(self, owner: UUID, fingerprint: str, *which: ColumnElement[bool]) -> builtins.list[LectureInfo]:
        with self._db.read() as session:
            rows = session.execute(_select_listed(owner).where(*which)).all()
            counts = _count_embedded(session, owner, fingerprint, which)
            return [
                LectureInfo(
                    lecture=to_lecture(row.LectureRow, row.SoundRow),
                    course=row.name,
                    file_name=row.LectureRow.file_name,
                    added_at=row.LectureRow.added_at,
                    num_segments=row.num_segments or 0,
                    num_embedded=counts.get(row.LectureRow.id, 0),
                    num_bytes=row.SoundRow.num_bytes + row.SoundRow.decoded_bytes,
                    job=None if row.JobRow is None else to_job(row.JobRow),
                    warning=row.warning or "",
                )
                for row in rows
            ]


def _add(session: Session, new: NewLecture, taken: Taken, owner: UUID) -> AddedLecture:
    note_owner(session, owner)
    now = utc_now()
    sound = {"content_hash": taken.content_hash, "suffix": taken.suffix, "num_bytes": taken.num_bytes, "added_at": now}
    insert_new(session, SoundRow, [sound | {"decoded": False, "decoded_bytes": 0, "num_samples": 0}])
    lecture_id = uuid4()
    insert_new(
        session,
        LectureRow,
        [
            {
                "id": lecture_id,
                "owner_id": owner,
                "content_hash": taken.content_hash,
                "title": new.title,
                "language": new.language,
                "file_name": new.file_name or new.path.name,
                "added_at": now,
                "expires_at": new.expires_at,
            }
        ],
    )
    kept = select(LectureRow).where(LectureRow.owner_id == owner, LectureRow.content_hash == taken.content_hash)
    row, is_new = session.scalars(kept).one(), False
    job = session.scalars(latest_jobs().where(JobRow.lecture_id == row.id)).first()
    if job is None:
        is_new = row.id == lecture_id
        row.course_id = _course(session, owner, new.course) if is_new else row.course_id
        job = JobRow(owner_id=owner, lecture_id=row.id, language=row.language, kind=JobKind.INGEST, expires_at=row.expires_at)
        session.add(job)
        session.flush()
    return AddedLecture(to_lecture(row, session.get_one(SoundRow, taken.content_hash)), is_new, to_job(job))


def latest_jobs() -> Select[JobRow]:
    """Select jobs, the newest first."""
    return select(JobRow).order_by(JobRow.created_at.desc(), JobRow.id)


def _course(session: Session, owner: UUID, name: str | None) -> UUID | None:
    """Return the course of this name, made if new."""
    name = " ".join((name or "").split())
    if not name:
        return None
    insert_new(session, CourseRow, [{"id": uuid4(), "owner_id": owner, "name": name}])
    return session.scalars(select(CourseRow.id).where(CourseRow.owner_id == owner, CourseRow.name == name)).one()


def _select_listed(owner: UUID) -> Select[LectureRow, SoundRow, str, int, str, JobRow]:
    newest = (
        select(
            JobRow.id, func.row_number().over(partition_by=JobRow.lecture_id, order_by=(JobRow.created_at.desc(), JobRow.id)).label("nth")
        )
        .join(LectureRow, LectureRow.id == JobRow.lecture_id)
        .where(LectureRow.owner_id == owner)
        .subquery()
    )
    return (
        select(LectureRow, SoundRow, CourseRow.name, RunRow.num_segments, RunRow.warning, JobRow)
        .join(SoundRow)
        .outerjoin(CourseRow)
        .outerjoin(RunRow, and_(RunRow.lecture_id == LectureRow.id, RunRow.current))
        .outerjoin(JobRow, and_(JobRow.lecture_id == LectureRow.id, JobRow.id.in_(select(newest.c.id).where(newest.c.nth == 1))))
        .where(LectureRow.owner_id == owner)
        .order_by(LectureRow.added_at.desc(), LectureRow.id)
    )


def _count_embedded(session: Session, owner: UUID, fingerprint: str, which: tuple[ColumnElement[bool], ...]) -> dict[UUID, int]:
    statement = (
        select(SegmentRow.lecture_id, func.count())
        .join(VectorRow, and_(VectorRow.segment_id == SegmentRow.id, VectorRow.fingerprint == fingerprint))
        .join(LectureRow, LectureRow.id == SegmentRow.lecture_id)
        .where(LectureRow.owner_id == owner, *which)
        .group_by(SegmentRow.lecture_id)
    )
    return {lecture_id: count for lecture_id, count in session.execute(statement)}  # noqa: C416 (rows are not pairs to mypy)
