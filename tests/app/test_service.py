import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from app.build import Parts, build_app, build_parts, build_worker
from app.errors import NothingToSearch
from app.service import SpokenQA
from app.settings import Settings, load_settings
from app.titles import title_from
from generator.domain import AnswerStatus
from generator.errors import GeneratorError
from retriever.config import FixedWindows
from retriever.domain import SAMPLE_RATE_HZ, Question, Span
from retriever.errors import UnreadableAudio
from storage.domain import HistoryQuery, JobState
from storage.errors import NotFound

HEART = Span(int(28.7 * SAMPLE_RATE_HZ), int(40.2 * SAMPLE_RATE_HZ))  # where the short lecture speaks of the heart
HEART_QUESTION = "How many times does the human heart beat every day?"


def only_lecture(qa: SpokenQA) -> UUID:
    (info,) = qa.lectures()
    return info.lecture.id


def overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


# Asking


def test_a_typed_question_is_answered_with_its_moment(qa: SpokenQA) -> None:
    asked = qa.ask(Question(text=HEART_QUESTION))
    assert asked.answer.supported
    assert asked.answer.status is AnswerStatus.COMPLETE
    assert overlap(asked.answer.citations[0].span, HEART)
    assert overlap(asked.found.hits[0].segment.span, HEART)
    assert set(asked.found.timings_ms) == {"encode", "search", "answer", "total"}
    assert asked.question.heard is None


def test_a_spoken_question_is_heard_answered_and_remembered_with_its_sound(qa: SpokenQA, short_question: Path) -> None:
    sound = qa.read_question(short_question)
    asked = qa.ask(Question(audio=sound))
    assert asked.question.heard
    assert "heart" in asked.question.heard
    assert overlap(asked.found.hits[0].segment.span, HEART)
    entry = qa.entry(asked.question.id)
    assert entry.has_audio
    assert entry.question.heard == asked.question.heard
    kept = qa.question_audio(asked.question.id)
    assert kept.num_samples == sound.num_samples
    assert np.abs(kept.samples - sound.samples).max() < 1e-3


def test_a_question_that_the_lecture_does_not_answer_gets_no_answer_but_nearest_moments(qa: SpokenQA, off_topic_question: Path) -> None:
    for question in (
        Question(text="What is the largest planet of the solar system?"),
        Question(audio=qa.read_question(off_topic_question)),
    ):
        answer = qa.ask(question).answer
        assert not answer.supported
        assert answer.citations == ()
        assert answer.nearest


def test_a_corrected_question_keeps_its_sound_and_names_what_it_corrects(qa: SpokenQA, off_topic_question: Path) -> None:
    first = qa.ask(Question(audio=qa.read_question(off_topic_question)))
    second = qa.correct(first.question.id, HEART_QUESTION)
    assert second.question.id != first.question.id
    assert second.question.corrects == first.question.id
    assert overlap(second.answer.citations[0].span, HEART)
    kept = qa.entry(second.question.id)
    assert kept.has_audio
    assert kept.question.text == HEART_QUESTION
    assert qa.question_audio(second.question.id).num_samples == qa.question_audio(first.question.id).num_samples
    assert qa.history(HistoryQuery()).total == 2


def test_a_question_asked_again_is_a_new_entry_with_the_same_answer(qa: SpokenQA) -> None:
    first = qa.ask(Question(text=HEART_QUESTION))
    again = qa.ask_again(first.question.id)
    assert again.question.id != first.question.id
    assert again.answer == first.answer
    assert qa.history(HistoryQuery()).total == 2


def test_a_search_is_not_remembered(qa: SpokenQA) -> None:
    assert qa.search(Question(text=HEART_QUESTION), num_hits=2).hits
    assert qa.history(HistoryQuery()).total == 0


def test_as_many_hits_as_asked_for_are_found(qa: SpokenQA) -> None:
    num_segments = qa.lectures()[0].num_segments
    for num_hits in (1, 2, 50):
        assert len(qa.search(Question(text="bread"), num_hits).hits) == min(num_hits, num_segments)


