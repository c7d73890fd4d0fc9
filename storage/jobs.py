"""The shelf of jobs."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from storage.catalogue import Shelf, latest_jobs
from storage.columns import utc_now
from storage.database import Values, insert_new
from storage.domain import Job, JobKind, JobStage, JobState
from storage.errors import IllegalTransition
from storage.records import lecture_of, not_found, to_job
from storage.tables import JobRow, LectureRow, WorkerRow

MAX_ATTEMPTS: Final = 5
_UNFINISHED: Final = (JobState.QUEUED, JobState.RUNNING)
_WORKER_KEPT: Final = timedelta(days=1)


class SqlJobs(Shelf):
    """`storage.base.Jobs` over a database."""

    def queue(self, lecture_id: UUID, owner: UUID, kind: JobKind) -> Job:
        """Queue work on a lecture; if unfinished work of this kind exists, return that. Raises NotFound."""
        with self._db.write(durable=False) as session:
            lecture, _ = lecture_of(session, lecture_id, owner)
            unfinished = select(JobRow).where(JobRow.lecture_id == lecture_id, JobRow.kind == kind, JobRow.state.in_(_UNFINISHED))
            row = session.scalars(unfinished).one_or_none()
            if row is None:
                insert_new(session, JobRow, [new_job(lecture, kind)])  # passed over if another process was faster
                row = session.scalars(unfinished).one()
            return to_job(row)

    def claim(self) -> Job | None:
        """Take the next job: one left running by a worker that died, else the oldest queued; None if nothing waits.

        What was to be cancelled when its worker died is cancelled now; what was begun five times without getting on has failed.
        """
        while self._anything_unfinished():
            with self._db.write(durable=False) as session:
                row = session.scalars(
                    select(JobRow)
                    .where(JobRow.state.in_(_UNFINISHED))
                    .order_by(case((JobRow.state == JobState.RUNNING, 0), else_=1), JobRow.created_at, JobRow.id)
                    .limit(1)
                    .with_for_update(skip_locked=True)
                ).one_or_none()
                if row is None:
                    return None
                if _begin(row, utc_now()):
                    session.flush()
                    return to_job(row)
        return None

    def _anything_unfinished(self) -> bool:
        """Look without the lock of a writer: a worker asks all the time."""
        with self._db.read() as session:
            return session.scalar(select(JobRow.id).where(JobRow.state.in_(_UNFINISHED)).limit(1)) is not None

    def progress(self, job_id: UUID, stage: JobStage, done: int, total: int) -> bool:
        """Note how far a running job is; return False when the user asked to cancel it or its lecture is gone."""
        with self._db.write(durable=False) as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None or row.state is not JobState.RUNNING:
                return False
            if row.stage is not stage:
                row.stage, row.stage_started_at, row.stage_base = stage, utc_now(), done
            elif stage is JobStage.LISTENING and done > row.stage_base:
                row.attempts = 1  # this attempt got on: only attempts in a row that do not are counted against the job
            row.done, row.total = done, total
            return not row.cancel_requested

    def finish(self, job_id: UUID, state: JobState, message: str = "") -> None:
        """End a running job; one whose lecture is gone has gone with it. Raises IllegalTransition."""
        if not state.is_over:
            raise IllegalTransition(f"a job ends as done, failed or cancelled, not as {state}; name one of these")
        with self._db.write(durable=False) as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None:
                return
            if row.state is not JobState.RUNNING:
                raise IllegalTransition(f"job {job_id} is {row.state} and cannot become {state}; only what runs can end: queue it anew")
            _end(row, state, message)

    def cancel(self, job_id: UUID, owner: UUID) -> Job:
        """Cancel at once what is queued, ask the worker to stop what runs, leave alone what is over. Raises NotFound."""
        with self._db.write(durable=False) as session:
            row = _job_of(session, job_id, owner)
            session.refresh(row, with_for_update=True)
            if row.state is JobState.QUEUED:
                _end(row, JobState.CANCELLED, "Cancelled before it began; resume it at any time.")
            elif row.state is JobState.RUNNING:
                row.cancel_requested = True
            session.flush()
            return to_job(row)

    def get(self, job_id: UUID, owner: UUID) -> Job:
        """Return a job. Raises NotFound."""
        with self._db.read() as session:
            return to_job(_job_of(session, job_id, owner))

    def list(self, owner: UUID) -> Sequence[Job]:
        """Return jobs, the newest first."""
        with self._db.read() as session:
            return [to_job(row) for row in session.scalars(latest_jobs().where(JobRow.owner_id == owner))]

    def beat(self, worker: str) -> None:
        """Note that the worker is alive now; workers not seen for a day are forgotten."""
        now = utc_now()
        with self._db.write(durable=False) as session:
            insert_new(session, WorkerRow, [{"name": worker, "seen_at": now}])
            session.execute(update(WorkerRow).where(WorkerRow.name == worker).values(seen_at=now))
            session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now - _WORKER_KEPT))

    def worker_seen_at(self) -> datetime | None:
        """Return when a worker was last alive, UTC; None if never."""
        with self._db.read() as session:
            return session.scalar(select(func.max(WorkerRow.seen_at)))


def new_job(lecture: LectureRow, kind: JobKind) -> Values:
    """Return the values of a queued job on this lecture."""
    return {
        "owner_id": lecture.owner_id,
        "lecture_id": lecture.id,
        "language": lecture.language,
        "kind": kind,
        "expires_at": lecture.expires_at,
    }


def _job_of(session: Session, job_id: UUID, owner: UUID) -> JobRow:
    row = session.get(JobRow, job_id)
    if row is None or row.owner_id != owner:
        raise not_found("job", job_id)
    return row


def _begin(row: JobRow, now: datetime) -> bool:
    """Begin a job, or end it where it may not be begun again; return whether it was begun."""
    if row.cancel_requested:
        _end(row, JobState.CANCELLED, "Cancelled. What was done so far is kept; resume it to do the rest.")
        return False
    if row.attempts >= MAX_ATTEMPTS:
        _end(
            row,
            JobState.FAILED,
            f"The worker died {MAX_ATTEMPTS} times in a row at the same place of this lecture. What was done so far is kept: resume it to"
            " try again, and if that fails too, convert the file to WAV, add that, and report the log.",
        )
        return False
    row.state, row.attempts = JobState.RUNNING, row.attempts + 1
    row.started_at = row.started_at or now
    row.stage, row.stage_started_at, row.stage_base, row.done, row.total = JobStage.WAITING, now, 0, 0, 0
    return True


def _end(row: JobRow, state: JobState, message: str) -> None:
    row.state, row.message, row.finished_at = state, message, utc_now()
