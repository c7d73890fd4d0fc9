import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from app import demo
from app.build import Parts, build_app, build_parts, build_worker
from app.errors import NothingToSearch, WorkerBusy
from app.listening import NOWHERE
from app.seeding import seed_demo
from app.service import SpokenQA
from app.settings import Settings, load_settings
from app.worker import Worker
from retriever.audio import read_audio
from retriever.base import Retriever
from retriever.build import build_retriever
from retriever.config import AudioLimits, Cascade, Clsr, FixedWindows
from retriever.domain import SAMPLE_RATE_HZ, EmbeddedSegment, Question, SegmentAudio
from retriever.errors import IndexUnusable
from retriever.index import SegmentIndex
from storage.domain import LOCAL_OWNER, Job, JobKind, JobStage, JobState, NewLecture
from storage.errors import NotFound, SoundMissing


def once() -> bool:
    """Stop as soon as nothing waits."""
    return True


@pytest.fixture
def fresh(home: Path) -> Iterator[Parts]:
    """The parts over an empty library whose segments are short."""
    made = build_parts(load_settings().model_copy(update={"segmentation": FixedWindows(window_s=2.5), "retriever": Cascade(num_workers=1)}))
    with closing(made.library), closing(made.retriever):
        yield made


@pytest.fixture(scope="session")
def tiny_lecture(tmp_path_factory: pytest.TempPathFactory, short_lecture: Path) -> Path:
    """The first seconds of the short lecture: three segments of two and a half seconds."""
    sound = read_audio(short_lecture, AudioLimits(), 120.0)
    path = tmp_path_factory.mktemp("tiny") / "tiny.wav"
    soundfile.write(path, sound.samples[: int(7.5 * SAMPLE_RATE_HZ)], SAMPLE_RATE_HZ)
    return path


def index_ids(parts: Parts) -> frozenset[int]:
    retriever = parts.retriever
    return frozenset(SegmentIndex.open(parts.index_folder, retriever.fingerprint, retriever.dimension).ids)


def library_ids(parts: Parts) -> frozenset[int]:
    return parts.library.lectures.embedded_ids(parts.retriever.fingerprint)


class During:
    """A library's jobs that do something at the n-th progress of listening; all else goes to the real ones."""

    def __init__(self, parts: Parts, action: Callable[[Job], None], done: int) -> None:
        self._real, self._action, self._done = parts.library.jobs, action, done
        self._job: Job | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def claim(self) -> Job | None:
        self._job = self._real.claim()
        return self._job

    def progress(self, job_id, stage, done, total):  # type: ignore[no-untyped-def]
        if stage is JobStage.LISTENING and done == self._done and self._job is not None:
            self._action(self._job)
        return self._real.progress(job_id, stage, done, total)


class Deaf:
    """A real retriever that must not be given anything to hear."""

    def __init__(self, real: Retriever) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def embed(self, sounds: Iterable[SegmentAudio]) -> Iterator[EmbeddedSegment]:
        assert list(sounds) == []
        yield from ()


class Successor:
    """A real retriever under another name, as its next version would be."""

    fingerprint = "cascade-next"

    def __init__(self, real: Retriever) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def embed(self, sounds: Iterable[SegmentAudio]) -> Iterator[EmbeddedSegment]:
        for one in self._real.embed(sounds):
            yield replace(one, fingerprint=self.fingerprint)


class LibraryDuring:
    """A real library with `During` for its jobs."""

    def __init__(self, parts: Parts, action: Callable[[Job], None], done: int) -> None:
        self._real, self.jobs = parts.library, During(parts, action, done)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def worker_during(parts: Parts, action: Callable[[Job], None], done: int = 1) -> Worker:
    return replace(build_worker(parts), library=LibraryDuring(parts, action, done))  # type: ignore[arg-type]


# What is queued is done