def test_a_question_limited_to_another_lecture_finds_nothing_here(qa: SpokenQA) -> None:
    assert qa.search(Question(text="bread", scope=frozenset({only_lecture(qa)}))).hits
    asked = Question(text="bread", scope=frozenset({uuid4()}))
    with pytest.raises(NothingToSearch):
        qa.ask(asked)
    assert qa.entry(asked.id).answer is None  # what was asked is remembered all the same


def test_without_lectures_there_is_nothing_to_search(home: Path) -> None:
    parts = build_parts(load_settings())
    with closing(parts.library), pytest.raises(NothingToSearch, match="add one"):
        build_app(parts).ask(Question(text="bread"))


def test_when_the_generator_fails_the_evidence_is_kept(qa: SpokenQA) -> None:
    class Broken:
        def answer(self, question, evidence):  # type: ignore[no-untyped-def]
            raise GeneratorError("the model is gone; start it again")

    asked = replace(qa, generator=Broken()).ask(Question(text=HEART_QUESTION))
    assert asked.answer.status is AnswerStatus.FAILED
    assert "start it again" in asked.answer.text
    entry = qa.entry(asked.question.id)
    assert entry.evidence
    assert entry.answer == asked.answer


def test_another_owner_sees_nothing_of_this_one(qa: SpokenQA) -> None:
    asked = qa.ask(Question(text=HEART_QUESTION))
    stranger = replace(qa, owner=uuid4())
    assert stranger.lectures() == []
    assert stranger.history(HistoryQuery()).total == 0
    with pytest.raises(NothingToSearch):
        stranger.search(Question(text=HEART_QUESTION))
    for forbidden in (
        lambda: stranger.entry(asked.question.id),
        lambda: stranger.forget(asked.question.id),
        lambda: stranger.delete_lecture(only_lecture(qa)),
        lambda: stranger.clip(only_lecture(qa), HEART),
        lambda: stranger.heard(only_lecture(qa)),
    ):
        with pytest.raises(NotFound):
            forbidden()


# Moments


def test_a_moment_plays_exactly_its_stretch_of_sound(qa: SpokenQA) -> None:
    citation = qa.ask(Question(text=HEART_QUESTION)).answer.citations[0]
    clip = qa.clip(citation.segment.lecture_id, citation.span)
    assert clip.num_samples == citation.span.num_samples
    assert np.abs(clip.samples).max() > 0.01


def test_evidence_brings_its_own_sound(qa: SpokenQA) -> None:
    evidence = qa.search(Question(text=HEART_QUESTION)).evidence[0]
    assert evidence.load_audio().num_samples == evidence.segment.span.num_samples


def test_what_was_heard_is_told_in_order_of_time(qa: SpokenQA) -> None:
    heard = qa.heard(only_lecture(qa))
    starts = [word.start for one in heard for word in one.words]
    assert starts == sorted(starts)
    assert "heart" in {word.text for one in heard for word in one.words}


def test_an_answer_across_a_cut_is_found(home: Path, short_lecture: Path) -> None:
    """Short windows cut through nearly every sentence; the number of the heart's beats is said across the cut at 33.8 s."""
    settings = Settings(home=home, demo=False, segmentation=FixedWindows(window_s=33.8 / 7))
    parts = build_parts(settings)
    with closing(parts.library), closing(parts.retriever):
        qa = build_app(parts)
        qa.ingest(short_lecture)
        build_worker(parts).run(lambda: True)
        answer = qa.ask(Question(text=HEART_QUESTION)).answer
    assert answer.supported
    best = answer.citations[0]
    assert overlap(best.span, HEART)
    assert best.span.start < best.segment.start or best.span.end > best.segment.end, "the answer should reach into the neighbour"


# What is kept, and what goes


def test_the_same_file_twice_is_one_lecture(qa: SpokenQA, short_lecture: Path) -> None:
    added = qa.ingest(short_lecture, "Another title")
    assert not added.new
    assert added.lecture.id == only_lecture(qa)
    assert added.job.state is JobState.DONE  # nothing is to be done


