"""Commands that add lectures: `ingest`, `record`.

Both queue the work first. Then they wait for the running worker, or are the worker themselves until their lectures are done; whatever
happens meanwhile, what is queued stays queued and what was done stays done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from app.cli.frame import AsJson, Opened, note, opened, print_json
from app.cli.recording import Device, new_recording_path, record_lecture, unfinished_recordings
from app.cli.waiting import work_off
from app.errors import AppError, CommandMisused
from app.folders import files_below
from app.settings import load_settings
from app.shapes import JsonObject
from retriever.errors import RetrieverError
from storage.domain import Job, JobState
from storage.errors import NotFound, StorageError

MEDIA = (
    "3gp aac aif aiff amr avi flac m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg "
    "oga ogg ogv opus ts wav webm wma wmv"
)  # taken from a folder; a file that is named itself is tried whatever it is called
MAX_TITLE_CHARS = 200  # as the page has it
MEDIA_SUFFIXES = frozenset(f".{name}" for name in MEDIA.split())

Title = Annotated[str | None, typer.Option("--title", "-t", help="The lecture's title; otherwise made of the file's name.")]
Course = Annotated[str | None, typer.Option("--course", help="The course it belongs to.")]


def register(commands: typer.Typer) -> None:
    """Add the commands of this file."""
    commands.command()(ingest)
    commands.command()(record)


@dataclass(frozen=True, slots=True)
class _Queued:
    """A file that is a lecture now, with the job that works on it."""

    path: Path
    job: Job
    new: bool
    since: datetime


@dataclass(eq=False)
class _Outcome:
    """What became of the files."""

    lectures: list[JsonObject] = field(default_factory=list)
    errors: list[JsonObject] = field(default_factory=list)

    def fail(self, path: Path, message: str) -> None:
        """Note that a file did not become a searchable lecture."""
        self.errors.append({"path": str(path), "message": message})


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Sound or video files; folders are walked (not hidden ones).")],
    title: Title = None,
    course: Course = None,
    as_json: AsJson = False,
) -> None:
    """Add lectures and make them searchable."""
    if title is not None and (len(paths) > 1 or paths[0].is_dir()):
        raise CommandMisused("--title names one lecture: leave it out for several files, their names become the titles")
    _require_short(title)
    with opened() as one:
        outcome = _ingest(one, paths, title, course)
    _report(outcome, as_json)


def record(
    device: Device = None,
    title: Title = None,
    course: Course = None,
    as_json: AsJson = False,
) -> None:
    """Record a lecture from the microphone of this machine, then add it. Enter or Ctrl-C ends the recording."""
    _require_short(title)
    folder = load_settings().home / "recordings"
    for left_over in unfinished_recordings(folder):
        note(f"there is a recording that was never added: `askaloud ingest '{left_over}'` adds it")
    path = new_recording_path(folder)
    record_lecture(path, device)
    with opened() as one:
        outcome = _ingest(one, [path], title or f"Lecture of {path.stem}", course, move=True)
    _report(outcome, as_json)


def _ingest(one: Opened, paths: Sequence[Path], title: str | None, course: str | None, *, move: bool = False) -> _Outcome:
    outcome = _Outcome()
    queued = list(_queue(one, paths, outcome, _Naming(title, course, move)))
    try:
        work_off(one, [(entry.path.name, entry.job.id) for entry in queued])
    except KeyboardInterrupt:
        note("\nStopped; nothing is lost. `askaloud worker` or `askaloud run` goes on where this left off.")
        raise
    for entry in queued:
        _conclude(one, entry, outcome)
    return outcome


@dataclass(frozen=True, slots=True)
class _Naming:
    title: str | None
    course: str | None
    move: bool


def _queue(one: Opened, paths: Sequence[Path], outcome: _Outcome, naming: _Naming) -> Iterator[_Queued]:
    for path in _files(paths, outcome):
        since = datetime.now(UTC)
        try:
            added = one.qa.ingest(path, naming.title, course=naming.course, move=naming.move)
        except (AppError, RetrieverError, StorageError, OSError) as error:
            outcome.fail(path, str(error))
            continue
        yield _Queued(path, added.job, added.new, since)


def _require_short(title: str | None) -> None:
    if title is not None and len(title) > MAX_TITLE_CHARS:
        raise CommandMisused(f"--title has {len(title)} characters, and {MAX_TITLE_CHARS} are the most: choose a shorter one")


def _files(paths: Sequence[Path], outcome: _Outcome) -> Iterator[Path]:
    """Yield files as they are named, and those in folders that sound or film files are named like, hidden ones left out."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = [one for one in files_below(path) if one.suffix.lower() in MEDIA_SUFFIXES]
        if not found:
            outcome.fail(path, f"there are no sound or video files in this folder ({' '.join(sorted(MEDIA_SUFFIXES))})")
        yield from found


def _conclude(one: Opened, queued: _Queued, outcome: _Outcome) -> None:
    """Say what came of a job that is over."""
    try:
        job = one.qa.job(queued.job.id)
        info = one.qa.lecture(job.lecture_id)
    except NotFound:
        outcome.fail(queued.path, "its lecture was deleted meanwhile")
        return
    if job.state is not JobState.DONE and not info.is_complete:
        outcome.fail(queued.path, job.message or f"the work on it was {job.state}")
        return
    begun = max(queued.since, job.started_at or queued.since)
    outcome.lectures.append(
        {
            "id": str(info.lecture.id),
            "title": info.lecture.title,
            "duration_s": round(info.lecture.duration_s, 3),
            "num_segments": info.num_segments,
            "seconds_taken": round(max(0.0, ((job.finished_at or begun) - begun).total_seconds()), 3),
            "new": queued.new,
        }
    )
    if info.warning:
        note(f"warning: {queued.path}: {info.warning}")


def _report(outcome: _Outcome, as_json: bool) -> None:
    for error in outcome.errors:
        note(f"error: {error['path']}: {' '.join(str(error['message']).split())}")
    if as_json:
        print_json({"lectures": outcome.lectures, "errors": outcome.errors})
    else:
        for lecture in outcome.lectures:
            state = f"searchable after {lecture['seconds_taken']} s" if lecture["new"] else "was there already"
            segments = "1 segment" if lecture["num_segments"] == 1 else f"{lecture['num_segments']} segments"
            typer.echo(f"{str(lecture['id'])[:8]}  {lecture['title']}: {segments}, {state}")
    if outcome.errors and not outcome.lectures:
        raise typer.Exit(2)