def test_a_queued_lecture_becomes_searchable_and_the_index_holds_what_the_library_holds(fresh: Parts, tiny_lecture: Path) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    assert added.job.state is JobState.QUEUED
    build_worker(fresh).run(once)
    job = qa.job(added.job.id)
    assert (job.state, job.done, job.total, job.attempts) == (JobState.DONE, 3, 3, 1)
    assert qa.lecture(added.lecture.id).is_complete
    assert len(library_ids(fresh)) == 3
    assert index_ids(fresh) == library_ids(fresh)
    assert qa.search(Question(text="volcano")).hits


def test_a_worker_gives_signs_of_life(fresh: Parts) -> None:
    qa = build_app(fresh)
    assert not qa.worker_is_alive()
    build_worker(fresh).run(once)
    assert qa.worker_is_alive()


def test_a_lecture_is_searchable_before_all_of_it_was_heard(fresh: Parts, tiny_lecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.index_keeper.SAVE_EVERY_S", 0.0)
    qa, found = build_app(fresh), []
    qa.ingest(tiny_lecture)
    worker_during(fresh, lambda _job: found.append(len(qa.search(Question(text="mountain")).hits)), done=2).run(once)
    assert found == [2]


def test_silence_fails_with_the_reason_and_the_next_job_is_done(fresh: Parts, tiny_lecture: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8 * SAMPLE_RATE_HZ, np.float32), SAMPLE_RATE_HZ)
    qa = build_app(fresh)
    silent, spoken = qa.ingest(tmp_path / "silence.wav"), qa.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    assert qa.job(silent.job.id).state is JobState.FAILED
    assert "nobody speaks" in qa.job(silent.job.id).message
    assert qa.job(spoken.job.id).state is JobState.DONE


@pytest.mark.parametrize(("language", "is_warned"), [("de", True), ("en", False), ("en-GB", False)])
def test_a_lecture_in_a_language_that_the_model_does_not_know_is_done_with_a_warning(
    fresh: Parts, tiny_lecture: Path, language: str, is_warned: bool
) -> None:
    added = fresh.library.lectures.add(NewLecture(tiny_lecture, "A lecture", language), LOCAL_OWNER)
    build_worker(fresh).run(once)
    job = fresh.library.jobs.get(added.job.id, LOCAL_OWNER)
    assert job.state is JobState.DONE
    assert (f"in {language!r}, the model hears 'en'" in job.message) is is_warned


def test_what_nobody_foresaw_fails_one_job_and_not_the_worker(fresh: Parts, tiny_lecture: Path) -> None:
    def break_down(_job: Job) -> None:
        raise ZeroDivisionError("unforeseen")

    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    worker_during(fresh, break_down).run(once)
    job = qa.job(added.job.id)
    assert job.state is JobState.FAILED
    assert "unforeseen" in job.message
    qa.resume(added.lecture.id)
    build_worker(fresh).run(once)
    assert qa.lecture(added.lecture.id).is_complete


# What was lost


@pytest.mark.parametrize("truncated", [False, True], ids=["gone", "truncated"])
def test_lost_sound_is_made_again_from_the_original_without_being_heard_again(fresh: Parts, tiny_lecture: Path, truncated: bool) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    segments, heard = fresh.library.lectures.segments(added.lecture.id), qa.heard(added.lecture.id)
    before = qa.clip(added.lecture.id, segments[1].span)
    (speech,) = fresh.settings.home.rglob("speech.flac")
    speech.write_bytes(speech.read_bytes()[:1000]) if truncated else speech.unlink()
    again = qa.ingest(tiny_lecture)
    assert not again.new
    assert again.job.id != added.job.id
    worker = build_worker(fresh)
    replace(worker, retriever=Deaf(worker.retriever)).run(once)  # type: ignore[arg-type]
    assert qa.job(again.job.id).state is JobState.DONE
    assert fresh.library.lectures.segments(added.lecture.id) == segments
    assert qa.heard(added.lecture.id) == heard
    assert np.array_equal(qa.clip(added.lecture.id, segments[1].span).samples, before.samples)
    assert index_ids(fresh) == library_ids(fresh)
    assert qa.ingest(tiny_lecture).job.id == again.job.id  # whole again: nothing is queued


