"""Waits for jobs with progress shown, as the worker itself if none is running."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from app.cli.frame import Opened, error_console
from app.errors import WorkerBusy
from app.progress import describe, in_words
from storage.domain import Job, JobState
from storage.errors import NotFound, StorageError

LOOK_EVERY_S = 0.3
LOCK_WAIT_S = 1.0

Named = tuple[str, UUID]  # what is shown, and the job


def work_off(one: Opened, jobs: Sequence[Named]) -> None:
    """Return when all these jobs are over."""
    if _are_over(one, jobs):
        return
    from app.build import build_worker  # noqa: PLC0415  loaded by now; at the top it would slow every command

    worker = build_worker(one.parts)
    with _shown(one, jobs), _logged(one.settings.log_folder / "worker.log"):
        while not _are_over(one, jobs):
            try:
                worker.run(lambda: _are_over(one, jobs), LOCK_WAIT_S)
            except WorkerBusy:  # then that worker does them; should it die, we take over
                continue


def _are_over(one: Opened, jobs: Sequence[Named]) -> bool:
    return all(_is_over(one, job_id) for _, job_id in jobs)


def _is_over(one: Opened, job_id: UUID) -> bool:
    try:
        return one.qa.job(job_id).state.is_over
    except NotFound:  # its lecture was deleted, and it went along
        return True


@contextmanager
def _shown(one: Opened, jobs: Sequence[Named]) -> Iterator[None]:
    """Show how far the jobs are, from a thread of its own."""
    over = threading.Event()
    columns = (TextColumn("{task.fields[name]}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=error_console()) as progress:
        tasks = [(progress.add_task("", name=name, text="", total=1.0, start=True), job_id) for name, job_id in jobs]

        def look() -> None:
            while not over.wait(LOOK_EVERY_S):
                _show_all(progress, tasks, one)

        thread = threading.Thread(target=look, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            _show_all(progress, tasks, one)


def _show_all(progress: Progress, tasks: Sequence[tuple[TaskID, UUID]], one: Opened) -> None:
    for task, job_id in tasks:
        with suppress(StorageError):  # deleted meanwhile, or the database is busy: the next look will do
            _show(progress, task, one.qa.job(job_id), one)


def _show(progress: Progress, task: TaskID, job: Job, one: Opened) -> None:
    described = describe(job, one.qa.lecture(job.lecture_id).lecture, datetime.now(UTC), worker_alive=one.qa.worker_is_alive())
    text = described.text if described.eta_s is None else f"{described.text}, about {in_words(described.eta_s)} left"
    fraction = 1.0 if job.state is JobState.DONE else described.fraction
    progress.update(task, completed=fraction or 0.0, total=None if fraction is None else 1.0, text=text)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write what the worker does to its log while we are it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("app")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
