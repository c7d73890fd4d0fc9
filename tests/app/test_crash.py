"""Kills the worker, and the application too, at random points of ingestion; what was promised must still be there.

Thirty kills in all. Jobs fail after five attempts in a row that do not get on, so every third kill waits for a segment to be done.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import psutil
import pytest
import soundfile

from app.build import Parts, build_app, build_parts
from app.service import SpokenQA
from app.settings import load_settings
from retriever.audio import read_audio
from retriever.config import AudioLimits
from retriever.domain import SAMPLE_RATE_HZ, Question
from retriever.index import LiveIndex
from storage.domain import HistoryQuery, JobStage, JobState

NUM_KILLS = 30
WAIT_S = 60.0
ASK_FOR_EVER = """
import time
from app.build import build_app, build_parts
from app.errors import NothingToSearch
from app.settings import load_settings
from retriever.domain import Question
qa = build_app(build_parts(load_settings()))
while True:
    question = Question(text="How often does the heart beat?")
    try:
        qa.ask(question)
    except NothingToSearch:
        time.sleep(0.1)
        continue
    print(question.id, flush=True)  # from here on it is promised
"""


@dataclass
class Promised:
    """What the library said it keeps; it may never say less."""

    lectures: dict[UUID, str] = field(default_factory=dict)  # and the content hash
    embedded: frozenset[int] = frozenset()
    questions: set[UUID] = field(default_factory=set)


@pytest.fixture
def short_steps(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library in which a lecture is heard in many small steps."""
    monkeypatch.setenv("ASKALOUD_SEGMENTATION__KIND", "windows")
    monkeypatch.setenv("ASKALOUD_SEGMENTATION__WINDOW_S", "5")
    monkeypatch.setenv("ASKALOUD_RETRIEVER__NUM_THREADS", "1")
    return home