def test_playing_lost_sound_queues_its_restoration_once(fresh: Parts, tiny_lecture: Path) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    span = fresh.library.lectures.segments(added.lecture.id)[0].span
    (speech,) = fresh.settings.home.rglob("speech.flac")
    speech.unlink()
    for _ in range(2):
        with pytest.raises(SoundMissing, match="makes it again"):
            qa.clip(added.lecture.id, span)
    assert [job.state for job in fresh.library.jobs.list(qa.owner)] == [JobState.QUEUED, JobState.DONE]
    build_worker(fresh).run(once)
    assert len(qa.clip(added.lecture.id, span).samples) == span.num_samples


def test_sound_lost_with_its_original_comes_back_when_the_file_is_added_again(fresh: Parts, tiny_lecture: Path) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    segment = fresh.library.lectures.segments(added.lecture.id)[0]
    for path in (*fresh.settings.home.rglob("speech.flac"), *fresh.settings.home.rglob("original.wav")):
        path.unlink()
    with pytest.raises(SoundMissing, match="add the same file again"):
        qa.clip(added.lecture.id, segment.span)
    assert [job.state for job in fresh.library.jobs.list(qa.owner)] == [JobState.DONE]
    qa.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    assert len(qa.clip(added.lecture.id, segment.span).samples) == segment.span.num_samples


# What is stopped


def test_a_cancelled_job_keeps_what_was_heard_and_can_be_resumed(fresh: Parts, tiny_lecture: Path) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    worker_during(fresh, lambda job: qa.cancel(job.id) and None).run(once)
    assert qa.job(added.job.id).state is JobState.CANCELLED
    kept = library_ids(fresh)
    assert 1 <= len(kept) < 3
    assert index_ids(fresh) == kept
    assert qa.search(Question(text="mountain")).hits
    again = qa.ingest(tiny_lecture)  # the same file: the rest of the work is queued
    assert not again.new
    build_worker(fresh).run(once)
    assert qa.job(again.job.id).state is JobState.DONE
    assert kept < library_ids(fresh)
    assert index_ids(fresh) == library_ids(fresh)


def test_a_lecture_deleted_while_it_is_listened_to_leaves_nothing(fresh: Parts, tiny_lecture: Path) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    worker_during(fresh, lambda job: qa.delete_lecture(job.lecture_id)).run(once)
    with pytest.raises(NotFound):
        qa.job(added.job.id)
    assert library_ids(fresh) == index_ids(fresh) == frozenset()
    assert fresh.library.check() == []


def test_a_worker_that_is_stopped_in_the_middle_goes_on_where_it_was(fresh: Parts, tiny_lecture: Path) -> None:
    def leave(_job: Job) -> None:
        raise SystemExit(0)  # what SIGTERM does

    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    with pytest.raises(SystemExit):
        worker_during(fresh, leave, done=2).run(once)
    assert qa.job(added.job.id).state is JobState.RUNNING
    before = library_ids(fresh)
    assert len(before) == 2
    embedded = []
    listening = replace(build_worker(fresh), retriever=_Counting(fresh.retriever, embedded))  # type: ignore[arg-type]
    listening.run(once)
    assert qa.job(added.job.id).state is JobState.DONE
    assert len(embedded) == 1, "what was heard is not listened to again"
    assert before < library_ids(fresh) == index_ids(fresh)


class _Counting:
    """A real retriever that notes what it embeds."""

    def __init__(self, real: object, embedded: list[int]) -> None:
        self._real, self._embedded = real, embedded

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def embed(self, segments):  # type: ignore[no-untyped-def]
        for one in self._real.embed(segments):  # type: ignore[attr-defined]
            self._embedded.append(one.segment.id)
            yield one


