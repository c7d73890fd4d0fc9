"""What every library promises, over every database that is here."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from generator.domain import Answer, AnswerStatus, Citation, Evidence
from retriever.domain import Audio, EmbeddedSegment, Hit, HitFeatures, Question, Segment, Span, Word
from storage.base import Library
from storage.domain import LOCAL_OWNER, AddedLecture, HistoryQuery, JobKind, JobStage, JobState, NewLecture
from storage.errors import IllegalTransition, NotFound, SoundMissing

MODEL, OTHER_MODEL = "model-a", "model-b"
STRANGER = UUID(int=0xB0B)


def make_file(folder: Path, content: bytes = b"RIFF not really", name: str = "lecture.wav") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def add(library: Library, folder: Path, content: bytes = b"one", owner: UUID = LOCAL_OWNER, **more: object) -> AddedLecture:
    return library.lectures.add(NewLecture(make_file(folder, content), title=f"About {content.decode()}", **more), owner)  # type: ignore[arg-type]


def tone(num_samples: int, seed: int = 0) -> np.ndarray:
    pcm = np.random.default_rng(seed).integers(-20_000, 20_000, num_samples, dtype=np.int16)
    return pcm.astype(np.float32) / np.float32(32768)


def cut(library: Library, lecture_id: UUID, num_segments: int = 3, length: int = 16_000) -> list[Segment]:
    spans = [Span(i * length, (i + 1) * length) for i in range(num_segments)]
    return list(library.lectures.add_run(lecture_id, '{"kind":"fixed"}', spans, num_segments * length, ""))


def embed(segment: Segment, model: str = MODEL) -> EmbeddedSegment:
    vector = np.random.default_rng(segment.start).standard_normal(8).astype(np.float32)
    words = (Word(f"word{segment.start}", segment.start, segment.start + 10, 0.5), Word("naïve", segment.start + 10, segment.end, 0.25))
    return EmbeddedSegment(segment, vector / np.float32(np.linalg.norm(vector)), words, model)


def hit(segment: Segment, score: float = 1.0) -> Hit:
    return Hit(segment, score, HitFeatures(0.5, 2.25, 0.75, 0.125))


def answer_from(evidence: list[Evidence], *, supported: bool = True, text: str = "Because of gravity.") -> Answer:
    moments = tuple(Citation(e.segment, Span(e.segment.start, e.segment.start + 10), e.text) for e in evidence)
    if supported:
        return Answer(text, moments, True, 0.875, "extractive", '{"k":5}')
    return Answer(text, (), False, 0.125, "extractive", '{"k":5}', nearest=moments)


def ask(library: Library, segments: list[Segment], owner: UUID = LOCAL_OWNER, **more: object) -> Question:
    question = Question(**({"text": "why do apples fall"} | more))  # type: ignore[arg-type]
    library.history.add_question(question, owner)
    evidence = list(library.lectures.evidence([hit(one) for one in segments], owner, MODEL))
    library.history.add_answer(question.id, owner, answer_from(evidence), evidence, MODEL, {"encode": 1.5, "total": 2.5})
    return question


class TestLectures:
    def test_a_lecture_is_kept_with_its_file_and_a_job(self, library: Library, files: Path) -> None:
        added = add(library, files, b"abc")
        assert added.new
        assert added.lecture.content_hash == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert (added.job.state, added.job.kind, added.job.lecture_id) == (JobState.QUEUED, JobKind.INGEST, added.lecture.id)
        path = library.lectures.original_path(added.lecture.id)
        assert path.read_bytes() == b"abc"
        assert path.name == "original.wav"
        assert library.lectures.get(added.lecture.id, LOCAL_OWNER) == added.lecture
        assert (files / "lecture.wav").exists()

    def test_the_same_bytes_added_again_change_nothing(self, library: Library, files: Path) -> None:
        first = add(library, files)
        again = library.lectures.add(NewLecture(make_file(files, b"one", "other.mp3"), "Another title"), LOCAL_OWNER)
        assert not again.new
        assert (again.lecture, again.job) == (first.lecture, first.job)
        assert len(library.lectures.list(LOCAL_OWNER, MODEL)) == 1

    def test_added_again_gives_the_latest_job(self, library: Library, files: Path) -> None:
        first = add(library, files)
        library.jobs.cancel(first.job.id, LOCAL_OWNER)
        resumed = library.jobs.queue(first.lecture.id, LOCAL_OWNER, JobKind.INGEST)
        assert add(library, files).job.id == resumed.id != first.job.id

    def test_a_moved_file_is_gone_from_where_it_was(self, library: Library, files: Path) -> None:
        added = add(library, files, b"moved", move=True)
        assert list(files.iterdir()) == []
        assert library.lectures.original_path(added.lecture.id).read_bytes() == b"moved"

    def test_a_missing_file_is_refused(self, library: Library, files: Path) -> None:
        with pytest.raises(SoundMissing, match="check the path"):
            library.lectures.add(NewLecture(files / "nothing.wav", "x"), LOCAL_OWNER)
        with pytest.raises(SoundMissing, match="not a file"):
            library.lectures.add(NewLecture(files, "x"), LOCAL_OWNER)
        assert library.check() == []

    def test_a_lecture_is_listed_with_all_that_is_known(self, library: Library, files: Path) -> None:
        added = add(library, files, b"12345", course="  Physics   101 ")
        lecture_id = added.lecture.id
        segments = library.lectures.add_run(lecture_id, "{}", [Span(0, 100), Span(100, 300)], 300, "the end is cut off")
        library.lectures.add_embedded([embed(segments[0]), embed(segments[0], OTHER_MODEL), embed(segments[1], OTHER_MODEL)])
        info = library.lectures.info(lecture_id, LOCAL_OWNER, MODEL)
        assert (info.num_segments, info.num_embedded, info.num_bytes) == (2, 1, 5)
        assert (info.course, info.file_name, info.warning) == ("Physics 101", "lecture.wav", "the end is cut off")
        assert info.job == added.job
        assert info.lecture.num_samples == 300
        assert info.added_at.tzinfo is not None
        assert abs(datetime.now(UTC) - info.added_at) < timedelta(minutes=1)
        assert list(library.lectures.list(LOCAL_OWNER, MODEL)) == [info]
        assert library.lectures.info(lecture_id, LOCAL_OWNER, OTHER_MODEL).num_embedded == 2

    def test_the_newest_lecture_is_listed_first(self, library: Library, files: Path) -> None:
        titles = [add(library, files, content).lecture.title for content in (b"a", b"b", b"c")]
        assert [info.lecture.title for info in library.lectures.list(LOCAL_OWNER, MODEL)] == titles[::-1]

    def test_a_lecture_is_renamed_and_empty_courses_go(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files, course="Old").lecture.id
        library.lectures.rename(lecture_id, LOCAL_OWNER, "Gravity", "New")
        info = library.lectures.info(lecture_id, LOCAL_OWNER, MODEL)
        assert (info.lecture.title, info.course) == ("Gravity", "New")
        library.lectures.rename(lecture_id, LOCAL_OWNER, "Gravity", None)
        assert library.lectures.info(lecture_id, LOCAL_OWNER, MODEL).course is None

    def test_titles_and_names_that_no_database_takes_are_mended(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        library.lectures.rename(lecture_id, LOCAL_OWNER, "nul\0 and half \ud800 a pair, whole 🎓", None)
        assert library.lectures.get(lecture_id, LOCAL_OWNER).title == "nul\ufffd and half \ufffd a pair, whole 🎓"

    def test_a_deleted_lecture_leaves_nothing(self, library: Library, files: Path) -> None:
        added = add(library, files, course="Physics")
        lecture_id = added.lecture.id
        assert len(list(library.lectures.write_sound(lecture_id, [tone(48_000)]))) == 1
        library.lectures.add_embedded([embed(one) for one in cut(library, lecture_id)])
        original = library.lectures.original_path(lecture_id)
        library.lectures.delete(lecture_id, LOCAL_OWNER)
        assert not original.parent.exists()
        assert library.disk_usage()["sound"] == 0
        assert library.lectures.list(LOCAL_OWNER, MODEL) == []
        assert library.jobs.list(LOCAL_OWNER) == []
        assert library.lectures.embedded_ids(MODEL) == frozenset()
        assert library.lectures.segments(lecture_id) == []
        assert library.check() == []
        for gone in (
            lambda: library.lectures.delete(lecture_id, LOCAL_OWNER),
            lambda: library.lectures.original_path(lecture_id),
            lambda: library.lectures.clip(lecture_id, Span(0, 10)),
            lambda: library.lectures.has_sound(lecture_id),
            lambda: library.jobs.get(added.job.id, LOCAL_OWNER),
            lambda: cut(library, lecture_id),
        ):
            with pytest.raises(NotFound):
                gone()

    def test_shared_sound_goes_with_its_last_lecture(self, library: Library, files: Path) -> None:
        mine, theirs = add(library, files).lecture, add(library, files, owner=STRANGER).lecture
        assert mine.id != theirs.id
        assert library.lectures.original_path(mine.id) == library.lectures.original_path(theirs.id)
        list(library.lectures.write_sound(mine.id, [tone(1000)]))
        assert library.lectures.has_sound(theirs.id)
        library.lectures.delete(mine.id, LOCAL_OWNER)
        assert library.lectures.clip(theirs.id, Span(0, 1000)).num_samples == 1000
        place = library.lectures.original_path(theirs.id)
        library.lectures.delete(theirs.id, STRANGER)
        assert not place.exists()

    def test_expired_lectures_and_only_those_are_deleted(self, library: Library, files: Path) -> None:
        now = datetime.now(UTC)
        old = add(library, files, b"old", expires_at=now - timedelta(seconds=1)).lecture
        young = add(library, files, b"young", expires_at=now + timedelta(days=1)).lecture
        add(library, files, b"for ever")
        assert library.lectures.delete_expired(now) == 1
        with pytest.raises(NotFound):
            library.lectures.get(old.id, LOCAL_OWNER)
        assert library.lectures.get(young.id, LOCAL_OWNER) == young
        assert library.lectures.delete_expired(now) == 0


class TestSound:
    def test_sound_is_passed_through_and_kept_to_the_sample(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        sound = tone(200_001)
        blocks = np.array_split(sound, 7)
        assert not library.lectures.has_sound(lecture_id)
        passed = list(library.lectures.write_sound(lecture_id, blocks))
        np.testing.assert_array_equal(np.concatenate(passed), sound)
        assert library.lectures.has_sound(lecture_id)
        assert library.lectures.get(lecture_id, LOCAL_OWNER).num_samples == 200_001
        np.testing.assert_array_equal(np.concatenate(list(library.lectures.read_sound(lecture_id))), sound)

    @pytest.mark.parametrize(("start", "end"), [(0, 1), (4095, 4097), (12_345, 112_345), (199_000, 200_000)])
    def test_a_clip_is_cut_to_the_sample(self, library: Library, files: Path, start: int, end: int) -> None:
        lecture_id = add(library, files).lecture.id
        sound = tone(200_000)
        list(library.lectures.write_sound(lecture_id, [sound]))
        np.testing.assert_array_equal(library.lectures.clip(lecture_id, Span(start, end)).samples, sound[start:end])

    def test_a_clip_ends_where_the_sound_ends(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        sound = tone(1000)
        list(library.lectures.write_sound(lecture_id, [sound]))
        np.testing.assert_array_equal(library.lectures.clip(lecture_id, Span(900, 5000)).samples, sound[900:])
        assert library.lectures.clip(lecture_id, Span(1000, 1001)).num_samples == 0

    def test_full_scale_and_finer_steps_stay_within_one_step(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        sound = np.array([1.0, -1.0, 0.1, -0.1, 1e-6], np.float32)
        passed = np.concatenate(list(library.lectures.write_sound(lecture_id, [sound])))
        np.testing.assert_allclose(passed, sound, atol=1.001 / 32768)
        np.testing.assert_array_equal(library.lectures.clip(lecture_id, Span(0, 5)).samples, passed)

    def test_sound_closed_early_is_not_kept(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        before = library.disk_usage()["sound"]
        writing = library.lectures.write_sound(lecture_id, [tone(16_000)] * 5)
        next(iter(writing))
        writing.close()  # type: ignore[attr-defined]
        assert not library.lectures.has_sound(lecture_id)
        assert library.disk_usage()["sound"] == before
        with pytest.raises(SoundMissing):
            library.lectures.clip(lecture_id, Span(0, 10))

    def test_sound_whose_decoder_fails_is_not_kept(self, library: Library, files: Path) -> None:
        def failing():
            yield tone(16_000)
            raise RuntimeError("the decoder died")

        lecture_id = add(library, files).lecture.id
        before = library.disk_usage()["sound"]
        with pytest.raises(RuntimeError, match="died"):
            list(library.lectures.write_sound(lecture_id, failing()))
        assert not library.lectures.has_sound(lecture_id)
        assert library.disk_usage()["sound"] == before

    def test_sound_of_a_lecture_deleted_meanwhile_is_not_kept(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        writing = library.lectures.write_sound(lecture_id, [tone(16_000)] * 2)
        next(iter(writing))
        library.lectures.delete(lecture_id, LOCAL_OWNER)
        with pytest.raises(NotFound):
            list(writing)
        assert library.disk_usage()["sound"] == 0
        assert library.check() == []

    def test_sound_written_again_replaces_the_former(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        list(library.lectures.write_sound(lecture_id, [tone(500)]))
        list(library.lectures.write_sound(lecture_id, [tone(800, seed=1)]))
        np.testing.assert_array_equal(library.lectures.clip(lecture_id, Span(0, 1000)).samples, tone(800, seed=1))


class TestSegments:
    def test_a_run_is_read_back_in_order_of_time(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        assert library.lectures.segments(lecture_id) == []
        made = library.lectures.add_run(lecture_id, "{}", [Span(500, 900), Span(0, 400)], 900, "")
        assert [(one.start, one.end) for one in made] == [(0, 400), (500, 900)]
        assert library.lectures.segments(lecture_id) == made
        assert library.lectures.pending(lecture_id, MODEL) == made

    def test_a_new_run_replaces_the_older_with_all_that_hung_on_it(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        old = cut(library, lecture_id)
        library.lectures.add_embedded([embed(one) for one in old])
        before = library.lectures.generation(MODEL)
        new = cut(library, lecture_id, num_segments=2)
        assert not {one.id for one in old} & {one.id for one in new}
        assert library.lectures.segments(lecture_id) == new
        assert library.lectures.embedded_ids(MODEL) == frozenset()
        assert library.lectures.generation(MODEL) > before
        assert library.lectures.info(lecture_id, LOCAL_OWNER, MODEL).num_segments == 2

    def test_embedded_segments_come_back_exactly(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        segments = cut(library, lecture_id, num_segments=5)
        batch = [embed(one) for one in segments]
        library.lectures.add_embedded(batch[:2])
        library.lectures.add_embedded(batch[2:])
        found = {one.segment.id: one for one in library.lectures.embedded(MODEL)}
        assert set(found) == {one.id for one in segments} == set(library.lectures.embedded_ids(MODEL))
        for one in batch:
            back = found[one.segment.id]
            assert (back.segment, back.words, back.fingerprint) == (one.segment, one.words, MODEL)
            assert back.vector.dtype == np.float32
            np.testing.assert_array_equal(back.vector, one.vector)

    def test_these_embedded_segments_and_no_others_are_given(self, library: Library, files: Path) -> None:
        segments = cut(library, add(library, files).lecture.id, num_segments=4)
        library.lectures.add_embedded([embed(one) for one in segments])
        wanted = {segments[1].id, segments[3].id}
        assert {one.segment.id for one in library.lectures.embedded(MODEL, wanted | {12345})} == wanted
        assert list(library.lectures.embedded(MODEL, [])) == []
        assert list(library.lectures.embedded(OTHER_MODEL)) == []

    def test_embedding_twice_changes_nothing(self, library: Library, files: Path) -> None:
        segment = cut(library, add(library, files).lecture.id)[0]
        library.lectures.add_embedded([embed(segment)])
        library.lectures.add_embedded([embed(segment)])
        assert len(list(library.lectures.embedded(MODEL))) == 1

    def test_segments_deleted_meanwhile_are_passed_over(self, library: Library, files: Path) -> None:
        kept = cut(library, add(library, files, b"kept").lecture.id)
        lost_id = add(library, files, b"lost").lecture.id
        lost = cut(library, lost_id)
        library.lectures.delete(lost_id, LOCAL_OWNER)
        library.lectures.add_embedded([embed(lost[0]), embed(kept[0])])
        assert library.lectures.embedded_ids(MODEL) == {kept[0].id}

    def test_pending_shrinks_as_segments_are_embedded_by_this_model_only(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        segments = cut(library, lecture_id)
        library.lectures.add_embedded([embed(segments[1]), embed(segments[0], OTHER_MODEL)])
        assert library.lectures.pending(lecture_id, MODEL) == [segments[0], segments[2]]

    def test_the_generation_grows_with_every_change_and_never_otherwise(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        segments = cut(library, lecture_id)
        seen = [library.lectures.generation(MODEL)]
        for change in (
            lambda: library.lectures.add_embedded([embed(segments[0])]),
            lambda: library.lectures.add_embedded([embed(segments[1])]),
            lambda: library.lectures.delete(lecture_id, LOCAL_OWNER),
        ):
            change()
            seen.append(library.lectures.generation(MODEL))
        assert seen == sorted(set(seen))
        add(library, files, b"another")
        assert library.lectures.generation(MODEL) == seen[-1]
        assert library.lectures.generation(OTHER_MODEL) == 0

    def test_searchable_are_lectures_with_something_embedded_within_scope(self, library: Library, files: Path) -> None:
        one, two, bare = (add(library, files, content).lecture.id for content in (b"1", b"2", b"3"))
        for lecture_id in (one, two, bare):
            segments = cut(library, lecture_id)
            if lecture_id != bare:
                library.lectures.add_embedded([embed(segments[0])])
        assert library.lectures.searchable(LOCAL_OWNER, MODEL, None) == {one, two}
        assert library.lectures.searchable(LOCAL_OWNER, MODEL, {two, bare, uuid4()}) == {two}
        assert library.lectures.searchable(LOCAL_OWNER, MODEL, set()) == frozenset()
        assert library.lectures.searchable(LOCAL_OWNER, OTHER_MODEL, None) == frozenset()

    def test_what_was_heard_comes_in_order_of_time(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        segments = cut(library, lecture_id)
        library.lectures.add_embedded([embed(segments[2]), embed(segments[0]), embed(segments[1], OTHER_MODEL)])
        heard = library.lectures.heard(lecture_id, LOCAL_OWNER, MODEL)
        assert [one.segment for one in heard] == [segments[0], segments[2]]
        assert heard[0].words == embed(segments[0]).words

    def test_evidence_has_words_neighbours_title_and_sound(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files, b"falling").lecture.id
        sound = tone(48_000)
        list(library.lectures.write_sound(lecture_id, [sound]))
        segments = cut(library, lecture_id)
        library.lectures.add_embedded([embed(one) for one in segments])
        last, first = library.lectures.evidence([hit(segments[2], 0.25), hit(segments[0], 0.5)], LOCAL_OWNER, MODEL)
        middle = embed(segments[1]).words
        assert (first.before, first.words, first.after) == ((), embed(segments[0]).words, middle)
        assert (last.before, last.words, last.after) == (middle, embed(segments[2]).words, ())
        assert (last.hit.score, last.lecture_title) == (0.25, "About falling")
        np.testing.assert_array_equal(last.load_audio().samples, sound[32_000:])

    def test_neighbours_never_come_from_another_lecture(self, library: Library, files: Path) -> None:
        for content in (b"x", b"y"):
            segments = cut(library, add(library, files, content).lecture.id, num_segments=1)
            library.lectures.add_embedded([embed(one) for one in segments])
        (only,) = library.lectures.evidence([hit(segments[0])], LOCAL_OWNER, MODEL)
        assert (only.before, only.after) == ((), ())

    def test_hits_of_deleted_lectures_are_left_out_of_the_evidence(self, library: Library, files: Path) -> None:
        kept = cut(library, add(library, files, b"kept").lecture.id)
        lost_id = add(library, files, b"lost").lecture.id
        lost = cut(library, lost_id)
        library.lectures.add_embedded([embed(one) for one in kept + lost])
        library.lectures.delete(lost_id, LOCAL_OWNER)
        evidence = library.lectures.evidence([hit(lost[0]), hit(kept[0])], LOCAL_OWNER, MODEL)
        assert [one.segment for one in evidence] == [kept[0]]

    def test_outdated_are_lectures_at_rest_with_something_left_for_this_model(self, library: Library, files: Path) -> None:
        added = add(library, files)
        segments = cut(library, added.lecture.id)
        assert library.lectures.outdated(MODEL) == []  # its job waits
        job = library.jobs.claim()
        assert job is not None
        library.lectures.add_embedded([embed(one) for one in segments])
        library.jobs.finish(job.id, JobState.DONE)
        assert library.lectures.outdated(MODEL) == []
        assert [one.id for one in library.lectures.outdated(OTHER_MODEL)] == [added.lecture.id]
        library.jobs.queue(added.lecture.id, LOCAL_OWNER, JobKind.REEMBED)
        assert library.lectures.outdated(OTHER_MODEL) == []

    @pytest.mark.parametrize("end", [JobState.CANCELLED, JobState.FAILED])
    def test_what_was_cancelled_or_has_failed_is_left_to_its_owner(self, library: Library, files: Path, end: JobState) -> None:
        cut(library, add(library, files).lecture.id)
        job = library.jobs.claim()
        assert job is not None
        library.jobs.finish(job.id, end)
        assert library.lectures.outdated(MODEL) == []


class TestJobs:
    def test_the_oldest_job_is_claimed_first_and_counted(self, library: Library, files: Path) -> None:
        first, second = add(library, files, b"1").job, add(library, files, b"2").job
        claimed = library.jobs.claim()
        assert claimed is not None
        assert (claimed.id, claimed.state, claimed.attempts) == (first.id, JobState.RUNNING, 1)
        assert claimed.started_at is not None
        library.jobs.finish(first.id, JobState.DONE)
        claimed = library.jobs.claim()
        assert claimed is not None
        assert claimed.id == second.id
        library.jobs.finish(second.id, JobState.DONE)
        assert library.jobs.claim() is None

    def test_a_job_left_running_is_claimed_again_before_others(self, library: Library, files: Path) -> None:
        first = add(library, files, b"1").job
        add(library, files, b"2")
        library.jobs.claim()
        again = library.jobs.claim()
        assert again is not None
        assert (again.id, again.attempts) == (first.id, 2)

    def test_a_job_is_begun_five_times_at_most(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        assert [job.attempts for _ in range(5) if (job := library.jobs.claim())] == [1, 2, 3, 4, 5]
        assert library.jobs.claim() is None
        failed = library.jobs.get(job_id, LOCAL_OWNER)
        assert failed.state is JobState.FAILED
        assert "resume it to try again" in failed.message

    def test_progress_is_kept_and_marks_where_a_stage_began(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        library.jobs.claim()
        assert library.jobs.progress(job_id, JobStage.DECODING, 10, 100)
        assert library.jobs.progress(job_id, JobStage.LISTENING, 4, 20)
        began = library.jobs.get(job_id, LOCAL_OWNER)
        assert library.jobs.progress(job_id, JobStage.LISTENING, 9, 20)
        job = library.jobs.get(job_id, LOCAL_OWNER)
        assert (job.stage, job.done, job.total, job.stage_base) == (JobStage.LISTENING, 9, 20, 4)
        assert job.stage_started_at == began.stage_started_at is not None

    def test_a_new_attempt_counts_its_stage_anew(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        library.jobs.claim()
        library.jobs.progress(job_id, JobStage.LISTENING, 0, 20)
        library.jobs.progress(job_id, JobStage.LISTENING, 7, 20)
        library.jobs.claim()
        library.jobs.progress(job_id, JobStage.LISTENING, 7, 20)
        assert library.jobs.get(job_id, LOCAL_OWNER).stage_base == 7

    def test_a_queued_job_is_cancelled_at_once(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        assert library.jobs.cancel(job_id, LOCAL_OWNER).state is JobState.CANCELLED
        assert library.jobs.claim() is None

    def test_a_running_job_is_asked_to_stop(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        library.jobs.claim()
        asked = library.jobs.cancel(job_id, LOCAL_OWNER)
        assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
        assert not library.jobs.progress(job_id, JobStage.DECODING, 1, 2)
        library.jobs.finish(job_id, JobState.CANCELLED, "stopped")
        assert library.jobs.get(job_id, LOCAL_OWNER).message == "stopped"

    def test_a_job_to_be_cancelled_whose_worker_died_is_cancelled(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        library.jobs.claim()
        library.jobs.cancel(job_id, LOCAL_OWNER)
        assert library.jobs.claim() is None
        assert library.jobs.get(job_id, LOCAL_OWNER).state is JobState.CANCELLED

    def test_a_job_that_is_over_stays_so(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        with pytest.raises(IllegalTransition, match="queued"):
            library.jobs.finish(job_id, JobState.DONE)
        library.jobs.claim()
        with pytest.raises(IllegalTransition, match="running"):
            library.jobs.finish(job_id, JobState.RUNNING)
        library.jobs.finish(job_id, JobState.DONE)
        with pytest.raises(IllegalTransition, match="done"):
            library.jobs.finish(job_id, JobState.FAILED)
        assert library.jobs.cancel(job_id, LOCAL_OWNER).state is JobState.DONE
        assert not library.jobs.progress(job_id, JobStage.LISTENING, 1, 2)

    def test_the_end_of_a_job_whose_lecture_was_deleted_is_harmless(self, library: Library, files: Path) -> None:
        added = add(library, files)
        library.jobs.claim()
        library.lectures.delete(added.lecture.id, LOCAL_OWNER)
        assert not library.jobs.progress(added.job.id, JobStage.LISTENING, 1, 2)
        library.jobs.finish(added.job.id, JobState.DONE)
        assert library.jobs.claim() is None

    def test_unfinished_work_of_a_kind_is_queued_once(self, library: Library, files: Path) -> None:
        added = add(library, files)
        assert library.jobs.queue(added.lecture.id, LOCAL_OWNER, JobKind.INGEST) == added.job
        other = library.jobs.queue(added.lecture.id, LOCAL_OWNER, JobKind.REEMBED)
        assert other.kind is JobKind.REEMBED
        assert library.jobs.queue(added.lecture.id, LOCAL_OWNER, JobKind.REEMBED) == other
        assert [job.id for job in library.jobs.list(LOCAL_OWNER)] == [other.id, added.job.id]

    def test_a_worker_shows_that_it_lives(self, library: Library) -> None:
        assert library.jobs.worker_seen_at() is None
        library.jobs.beat("host:1")
        first = library.jobs.worker_seen_at()
        library.jobs.beat("host:1")
        library.jobs.beat("host:2")
        second = library.jobs.worker_seen_at()
        assert first is not None
        assert second is not None
        assert second > first
        assert abs(datetime.now(UTC) - second) < timedelta(minutes=1)


class TestHistory:
    def test_an_entry_is_remembered_whole(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files, b"apples").lecture.id
        segments = cut(library, lecture_id)
        library.lectures.add_embedded([embed(one) for one in segments])
        question = ask(library, segments[:2], scope=frozenset({lecture_id}), language="de")
        entry = library.history.get(question.id, LOCAL_OWNER)
        back = entry.question
        assert (back.id, back.text, back.heard, back.scope, back.language) == (question.id, question.text, None, {lecture_id}, "de")
        assert back.audio is None
        assert not entry.has_audio
        assert abs(datetime.now(UTC) - entry.asked_at) < timedelta(minutes=1)
        assert entry.answer is not None
        assert entry.answer.citations[0] == Citation(segments[0], Span(0, 10), "word0 naïve")
        assert (entry.answer.confidence, entry.answer.model, entry.answer.settings) == (0.875, "extractive", '{"k":5}')
        assert [one.hit for one in entry.evidence] == [hit(one) for one in segments[:2]]
        assert (entry.evidence[0].lecture_title, entry.evidence[0].text) == ("About apples", "word0 naïve")
        assert not entry.evidence[0].lecture_deleted
        assert (entry.retriever, entry.timings_ms) == (MODEL, {"encode": 1.5, "total": 2.5})
        assert entry.title_of(entry.answer.citations[0]) == "About apples"

    def test_a_question_without_answer_is_remembered(self, library: Library) -> None:
        question = Question(text="anything?")
        library.history.add_question(question, LOCAL_OWNER)
        entry = library.history.get(question.id, LOCAL_OWNER)
        assert (entry.answer, entry.evidence, entry.retriever, dict(entry.timings_ms)) == (None, (), "", {})

    def test_a_spoken_question_keeps_its_sound_and_learns_what_was_heard(self, library: Library) -> None:
        question = Question(audio=Audio(tone(24_000)))
        library.history.add_question(question, LOCAL_OWNER)
        first = library.history.get(question.id, LOCAL_OWNER)
        assert first.has_audio
        assert (first.question.text, first.question.heard) == (None, None)
        heard = Question(audio=question.audio, heard="why do apples fall", id=question.id)
        library.history.add_question(heard, LOCAL_OWNER)
        entry = library.history.get(question.id, LOCAL_OWNER)
        assert (entry.question.wording, entry.asked_at) == ("why do apples fall", first.asked_at)
        np.testing.assert_array_equal(library.history.question_audio(question.id, LOCAL_OWNER).samples, tone(24_000))
        assert library.history.find(LOCAL_OWNER, HistoryQuery(), 10).total == 1

    def test_a_correction_shares_the_sound_until_both_are_deleted(self, library: Library) -> None:
        first = Question(audio=Audio(tone(8000)), heard="apple's fault")
        library.history.add_question(first, LOCAL_OWNER)
        mended = Question(audio=first.audio, heard=first.heard, text="apples fall", corrects=first.id)
        library.history.add_question(mended, LOCAL_OWNER)
        assert library.history.get(mended.id, LOCAL_OWNER).question.corrects == first.id
        library.history.delete(first.id, LOCAL_OWNER)
        assert library.history.get(mended.id, LOCAL_OWNER).question.corrects is None
        assert library.history.question_audio(mended.id, LOCAL_OWNER).num_samples == 8000
        library.history.delete(mended.id, LOCAL_OWNER)
        assert library.disk_usage()["sound"] == 0

    def test_a_typed_question_has_no_sound(self, library: Library) -> None:
        question = Question(text="typed")
        library.history.add_question(question, LOCAL_OWNER)
        with pytest.raises(SoundMissing, match="typed"):
            library.history.question_audio(question.id, LOCAL_OWNER)

    def test_a_later_answer_replaces_the_former(self, library: Library, files: Path) -> None:
        segments = cut(library, add(library, files).lecture.id)
        library.lectures.add_embedded([embed(one) for one in segments])
        question = Question(text="and then?")
        library.history.add_question(question, LOCAL_OWNER)
        evidence = list(library.lectures.evidence([hit(one) for one in segments], LOCAL_OWNER, MODEL))
        streaming = Answer("Bec", (), True, 0.5, "m", "{}", status=AnswerStatus.STREAMING, note="Two moments were not sent.")
        library.history.add_answer(question.id, LOCAL_OWNER, streaming, evidence, MODEL, {})
        found = library.history.get(question.id, LOCAL_OWNER)
        assert found.answer == streaming
        whole = answer_from(evidence[:1], supported=False)
        library.history.add_answer(question.id, LOCAL_OWNER, whole, evidence[:1], MODEL, {"total": 1.0})
        entry = library.history.get(question.id, LOCAL_OWNER)
        assert entry.answer == whole
        assert len(entry.evidence) == 1

    def test_the_history_of_a_deleted_lecture_says_so(self, library: Library, files: Path) -> None:
        lost_id, kept_id = add(library, files, b"lost").lecture.id, add(library, files, b"kept").lecture.id
        segments = [cut(library, lost_id)[0], cut(library, kept_id)[0]]
        library.lectures.add_embedded([embed(one) for one in segments])
        question = ask(library, segments)
        library.lectures.delete(lost_id, LOCAL_OWNER)
        entry = library.history.get(question.id, LOCAL_OWNER)
        assert [(one.lecture_title, one.lecture_deleted) for one in entry.evidence] == [("About lost", True), ("About kept", False)]
        assert entry.answer is not None
        assert entry.title_of(entry.answer.citations[0]) == "About lost"

    def test_words_are_found_in_question_heard_and_answer_whatever_their_case(self, library: Library, files: Path) -> None:
        segments = cut(library, add(library, files).lecture.id)
        library.lectures.add_embedded([embed(one) for one in segments])
        question = ask(library, segments, text="Was tut die Straße?")
        spoken = Question(audio=Audio(tone(100)), heard="GRAVITÄT pulls")
        library.history.add_question(spoken, LOCAL_OWNER)

        def found(words: str) -> set[UUID]:
            return {entry.question.id for entry in library.history.find(LOCAL_OWNER, HistoryQuery(words=words), 10).entries}

        assert found("STRASSE") == {question.id}
        assert found("gravität") == {spoken.id}
        assert found("grav") == {question.id, spoken.id}  # "Because of gravity."
        assert found("straße because") == {question.id}
        assert found("straße pulls") == set()

    def test_percent_and_underscore_are_looked_up_as_they_are(self, library: Library) -> None:
        questions = {
            text: Question(text=text) for text in ("is it 100% sure", "is it 1000 sure", "snake_case", "snakeXcase", "back\\slash / slash")
        }
        for question in questions.values():
            library.history.add_question(question, LOCAL_OWNER)

        def found(words: str) -> list[str | None]:
            return [entry.question.text for entry in library.history.find(LOCAL_OWNER, HistoryQuery(words=words), 10).entries]

        assert found("100%") == ["is it 100% sure"]
        assert found("snake_") == ["snake_case"]
        assert found("back\\slash") == ["back\\slash / slash"]
        assert found("/") == ["back\\slash / slash"]

    def test_filters_hold_together(self, library: Library, files: Path) -> None:
        one, two = (cut(library, add(library, files, content).lecture.id) for content in (b"1", b"2"))
        library.lectures.add_embedded([embed(segment) for segment in one + two])
        cites = ask(library, one[:1])
        scoped = Question(text="limited", scope=frozenset({one[0].lecture_id, uuid4()}))
        library.history.add_question(scoped, LOCAL_OWNER)
        near = Question(audio=Audio(tone(100)), heard="nearest only")
        library.history.add_question(near, LOCAL_OWNER)
        evidence = list(library.lectures.evidence([hit(two[0])], LOCAL_OWNER, MODEL))
        library.history.add_answer(near.id, LOCAL_OWNER, answer_from(evidence, supported=False), evidence, MODEL, {})

        def found(**query: object) -> set[UUID]:
            page = library.history.find(LOCAL_OWNER, HistoryQuery(**query), 10)  # type: ignore[arg-type]
            assert page.total == len(page.entries)
            return {entry.question.id for entry in page.entries}

        assert found(lecture_id=one[0].lecture_id) == {cites.id, scoped.id}
        assert found(lecture_id=two[0].lecture_id) == set()
        assert found(supported=True) == {cites.id}
        assert found(supported=False) == {near.id}
        assert found(spoken=True) == {near.id}
        assert found(spoken=False) == {cites.id, scoped.id}
        assert found(spoken=True, supported=True) == set()
        when = library.history.get(scoped.id, LOCAL_OWNER).asked_at
        assert found(since=when) == {scoped.id, near.id}
        assert found(until=when) == {cites.id}
        assert found(since=when, until=when + timedelta(microseconds=1)) == {scoped.id}

    def test_pages_are_cut_newest_first(self, library: Library) -> None:
        questions = [Question(text=f"number {i}") for i in range(7)]
        for question in questions:
            library.history.add_question(question, LOCAL_OWNER)
        page = library.history.find(LOCAL_OWNER, HistoryQuery(), limit=3, offset=2)
        assert [entry.question.text for entry in page.entries] == ["number 4", "number 3", "number 2"]
        assert page.total == 7

    def test_all_entries_of_an_owner_are_deleted_and_no_others(self, library: Library) -> None:
        for i in range(3):
            library.history.add_question(Question(audio=Audio(tone(100, seed=i))), LOCAL_OWNER)
        other = Question(audio=Audio(tone(100, seed=0)))
        library.history.add_question(other, STRANGER)
        assert library.history.delete_all(LOCAL_OWNER) == 3
        assert library.history.find(LOCAL_OWNER, HistoryQuery(), 10).total == 0
        np.testing.assert_array_equal(library.history.question_audio(other.id, STRANGER).samples, tone(100, seed=0))
        assert library.check() == []


class TestOwners:
    def test_the_lectures_of_others_are_absent(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        segments = cut(library, lecture_id)
        library.lectures.add_embedded([embed(one) for one in segments])
        lectures = library.lectures
        for forbidden in (
            lambda: lectures.get(lecture_id, STRANGER),
            lambda: lectures.info(lecture_id, STRANGER, MODEL),
            lambda: lectures.rename(lecture_id, STRANGER, "mine", None),
            lambda: lectures.delete(lecture_id, STRANGER),
            lambda: lectures.heard(lecture_id, STRANGER, MODEL),
            lambda: library.jobs.queue(lecture_id, STRANGER, JobKind.INGEST),
        ):
            with pytest.raises(NotFound):
                forbidden()
        assert lectures.list(STRANGER, MODEL) == []
        assert lectures.searchable(STRANGER, MODEL, {lecture_id}) == frozenset()
        assert lectures.evidence([hit(one) for one in segments], STRANGER, MODEL) == []
        assert lectures.get(lecture_id, LOCAL_OWNER).title == "About one"

    def test_the_jobs_of_others_are_absent(self, library: Library, files: Path) -> None:
        job_id = add(library, files).job.id
        for forbidden in (lambda: library.jobs.get(job_id, STRANGER), lambda: library.jobs.cancel(job_id, STRANGER)):
            with pytest.raises(NotFound):
                forbidden()
        assert library.jobs.list(STRANGER) == []
        assert library.jobs.get(job_id, LOCAL_OWNER).state is JobState.QUEUED

    def test_the_questions_of_others_are_absent(self, library: Library, files: Path) -> None:
        segments = cut(library, add(library, files).lecture.id)
        library.lectures.add_embedded([embed(one) for one in segments])
        question = ask(library, segments, audio=Audio(tone(100)))
        history = library.history
        for forbidden in (
            lambda: history.get(question.id, STRANGER),
            lambda: history.question_audio(question.id, STRANGER),
            lambda: history.delete(question.id, STRANGER),
            lambda: history.add_answer(question.id, STRANGER, answer_from([], text="forged"), [], MODEL, {}),
            lambda: history.add_question(Question(text="forged", id=question.id), STRANGER),
            lambda: history.add_question(Question(audio=Audio(tone(50)), id=question.id), STRANGER),
            lambda: history.add_question(Question(text="mended", corrects=question.id), STRANGER),
        ):
            with pytest.raises(NotFound):
                forbidden()
        assert history.find(STRANGER, HistoryQuery(), 10).total == 0
        assert history.delete_all(STRANGER) == 0
        entry = history.get(question.id, LOCAL_OWNER)
        assert (entry.question.text, entry.answer.text if entry.answer else "") == ("why do apples fall", "Because of gravity.")
        assert library.check() == []

    def test_the_same_file_of_two_owners_is_two_lectures(self, library: Library, files: Path) -> None:
        mine, theirs = add(library, files, course="C"), add(library, files, owner=STRANGER, course="C")
        assert (mine.new, theirs.new) == (True, True)
        assert len(library.lectures.list(LOCAL_OWNER, MODEL)) == len(library.lectures.list(STRANGER, MODEL)) == 1


class TestWhole:
    def test_disk_usage_counts_sound_and_database(self, library: Library, files: Path) -> None:
        before = library.disk_usage()
        add(library, files, b"x" * 5000)
        after = library.disk_usage()
        assert after["sound"] - before["sound"] == 5000
        assert after["database"] > 0
        assert after["free"] > 0

    def test_missing_sound_is_found_by_the_check_and_comes_back_when_added_again(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        assert library.check() == []
        path = library.lectures.original_path(lecture_id)
        path.unlink()
        assert "add the same file again" in " ".join(library.check())
        with pytest.raises(SoundMissing):
            library.lectures.original_path(lecture_id)
        assert not library.lectures.add(NewLecture(make_file(files, b"one", "other.mp3"), "x"), LOCAL_OWNER).new
        assert library.lectures.original_path(lecture_id).read_bytes() == b"one"
        assert library.check() == []

    def test_damaged_sound_is_reported_as_missing(self, library: Library, files: Path) -> None:
        lecture_id = add(library, files).lecture.id
        list(library.lectures.write_sound(lecture_id, [tone(16_000)]))
        speech = library.lectures.original_path(lecture_id).with_name("speech.flac")
        speech.write_bytes(b"no sound at all")
        with pytest.raises(SoundMissing, match="gone or damaged"):
            library.lectures.clip(lecture_id, Span(0, 10))
        assert "cannot be played" in " ".join(library.check())

    def test_threads_share_a_library(self, library: Library, files: Path) -> None:
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                folder = files / str(number)
                folder.mkdir()
                for i in range(3):
                    segments = cut(library, add(library, folder, f"{number}-{i}".encode()).lecture.id)
                    library.lectures.add_embedded([embed(one) for one in segments])
                    ask(library, segments, audio=Audio(tone(100, seed=number)))
            except BaseException as error:  # reported below, by the test's own thread
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(library.lectures.list(LOCAL_OWNER, MODEL)) == 18
        assert len(library.lectures.embedded_ids(MODEL)) == 54
        assert library.history.find(LOCAL_OWNER, HistoryQuery(), 100).total == 18
        assert library.check() == []
