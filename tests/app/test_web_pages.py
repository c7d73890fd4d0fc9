"""The pages without a browser: what they show and what their buttons do, over a real library."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.service import SpokenQA
from app.web import parts as shared
from app.web.cards import by_citation
from app.web.server import SCRIPT
from retriever.domain import SAMPLE_RATE_HZ, Audio, Question
from storage.domain import HistoryQuery

TIMEOUT_S = 60.0
QUESTION = "How often does the human heart beat every day?"


def _ask() -> None:
    from app.web import ask  # noqa: PLC0415  runs as a script of its own

    ask.show()


def _lectures() -> None:
    from app.web import lectures  # noqa: PLC0415

    lectures.show()


def _history() -> None:
    from app.web import history  # noqa: PLC0415

    history.show()


def _health() -> None:
    from app.web import health  # noqa: PLC0415

    health.show()


def _rename(lecture_id: str) -> None:
    from app.web.lecture_actions import rename  # noqa: PLC0415

    rename(lecture_id)


def _delete(lecture_id: str) -> None:
    from app.web.lecture_actions import delete  # noqa: PLC0415

    delete(lecture_id)


def _forget(question_id: str) -> None:
    from app.web.history import forget  # noqa: PLC0415

    forget(question_id)


@pytest.fixture(autouse=True)
def _fresh_parts() -> Iterator[None]:
    shared.served.clear()
    yield
    shared.served.clear()


@pytest.fixture
def page(home_with_lecture: Path) -> Callable[[Callable[[], None]], AppTest]:
    return lambda script: AppTest.from_function(script, default_timeout=TIMEOUT_S)


@pytest.fixture
def qa(page: Callable[..., AppTest]) -> SpokenQA:
    return shared.served().qa


def all_text(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.info, at.warning, at.error, at.success, at.title, at.header, at.get("html"))
    return "\n".join(str(getattr(one, "value", None) or getattr(one.proto, "body", "")) for kind in kinds for one in kind)


def one_of(value: str | list[str]) -> str:
    return value if isinstance(value, str) else value[0]


def button(at: AppTest, label: str):  # type: ignore[no-untyped-def]
    return next(one for one in at.button if one.label == label)


def test_an_empty_library_says_what_to_do(home: Path) -> None:
    at = AppTest.from_function(_ask, default_timeout=TIMEOUT_S).run()
    assert not at.exception
    assert "no lecture to ask yet" in at.info[0].value


def test_a_question_asked_too_early_is_a_sentence_and_is_kept(home: Path) -> None:
    at = AppTest.from_function(_ask, default_timeout=TIMEOUT_S).run()
    at.text_input(key="typed_text").set_value(QUESTION)
    button(at, "Ask").click()
    at.run()
    assert not at.exception
    assert "no lecture here is searchable yet" in at.error[0].value
    entry = shared.served().qa.history(HistoryQuery()).entries[0]
    assert (entry.question.text, entry.answer) == (QUESTION, None)


def test_an_empty_question_is_a_sentence(page: Callable[..., AppTest]) -> None:
    at = page(_ask).run()
    button(at, "Ask").click()
    at.run()
    assert not at.exception
    assert "type it, or record it" in at.error[0].value


def test_a_typed_question_shows_answer_evidence_and_its_sound(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    at = page(_ask).run()
    at.text_input(key="typed_text").set_value(QUESTION)
    button(at, "Ask").click()
    at.run()
    assert not at.exception
    entry = qa.entry(UUID(one_of(at.query_params["q"])))
    assert entry.answer is not None
    assert entry.answer.supported
    assert entry.answer.text in all_text(at)
    assert "Short lecture" in all_text(at)
    first = at.get("audio")[0].proto
    assert first.alt.startswith("Sound of Short lecture, ")


def test_the_moment_that_answers_comes_first_and_what_is_not_cited_on_demand(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    entry = qa.entry(qa.ask(Question(text=QUESTION)).question.id)
    assert entry.answer is not None
    citation, backwards = entry.answer.citations[0], entry.evidence[::-1]
    assert len(backwards) > 1
    first, *others = by_citation(backwards, entry.answer.citations)
    assert first.hit.segment.id == citation.segment.id
    assert {one.hit.segment.id for one in (first, *others)} == {one.hit.segment.id for one in backwards}
    at = page(_ask)
    at.query_params["q"] = str(entry.question.id)
    at.run()
    assert any("more moment" in one.label.casefold() for one in at.expander)


def test_nothing_is_called_near_to_a_question_that_was_not_understood(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    asked = qa.ask(Question(audio=Audio(np.zeros(2 * SAMPLE_RATE_HZ, np.float32))))
    assert not asked.answer.nearest
    at = page(_ask)
    at.query_params["q"] = str(asked.question.id)
    at.run()
    assert not at.exception
    assert "Nothing was understood" in at.warning[0].value
    assert not at.header


def test_the_answer_survives_a_refresh(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    asked = qa.ask(Question(text=QUESTION))
    at = page(_ask)
    at.query_params["q"] = str(asked.question.id)
    at.run()
    assert not at.exception
    assert asked.answer.text in all_text(at)


@pytest.mark.parametrize("named", [str(uuid4()), "nonsense", "../../etc"])
def test_an_address_that_names_no_question_is_a_sentence(page: Callable[..., AppTest], named: str) -> None:
    at = page(_ask)
    at.query_params["q"] = named
    at.run()
    assert not at.exception
    assert "not in the history any more" in all_text(at)


def test_what_the_lectures_do_not_say_is_said_so(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    asked = qa.ask(Question(text="Which treaty ended the Thirty Years' War in Westphalia?"))
    at = page(_ask)
    at.query_params["q"] = str(asked.question.id)
    at.run()
    assert not at.exception
    assert "The lectures do not seem to answer this" in at.warning[0].value
    assert at.header[0].value == "Nearest moments"


def test_a_lecture_can_be_renamed_read_and_deleted(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    at = page(_lectures).run()
    assert not at.exception
    assert "Short lecture" in all_text(at)
    dialog = AppTest.from_function(_rename, default_timeout=TIMEOUT_S, kwargs={"lecture_id": str(qa.lectures()[0].lecture.id)}).run()
    dialog.text_input[0].set_value("Five *topics*")
    button(dialog, "Save").click()
    dialog.run()
    assert not dialog.exception
    assert qa.lectures()[0].lecture.title == "Five *topics*"
    at.run()
    assert r"Five \*topics\*" in all_text(at)
    button(at, "Read and play").click()
    at.run()
    assert not at.exception
    assert "volcano" in all_text(at)
    next(one for one in at.button if one.label.startswith("Play ")).click()
    at.run()
    assert len(at.get("audio")) == 1


def test_a_lecture_is_deleted_only_after_a_second_word(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    asked = qa.ask(Question(text=QUESTION))
    lecture = {"lecture_id": str(qa.lectures()[0].lecture.id)}
    for label, num_left in (("Keep it", 1), ("Delete it", 0)):
        dialog = AppTest.from_function(_delete, default_timeout=TIMEOUT_S, kwargs=lecture).run()
        assert len(qa.lectures()) == 1
        button(dialog, label).click()
        dialog.run()
        assert len(qa.lectures()) == num_left
    at = page(_ask)
    at.query_params["q"] = str(asked.question.id)
    at.run()
    assert not at.exception
    assert "deleted since" in all_text(at)


def test_a_file_in_the_folder_is_added(page: Callable[..., AppTest], qa: SpokenQA, home: Path, short_question: Path) -> None:
    folder = home / "import"
    folder.mkdir()
    (folder / "a_question.wav").write_bytes(short_question.read_bytes())
    (folder / "broken.mp3").write_bytes(b"no sound")
    at = page(_lectures).run()
    at.button(key="add-a_question.wav").click()
    at.run()
    assert not at.exception
    assert {info.lecture.title for info in qa.lectures()} == {"Short lecture", "a question"}
    at.button(key="add-broken.mp3").click()
    at.run()
    assert not at.exception
    assert "broken" in at.error[0].value


def test_the_history_is_searched_replayed_and_deleted(page: Callable[..., AppTest], qa: SpokenQA, short_question: Path) -> None:
    qa.ask(Question(text=QUESTION))
    spoken = qa.ask(Question(audio=qa.read_question(short_question)))
    at = page(_history).run()
    assert not at.exception
    assert "**2 questions**" in all_text(at)
    at.selectbox(key="history-spoken").set_value("Spoken")
    at.run()
    assert "**One question**" in all_text(at)
    at.session_state[f"entry-{spoken.question.id}"] = True
    at.run()
    assert not at.exception
    assert at.get("audio")[0].proto.alt.startswith("The question as it was spoken")
    dialog = AppTest.from_function(_forget, default_timeout=TIMEOUT_S, kwargs={"question_id": str(spoken.question.id)}).run()
    button(dialog, "Delete it").click()
    dialog.run()
    assert qa.history(HistoryQuery()).total == 1


def test_health_names_every_check(page: Callable[..., AppTest]) -> None:
    at = page(_health).run()
    assert not at.exception
    assert "**database**" in all_text(at)
    assert "fingerprint" in all_text(at)


def test_the_frame_says_why_the_application_cannot_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKALOUD_NUM_HITS", "0")
    at = AppTest.from_file(SCRIPT, default_timeout=TIMEOUT_S).run()
    assert not at.exception
    assert r"num\_hits" in at.error[0].value


def test_a_recorded_question_is_asked_at_once_and_only_once(page: Callable[..., AppTest], qa: SpokenQA, short_question: Path) -> None:
    at = page(_ask).run()
    at.audio_input(key="spoken").upload("question.wav", short_question.read_bytes())
    at.run()
    assert not at.exception
    at.run()
    found = qa.history(HistoryQuery())
    assert found.total == 1
    assert found.entries[0].has_audio
    assert "heart" in at.text_input(key=f"wording-{found.entries[0].question.id}").value


def test_a_recording_that_is_no_sound_is_a_sentence(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    at = page(_ask).run()
    at.audio_input(key="spoken").upload("question.wav", b"RIFF no sound at all")
    at.run()
    assert not at.exception
    assert len(at.error) == 1
    assert qa.history(HistoryQuery()).total == 0


def test_a_corrected_question_keeps_its_sound(page: Callable[..., AppTest], qa: SpokenQA, short_question: Path) -> None:
    asked = qa.ask(Question(audio=qa.read_question(short_question)))
    at = page(_ask)
    at.query_params["q"] = str(asked.question.id)
    at.run()
    at.text_input(key=f"wording-{asked.question.id}").set_value("How many strings does a violin have?")
    button(at, "Search again").click()
    at.run()
    assert not at.exception
    entry = qa.entry(UUID(one_of(at.query_params["q"])))
    assert (entry.question.corrects, entry.has_audio) == (asked.question.id, True)
    assert entry.question.text == "How many strings does a violin have?"


def test_only_the_chosen_lecture_is_asked(page: Callable[..., AppTest], qa: SpokenQA, short_question: Path) -> None:
    other = qa.ingest(short_question, "A question").lecture  # not searchable yet
    at = page(_ask).run()
    at.selectbox(key="scope").set_value("Lectures I choose")
    at.run()
    at.multiselect(key="scope_lectures").set_value([other.id])
    at.text_input(key="typed_text").set_value(QUESTION)
    button(at, "Ask").click()
    at.run()
    assert not at.exception
    assert "no lecture here is searchable yet" in at.error[0].value
    assert qa.history(HistoryQuery()).entries[0].question.scope == frozenset({other.id})


def test_a_recorded_lecture_is_added(page: Callable[..., AppTest], qa: SpokenQA, short_question: Path) -> None:
    at = page(_lectures).run()
    at.audio_input(key="recorded").upload("recording.wav", short_question.read_bytes())
    at.run()
    button(at, "Add the recording").click()
    at.run()
    assert not at.exception
    newest = qa.lectures()[0]
    assert newest.lecture.title.startswith("Recording of ")
    assert newest.file_name == "recording.wav"


def test_a_job_that_waits_without_a_worker_says_the_way_out_and_can_be_cancelled_and_resumed(
    page: Callable[..., AppTest], qa: SpokenQA, short_question: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.service.WORKER_SILENCE", timedelta(0))  # the one that made the library may have gone a second ago
    lecture = qa.ingest(short_question, "A question").lecture
    at = page(_lectures).run()
    assert not at.exception
    assert "askaloud worker" in at.warning[0].value
    at.button(key=f"cancel-{lecture.id}").click()
    at.run()
    assert qa.lecture(lecture.id).job.state.value == "cancelled"  # type: ignore[union-attr]
    at.button(key=f"resume-{lecture.id}").click()
    at.run()
    assert not at.exception
    assert qa.lecture(lecture.id).job.state.value == "queued"  # type: ignore[union-attr]


def test_a_long_history_is_paged_and_a_filter_leads_back_to_the_first_page(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    for number in range(23):
        qa.library.history.add_question(Question(text=f"Question number {number}"), qa.owner)
    at = page(_history).run()
    assert "**23 questions**" in all_text(at)
    assert len([one for one in at.expander if "Question number" in one.label]) == 10
    at.session_state["history-page"] = 3
    at.run()
    assert not at.exception
    assert [one.label for one in at.expander if "Question number 0" in one.label]
    at.text_input(key="history-words").set_value("number 22")
    at.run()
    assert not at.exception
    assert "**One question**" in all_text(at)
    assert [one.label for one in at.expander if "Question number 22" in one.label]


def test_a_hostile_title_shows_as_text(page: Callable[..., AppTest], qa: SpokenQA) -> None:
    title = "![x](http://evil.example/a.png) <script>alert(1)</script>"
    qa.rename(qa.lectures()[0].lecture.id, title, "<b>course</b>")
    asked = qa.ask(Question(text=QUESTION))
    for script in (_lectures, _history, _ask):
        at = page(script)
        if script is _ask:
            at.query_params["q"] = str(asked.question.id)
        at.run()
        assert not at.exception
        markdown = [one.value for kind in (at.markdown, at.caption, at.info, at.title) for one in kind] + [one.label for one in at.expander]
        assert not any("![x](" in text for text in markdown)
        assert not any("<script>" in one.proto.body or "<b>" in one.proto.body for one in at.get("html"))
        assert "evil" in all_text(at) or script is _history