# One worker at a time


def test_a_second_worker_is_refused(fresh: Parts) -> None:
    with FileLock(build_worker(fresh).lock_path), pytest.raises(WorkerBusy, match="another worker"):
        build_worker(fresh).run(once)


def test_a_second_worker_that_waits_takes_over_when_the_first_leaves(fresh: Parts) -> None:
    worker = build_worker(fresh)
    worker.lock_path.parent.mkdir(parents=True, exist_ok=True)
    first = FileLock(worker.lock_path, thread_local=False)
    first.acquire()
    ran = threading.Event()
    waiting = threading.Thread(target=lambda: worker.run(lambda: ran.set() or True, wait_for_lock_s=30.0))
    waiting.start()
    try:
        assert not ran.wait(0.5)
        first.release()
        assert ran.wait(20.0)
    finally:
        first.release(force=True)
        waiting.join()


def test_the_index_is_not_rebuilt_while_a_worker_runs(fresh: Parts) -> None:
    with FileLock(build_worker(fresh).lock_path), pytest.raises(WorkerBusy):
        build_worker(fresh).rebuild_index()


# The index is a cache


def test_a_lost_index_is_made_again_at_the_next_start(parts: Parts, qa: SpokenQA) -> None:
    before = index_ids(parts)
    for path in parts.index_folder.rglob("*"):
        if path.is_file():
            path.unlink()
    build_worker(parts).run(once)
    assert index_ids(parts) == before == library_ids(parts)
    assert qa.search(Question(text="bread")).hits


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 100])
def test_a_damaged_index_is_made_again_at_the_next_start(parts: Parts, qa: SpokenQA, damage: bytes) -> None:
    files = [path for path in parts.index_folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(damage)
    build_worker(parts).run(once)
    assert index_ids(parts) == library_ids(parts)
    assert qa.search(Question(text="bread")).hits


@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_an_index_lost_under_a_running_worker_is_saved_again(parts: Parts, qa: SpokenQA, damage: str) -> None:
    before = library_ids(parts)
    asked: list[bool] = []

    def lose_then_look() -> bool:
        asked.append(True)
        if len(asked) > 1:
            return True
        for path in parts.index_folder.iterdir():
            path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:10])
        with pytest.raises(IndexUnusable):
            index_ids(parts)
        return False

    build_worker(parts).run(lose_then_look)
    assert index_ids(parts) == before
    assert qa.search(Question(text="heart")).hits


def test_where_the_index_cannot_be_saved_listening_goes_on_and_the_next_worker_saves_it(fresh: Parts, tiny_lecture: Path) -> None:
    fresh.index_folder.parent.mkdir(parents=True)
    fresh.index_folder.write_bytes(b"a file where the folder should be: no more can be written than on a full disk")
    build_app(fresh).ingest(tiny_lecture)
    build_worker(fresh).run(once)
    assert build_app(fresh).lectures()[0].is_complete
    fresh.index_folder.unlink()
    build_worker(fresh).run(once)
    assert index_ids(fresh) == library_ids(fresh) != frozenset()


def test_another_model_embeds_the_library_anew_in_the_background_beside_the_first(fresh: Parts, tiny_lecture: Path) -> None:
    qa = build_app(fresh)
    added = qa.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    idle = iter([False, True])  # what is out of date is found when nothing else waits, and done next
    replace(build_worker(fresh), retriever=Successor(fresh.retriever)).run(lambda: next(idle))  # type: ignore[arg-type]
    lectures = fresh.library.lectures
    assert lectures.embedded_ids(Successor.fingerprint) == library_ids(fresh) != frozenset()
    assert lectures.heard(added.lecture.id, qa.owner, Successor.fingerprint) == qa.heard(added.lecture.id)
    job = qa.lecture(added.lecture.id).job
    assert job is not None
    assert (job.kind, job.state) == (JobKind.REEMBED, JobState.DONE)
    assert qa.search(Question(text="volcano")).hits


