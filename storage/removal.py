"""Deleting, in the order that a crash forgives: mark, SQL, files, unmark. Also sweeps what a crash left between these."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, select
from sqlalchemy.orm import Session

from storage.database import PAGE, Database, bump_generations
from storage.errors import DatabaseUnusable, DiskFull, StorageError
from storage.files import Kind, SoundFiles
from storage.tables import CourseRow, LectureRow, QuestionRow, SegmentRow, SoundRow, VectorRow


def remove_lectures(db: Database, files: SoundFiles, *which: ColumnElement[bool]) -> int:
    """Remove the lectures that meet all conditions, with all that belongs to them; return how many."""
    removed = 0
    while True:  # some hundred at a time: one transaction stays small
        with files.lock():
            with db.write() as session:
                rows = session.execute(select(LectureRow.id, LectureRow.content_hash).where(*which).limit(PAGE).with_for_update()).all()
                gone = _delete_lectures(session, [row.id for row in rows], {row.content_hash for row in rows}) if rows else set()
                _mark(files, Kind.LECTURE, gone)
            for content_hash in gone:
                files.remove(Kind.LECTURE, content_hash)
        removed += len(rows)
        if len(rows) < PAGE:
            return removed


def remove_questions(db: Database, files: SoundFiles, *which: ColumnElement[bool]) -> int:
    """Remove the questions that meet all conditions, with answers and sound; return how many."""
    removed = 0
    while True:
        with files.lock():
            with db.write() as session:
                rows = session.execute(select(QuestionRow.id, QuestionRow.audio_hash).where(*which).limit(PAGE).with_for_update()).all()
                session.execute(delete(QuestionRow).where(QuestionRow.id.in_([row.id for row in rows])))
                hashes = {row.audio_hash for row in rows if row.audio_hash is not None}
                gone = hashes - referred(session, Kind.QUESTION, hashes)
                _mark(files, Kind.QUESTION, gone)
            for audio_hash in gone:
                files.remove(Kind.QUESTION, audio_hash)
        removed += len(rows)
        if len(rows) < PAGE:
            return removed


@contextmanager
def keeping(db: Database, files: SoundFiles, kind: Kind, content_hash: str) -> Iterator[None]:
    """Lock and mark while a file is given its place and the row that refers to it is committed; if that fails, the file goes again."""
    with files.lock():
        files.mark(kind, [content_hash])
        try:
            yield
        except BaseException:
            with suppress(StorageError):  # else the mark stays for a later sweep
                _settle(db, files, kind, content_hash)
            raise
        files.unmark(kind, content_hash)


def sweep(db: Database, files: SoundFiles, timeout_s: float) -> int:
    """Remove what a crash left of files that were being kept or removed, and half-written parts of killed processes; return how many.

    Raises:
        DatabaseUnusable: the files stay locked for longer than `timeout_s`.
    """
    if not files.has_leftovers():
        return 0
    with files.lock(timeout_s):
        removed = files.remove_dead_parts()
        removed += sum(_settle(db, files, kind, content_hash) for kind, content_hash in files.marked())
    return removed


def sweep_if_free(db: Database, files: SoundFiles) -> None:
    """Sweep unless others are busy with files: then it is left to the next who opens the library."""
    with suppress(DatabaseUnusable):
        sweep(db, files, timeout_s=0.0)


def referred(session: Session, kind: Kind, hashes: Iterable[str]) -> set[str]:
    """Return those of the hashes that a lecture or question refers to."""
    column = LectureRow.content_hash if kind is Kind.LECTURE else QuestionRow.audio_hash
    wanted, found = list(hashes), set[str]()
    for first in range(0, len(wanted), PAGE):
        found.update(one for one in session.scalars(select(column).where(column.in_(wanted[first : first + PAGE]))) if one is not None)
    return found


def remove_empty_courses(session: Session, owner: UUID | None = None) -> None:
    """Remove courses without lectures, of one owner or of all."""
    used: Select[UUID | None] = select(LectureRow.course_id).where(LectureRow.course_id.is_not(None))
    of_owner = () if owner is None else (CourseRow.owner_id == owner,)
    session.execute(delete(CourseRow).where(CourseRow.id.not_in(used), *of_owner).execution_options(synchronize_session=False))


def bump_concerned(session: Session, lecture_ids: Iterable[UUID]) -> None:
    """Move on the generations of all models that embedded segments of these lectures."""
    statement = select(VectorRow.fingerprint).distinct().join(SegmentRow, SegmentRow.id == VectorRow.segment_id)
    bump_generations(session, set(session.scalars(statement.where(SegmentRow.lecture_id.in_(list(lecture_ids))))))


def _delete_lectures(session: Session, ids: list[UUID], hashes: set[str]) -> set[str]:
    bump_concerned(session, ids)
    session.execute(delete(LectureRow).where(LectureRow.id.in_(ids)))
    gone = hashes - referred(session, Kind.LECTURE, hashes)
    session.execute(delete(SoundRow).where(SoundRow.content_hash.in_(gone)))
    remove_empty_courses(session)
    return gone


def _settle(db: Database, files: SoundFiles, kind: Kind, content_hash: str) -> bool:
    """Make files agree with SQL; return whether they had to go."""
    with db.read() as session:
        wanted = bool(referred(session, kind, {content_hash}))
    if wanted:
        files.unmark(kind, content_hash)
    else:
        files.remove(kind, content_hash)
    return not wanted


def _mark(files: SoundFiles, kind: Kind, hashes: set[str]) -> None:
    with suppress(
        DiskFull
    ):  # a full disk must not forbid to make room; without the mark, a crash right now leaves files that `check` names
        if hashes:
            files.mark(kind, hashes)