@pytest.fixture
def pieces(short_lecture: Path, tmp_path: Path) -> Iterator[Path]:
    """Yield lectures that differ from each other: forty seconds of the short lecture, each from another place."""
    sound = read_audio(short_lecture, AudioLimits(), 120.0).samples

    def make() -> Iterator[Path]:
        for number in range(100):
            path = tmp_path / f"lecture-{number}.wav"
            soundfile.write(path, sound[number * 1000 :][: 40 * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ)
            yield path

    return make()


@contextmanager
def running(*command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a Python program; it is killed like a power cut, with no farewell."""
    with (Path(os.environ["ASKALOUD_HOME"]) / "test.log").open("a") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, stderr=log, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up_at, "nothing happened for a minute"
        time.sleep(0.02)


def check_promises(qa: SpokenQA, parts: Parts, promised: Promised) -> None:
    """Nothing lost, nothing doubled."""
    lectures = parts.library.lectures
    assert parts.library.check() == []
    listed = qa.lectures()
    assert {info.lecture.id: info.lecture.content_hash for info in listed} == promised.lectures
    embedded = lectures.embedded_ids(parts.retriever.fingerprint)
    assert promised.embedded <= embedded, "a segment that was done is gone"
    cut = [segment for info in listed for segment in lectures.segments(info.lecture.id)]
    assert len({segment.id for segment in cut}) == len(cut), "a segment is there twice"
    assert embedded <= {segment.id for segment in cut}
    for info in listed:
        own = lectures.segments(info.lecture.id)
        assert all(one.end <= following.start for one, following in pairwise(own)), "segments overlap"
        assert info.num_embedded == len([segment for segment in own if segment.id in embedded])
    assert all(not info.job.state.is_over or info.job.state is JobState.DONE for info in listed if info.job), "a job gave up"
    promised.embedded = embedded


def check_history(qa: SpokenQA, promised: Promised) -> None:
    page = qa.history(HistoryQuery(), limit=1000)
    ids = [entry.question.id for entry in page.entries]
    assert len(set(ids)) == len(ids) == page.total
    answered = {entry.question.id for entry in page.entries if entry.answer is not None}
    assert promised.questions <= answered, "an answer that was shown is gone"


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_killed_thirty_times_nothing_is_lost_and_nothing_is_doubled(short_steps: Path, pieces: Iterator[Path]) -> None:
    chance, promised = random.Random(20), Promised()
    parts = build_parts(load_settings())
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        for number in range(NUM_KILLS):
            if all(info.is_complete for info in qa.lectures()):
                added = qa.ingest(next(pieces))
                promised.lectures[added.lecture.id] = added.lecture.content_hash
            with running("-m", "app", "worker"):
                if number % 3 == 0:  # while segments are being done
                    until(lambda: any_progress(qa, parts, promised))
                elif number % 3 == 1:  # as the lecture is begun, decoded, cut
                    wait_for_a_change(qa)
                elif number % 6 == 2:  # at the start
                    time.sleep(chance.uniform(0.1, 1.5))
                else:
                    kill_an_asker(chance, promised)
                time.sleep(chance.uniform(0, 0.6))
            check_promises(qa, parts, promised)
            check_history(qa, promised)
        with running("-m", "app", "worker"):
            until(lambda: all(info.job is not None and info.job.state.is_over for info in qa.lectures()))
            until(lambda: index_is_level(parts))
        check_promises(qa, parts, promised)
        check_all_is_done(qa, parts)


def wait_for_a_change(qa: SpokenQA) -> None:
    """Wait until the worker has touched a job."""
    before = [info.job for info in qa.lectures()]
    until(lambda: [info.job for info in qa.lectures()] != before)


def any_progress(qa: SpokenQA, parts: Parts, promised: Promised) -> bool:
    """Whether a segment was done since the last kill, or nothing is left to do."""
    done = parts.library.lectures.embedded_ids(parts.retriever.fingerprint)
    return done > promised.embedded or all(info.is_complete for info in qa.lectures())


def num_heard(qa: SpokenQA, job_id: UUID) -> int:
    job = qa.job(job_id)
    return job.done if job.stage is JobStage.LISTENING else 0


def kill_an_asker(chance: random.Random, promised: Promised) -> None:
    """Ask and ask in another process, which dies in mid-question; note what it was told is kept."""
    with running("-c", ASK_FOR_EVER) as asker:
        assert asker.stdout is not None
        told = [asker.stdout.readline()]  # the first question was answered
        time.sleep(chance.uniform(0, 1.0))
        asker.kill()
        told += asker.stdout.read().splitlines(keepends=True)
    assert told[0], "the asking process broke down; its standard error is in test.log"
    promised.questions |= {UUID(line.strip()) for line in told if line.endswith("\n")}


def index_is_level(parts: Parts) -> bool:
    """Whether the index on disk holds what the library holds."""
    fingerprint = parts.retriever.fingerprint
    saved = LiveIndex(parts.index_folder, fingerprint, parts.retriever.dimension).current()  # the worker may be saving it
    return saved is not None and saved.ids == parts.library.lectures.embedded_ids(fingerprint)


def check_all_is_done(qa: SpokenQA, parts: Parts) -> None:
    infos = qa.lectures()
    assert all(info.is_complete and info.job is not None and info.job.state is JobState.DONE for info in infos)
    assert all(1 <= info.job.attempts <= 5 for info in infos if info.job)
    assert len(parts.library.lectures.embedded_ids(parts.retriever.fingerprint)) == sum(info.num_segments for info in infos)
    for info in infos:
        heard = [one.segment.start for one in qa.heard(info.lecture.id)]
        assert heard == sorted(set(heard))
    num_segments = sum(info.num_segments for info in infos)
    assert len({hit.segment.id for hit in qa.search(Question(text="mountain"), num_segments).hits}) == num_segments


@pytest.mark.crash
def test_a_killed_worker_leaves_no_processes_behind(short_steps: Path, pieces: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKALOUD_RETRIEVER__KIND", "cascade")  # which listens in processes of its own
    monkeypatch.delenv("ASKALOUD_RETRIEVER__NUM_THREADS")
    parts = build_parts(load_settings())
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        qa.ingest(next(pieces))
        with running("-m", "app", "worker") as worker:
            until(lambda: any_progress(qa, parts, Promised()))
            children = psutil.Process(worker.pid).children(recursive=True)
            assert children
        until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


@pytest.mark.crash
def test_a_lecture_that_kills_every_worker_fails_after_five_attempts_and_others_are_done(short_steps: Path, pieces: Iterator[Path]) -> None:
    parts = build_parts(load_settings())
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        deadly = qa.ingest(next(pieces))
        for attempt in range(1, 6):
            job = parts.library.jobs.claim()  # begun, and then the worker died: nothing more came
            assert job is not None
            assert (job.id, job.attempts) == (deadly.job.id, attempt)
        harmless = qa.ingest(next(pieces))
        with running("-m", "app", "worker"):
            until(lambda: qa.job(harmless.job.id).state.is_over)
        assert qa.job(deadly.job.id).state is JobState.FAILED
        assert "resume" in qa.job(deadly.job.id).message
        assert qa.job(harmless.job.id).state is JobState.DONE


@pytest.mark.crash
def test_an_attempt_that_got_on_is_not_counted_against_the_job(short_steps: Path, pieces: Iterator[Path]) -> None:
    parts = build_parts(load_settings())
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        added = qa.ingest(next(pieces))
        for _ in range(3):
            parts.library.jobs.claim()
        with running("-m", "app", "worker"):
            until(lambda: num_heard(qa, added.job.id) >= 2)
        assert qa.job(added.job.id).attempts == 1


@pytest.mark.crash
def test_a_worker_whose_supervisor_died_finishes_the_queue_and_leaves(short_steps: Path, pieces: Iterator[Path]) -> None:
    parts = build_parts(load_settings())
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        added = qa.ingest(next(pieces))
        nobody = "1" if os.getppid() != 1 else "2"  # a process that is not the worker's parent: as if it had died
        worker = subprocess.Popen([sys.executable, "-m", "app", "worker", "--supervisor", nobody], stderr=subprocess.DEVNULL)
        assert worker.wait(WAIT_S) == 0
        assert qa.job(added.job.id).state is JobState.DONE


@pytest.mark.crash
def test_a_worker_told_to_end_leaves_at_once_and_keeps_what_was_done(short_steps: Path, pieces: Iterator[Path]) -> None:
    parts = build_parts(load_settings())
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        added = qa.ingest(next(pieces))
        with running("-m", "app", "worker") as worker:
            until(lambda: num_heard(qa, added.job.id) >= 1)
            worker.terminate()
            assert worker.wait(10.0) == 0
        assert not qa.job(added.job.id).state.is_over
        assert qa.lecture(added.lecture.id).num_embedded >= 1