def test_a_library_of_the_cascade_is_embedded_anew_by_clsr_and_both_can_be_asked(fresh: Parts, tiny_lecture: Path) -> None:
    """What happens to who updates: the old words and vectors stay, the new ones come beside them, without a job being asked for."""
    cascade = build_app(fresh)
    added = cascade.ingest(tiny_lecture)
    build_worker(fresh).run(once)
    with closing(build_retriever(Clsr())) as clsr:
        parts = replace(fresh, retriever=clsr, settings=fresh.settings.model_copy(update={"retriever": Clsr()}))
        idle = iter([False, True])
        build_worker(parts).run(lambda: next(idle))
        assert library_ids(parts) == library_ids(fresh) != frozenset()
        assert clsr.fingerprint != fresh.retriever.fingerprint
        heard = parts.library.lectures.heard(added.lecture.id, cascade.owner, clsr.fingerprint)
        before = cascade.heard(added.lecture.id)
        assert [one.segment for one in heard] == [one.segment for one in before]
        assert [one.words for one in heard] != [one.words for one in before]
        assert index_ids(parts) == index_ids(fresh)
        assert cascade.search(Question(text="volcano")).hits


def test_without_an_index_the_way_out_is_told(parts: Parts, qa: SpokenQA) -> None:
    shutil.rmtree(parts.index_folder)
    with pytest.raises(NothingToSearch, match="askaloud rebuild"):
        qa.search(Question(text="heart"))


def test_a_rebuilt_index_answers_as_before(parts: Parts, qa: SpokenQA) -> None:
    before = [hit.segment for hit in qa.search(Question(text="bread"), 10).hits]
    assert build_worker(parts).rebuild_index() == len(before)
    assert [hit.segment for hit in qa.search(Question(text="bread"), 10).hits] == before


def test_the_index_follows_a_deletion(parts: Parts, qa: SpokenQA) -> None:
    qa.delete_lecture(qa.lectures()[0].lecture.id)
    build_worker(parts).run(once)
    assert index_ids(parts) == frozenset()


# The demo lecture


def seeded(home: Path) -> tuple[SpokenQA, Settings, Parts]:
    settings = load_settings().model_copy(update={"demo": True})
    parts = build_parts(settings)
    return build_app(parts), settings, parts


def test_a_new_library_gets_the_demo_lecture_once(home: Path) -> None:
    qa, settings, parts = seeded(home)
    with closing(parts.library):
        assert seed_demo(qa, settings)
        assert not seed_demo(qa, settings)
        (info,) = qa.lectures()
        assert info.lecture.title == demo.TITLE
        assert info.job is not None
        assert info.job.state is JobState.QUEUED


def test_a_deleted_demo_lecture_stays_deleted(home: Path) -> None:
    qa, settings, parts = seeded(home)
    with closing(parts.library):
        seed_demo(qa, settings)
        qa.delete_lecture(qa.lectures()[0].lecture.id)
        assert not seed_demo(qa, settings)
        assert qa.lectures() == []


def test_a_library_with_lectures_gets_no_demo(home: Path, tiny_lecture: Path) -> None:
    qa, settings, parts = seeded(home)
    with closing(parts.library):
        qa.ingest(tiny_lecture)
        assert not seed_demo(qa, settings)
        assert len(qa.lectures()) == 1


def test_the_demo_can_be_declined(home: Path) -> None:
    qa, settings, parts = seeded(home)
    with closing(parts.library):
        assert not seed_demo(qa, settings.model_copy(update={"demo": False}))
        assert qa.lectures() == []


def test_segments_of_sound_that_is_not_kept_belong_nowhere(qa: SpokenQA, short_question: Path) -> None:
    assert {one.segment.lecture_id for one in qa.listen(short_question)} == {NOWHERE}