def test_a_title_is_one_line_and_a_blank_one_is_made_of_the_file_name(qa: SpokenQA, tmp_path: Path, short_question: Path) -> None:
    shutil.copy(short_question, tmp_path / "first.wav")
    assert qa.ingest(tmp_path / "first.wav", " \n ").lecture.title == "first"
    lecture = qa.lectures()[0].lecture
    qa.rename(lecture.id, "Two\nlines ", None)
    assert qa.lecture(lecture.id).lecture.title == "Two lines"


def test_a_file_that_is_no_sound_is_refused_at_the_door(qa: SpokenQA, tmp_path: Path) -> None:
    (tmp_path / "notes.mp3").write_text("not sound")
    with pytest.raises(UnreadableAudio):
        qa.ingest(tmp_path / "notes.mp3")
    assert len(qa.lectures()) == 1


def test_a_deleted_lecture_is_not_found_any_more_and_the_history_says_so(qa: SpokenQA, parts: Parts) -> None:
    asked = qa.ask(Question(text=HEART_QUESTION))
    lecture_id = only_lecture(qa)
    qa.delete_lecture(lecture_id)
    with pytest.raises(NothingToSearch):
        qa.search(Question(text=HEART_QUESTION))
    with pytest.raises(NotFound):
        qa.clip(lecture_id, HEART)
    entry = qa.entry(asked.question.id)
    assert entry.answer == asked.answer
    assert all(one.lecture_deleted for one in entry.evidence)
    assert entry.title_of(asked.answer.citations[0]) == "Short lecture"
    assert parts.library.check() == []


def test_a_forgotten_question_is_gone(qa: SpokenQA, short_question: Path) -> None:
    asked = qa.ask(Question(audio=qa.read_question(short_question)))
    qa.forget(asked.question.id)
    with pytest.raises(NotFound):
        qa.entry(asked.question.id)
    with pytest.raises(NotFound):
        qa.question_audio(asked.question.id)


@pytest.mark.parametrize("page", [4, 5, 100])
def test_the_whole_history_is_every_entry_that_matches_however_it_is_paged(
    qa: SpokenQA, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("app.service.HISTORY_PAGE", page)
    for number in range(10):
        qa.library.history.add_question(Question(text=f"Question number {number}"), qa.owner)
    assert [entry.question.text for entry in qa.whole_history(HistoryQuery())] == [f"Question number {n}" for n in reversed(range(10))]
    assert len(list(qa.whole_history(HistoryQuery(words="number 7")))) == 1


def test_all_questions_can_be_forgotten_at_once(qa: SpokenQA) -> None:
    for text in ("bread", "fire"):
        qa.ask(Question(text=text))
    assert qa.forget_all() == 2
    assert qa.history(HistoryQuery()).total == 0


def test_a_renamed_lecture_is_cited_by_its_new_name(qa: SpokenQA) -> None:
    qa.rename(only_lecture(qa), "On hearts", "Biology")
    assert qa.search(Question(text=HEART_QUESTION)).evidence[0].lecture_title == "On hearts"
    assert qa.lectures()[0].course == "Biology"


def test_the_history_finds_questions_by_words_and_support(qa: SpokenQA) -> None:
    qa.ask(Question(text=HEART_QUESTION))
    qa.ask(Question(text="What is the largest planet of the solar system?"))
    assert qa.history(HistoryQuery("PLANET")).total == 1
    assert qa.history(HistoryQuery(supported=True)).entries[0].question.text == HEART_QUESTION
    assert qa.history(HistoryQuery(lecture_id=only_lecture(qa))).total >= 1
    assert [e.question.text for e in qa.history(HistoryQuery(), limit=1, offset=1).entries] == [HEART_QUESTION]


# Sound that is not kept


def test_listening_to_a_file_keeps_nothing(qa: SpokenQA, short_question: Path) -> None:
    heard = list(qa.listen(short_question))
    assert "heart" in {word.text for one in heard for word in one.words}
    assert len(qa.lectures()) == 1


@pytest.mark.parametrize(
    ("name", "title"), [("week_3_intro.mp3", "week 3 intro"), ("a  b.tar.wav", "a b.tar"), ("_.wav", "Untitled lecture"), (".wav", ".wav")]
)
def test_a_title_is_made_of_the_file_name(name: str, title: str) -> None:
    assert title_from(Path(name)) == title
