"""The application over a model server: each state of an answer is kept before it is shown, and whatever breaks, a question is answered."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from protocol_server import ProtocolServer, answers, running
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from app.answering import BROKEN_OFF, settled
from app.build import Parts, build_answerer
from app.cli import commands
from app.errors import SettingsInvalid
from app.export import HistoryFormat, export_history
from app.service import SpokenQA
from app.settings import load_settings
from app.web import parts as shared
from generator.config import EMBEDDED, Served, ServedText
from generator.domain import Answer, AnswerStatus
from generator.fallback import WithFallback
from retriever.domain import Question
from storage.domain import HistoryQuery

QUESTION = "How many times does the human heart beat every day?"
LONG = "one hundred thousand times " * 12
HELPER = Path(__file__).parents[1] / "helpers" / "protocol_server.py"
AWAY = "http://127.0.0.1:9/v1"
WAIT_S = 60.0


@pytest.fixture
def server() -> Iterator[ProtocolServer]:
    with running() as one:
        yield one
        assert one.faults == []


@pytest.fixture
def served(qa: SpokenQA, server: ProtocolServer) -> SpokenQA:
    return over(qa, server.url)


def over(qa: SpokenQA, url: str, **settings: object) -> SpokenQA:
    config = Served(base_url=url, model="tiny", family="qwen2-audio", **settings)  # type: ignore[arg-type]
    return replace(qa, generator=build_answerer(config, "clsr"))


@pytest.fixture
def configured(home_with_lecture: Path) -> Callable[..., None]:
    """Write the settings of a generator into the data folder."""

    def write(**settings: object) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in ({"model": "tiny"} | settings).items()]
        (home_with_lecture / "askaloud.toml").write_text("\n".join(["[generator]", *lines]), encoding="utf-8")

    return write


@pytest.fixture
def killable() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A slow server in a process of its own, and its address."""
    with subprocess.Popen([sys.executable, str(HELPER), "--answer", LONG, "--pause", "0.1"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Asking


def test_a_spoken_question_is_answered_by_the_speech_llm_from_the_lectures_own_sound(
    served: SpokenQA, server: ProtocolServer, short_question: Path
) -> None:
    server.behaviour.brain = answers("One hundred thousand times.", (1, 2))
    sound = served.read_question(short_question)
    asked = served.ask(Question(audio=sound))
    evidence = asked.found.evidence
    assert server.last().seconds == pytest.approx([*(one.load_audio().duration_s for one in evidence), sound.duration_s], abs=1e-3)
    assert asked.answer.text == "One hundred thousand times."
    assert [one.segment for one in asked.answer.citations] == [one.segment for one in evidence[:2]]
    entry = served.entry(asked.question.id)
    assert entry.answer == asked.answer
    assert entry.answer is not None
    assert (entry.answer.model, entry.answer.note) == ("tiny", "")
    assert 0 < asked.answer.confidence <= 1


def test_each_state_of_an_answer_is_in_the_history_before_it_is_given_out(served: SpokenQA, server: ProtocolServer) -> None:
    server.behaviour.brain, server.behaviour.pause_s = answers(LONG), 0.02
    states = []
    for asked in served.asking(Question(text=QUESTION)):
        entry = served.entry(asked.question.id)
        assert entry.answer == asked.answer
        assert entry.evidence
        states.append(asked.answer)
    *coming, last = states
    assert len(coming) >= 3
    assert coming[0].text == ""  # the evidence is there before the model has said a word
    assert all(one.status is AnswerStatus.STREAMING for one in coming)
    assert all(last.text.startswith(one.text.strip()) for one in coming)
    assert (last.status, last.text) == (AnswerStatus.COMPLETE, LONG.strip())


def test_an_answer_that_nobody_waits_for_any_more_says_that_it_broke_off(served: SpokenQA, server: ProtocolServer) -> None:
    server.behaviour.brain, server.behaviour.pause_s = answers(LONG), 0.05
    states = served.asking(Question(text=QUESTION))
    asked = next(one for one in states if one.answer.text)
    states.close()  # type: ignore[attr-defined]
    answer = served.entry(asked.question.id).answer
    assert answer is not None
    assert answer.status is AnswerStatus.FAILED
    assert answer.text.startswith(BROKEN_OFF)
    assert "Until then it read: “one" in answer.text
    wait_for(lambda: server.num_streaming == 0)  # and the server is let go


def test_the_words_alone_are_sent_to_a_text_model(qa: SpokenQA, server: ProtocolServer) -> None:
    served = replace(qa, generator=build_answerer(ServedText(base_url=server.url), "clsr"))
    asked = served.ask(Question(text=QUESTION))
    assert asked.answer.model == "tiny"
    assert asked.found.evidence[0].text in server.last().text


def test_a_lecture_whose_sound_is_gone_is_answered_from_its_words(served: SpokenQA, server: ProtocolServer, parts: Parts) -> None:
    (info,) = served.lectures()
    for path in (parts.settings.home / "sounds").rglob("*"):
        if path.is_file():
            path.unlink()
    for path in parts.settings.home.rglob("*.flac"):
        path.unlink()
    answer = served.ask(Question(text=QUESTION)).answer
    assert answer.model == EMBEDDED.kind  # its words are there all the same
    assert f"none can be sent: “{info.lecture.title}” " in answer.note
    assert "its sound cannot be read" in answer.note
    assert server.heard == []


# What stands in


def test_a_server_killed_in_mid_answer_leaves_its_words_and_the_embedded_answer(
    qa: SpokenQA, killable: tuple[subprocess.Popen[str], str]
) -> None:
    process, url = killable
    embedded = qa.ask(Question(text=QUESTION)).answer
    states = over(qa, url).asking(Question(text=QUESTION))
    asked = next(one for one in states if one.answer.text)
    process.kill()
    *_, last = states
    assert last.answer.citations == embedded.citations
    assert last.answer.model == EMBEDDED.kind
    assert "in the middle of its answer" in last.answer.note
    assert "the model had said: “one" in last.answer.note
    entry = qa.entry(asked.question.id)
    assert entry.answer == last.answer


def test_with_nobody_there_the_answer_is_the_embedded_one_and_history_and_exports_say_so(qa: SpokenQA) -> None:
    embedded = qa.ask(Question(text=QUESTION)).answer
    asked = over(qa, AWAY).ask(Question(text=QUESTION))
    assert replace(asked.answer, note="") == embedded
    note = f"Answered by the embedded generator ({EMBEDDED.kind}) instead of the model server: the model server {AWAY} cannot be reached"
    entries = qa.history(HistoryQuery()).entries
    assert entries[0].answer is not None
    assert entries[0].answer.note.startswith(note)
    rows = list(csv.DictReader(io.StringIO(export_history(entries, HistoryFormat.CSV))))
    assert [row["note"][: len(note)] for row in rows] == [note, ""]
    assert json.loads(export_history(entries, HistoryFormat.JSON))["entries"][0]["answer"]["note"].startswith(note)
    assert export_history(entries, HistoryFormat.MARKDOWN).count("Note: Answered by the embedded generator") == 1


def test_an_embedded_generator_needs_nobody_to_stand_in() -> None:
    assert not isinstance(build_answerer(load_settings().generator, "clsr"), WithFallback)


# Processes that die


@pytest.mark.crash
def test_an_answer_on_its_way_when_askaloud_is_killed_is_kept_as_far_as_it_came(
    qa: SpokenQA, home_with_lecture: Path, configured: Callable[..., None], server: ProtocolServer
) -> None:
    server.behaviour.brain, server.behaviour.pause_s = answers(LONG), 0.3
    configured(kind="served", base_url=server.url, family="qwen2-audio")
    with subprocess.Popen([sys.executable, "-m", "app", "ask", "--text", QUESTION], stdout=subprocess.DEVNULL, env=os.environ) as asking:
        try:

            def on_its_way() -> bool:
                entries = qa.history(HistoryQuery()).entries
                return bool(entries and entries[0].answer and entries[0].answer.text)

            wait_for(on_its_way)
            alive = qa.history(HistoryQuery()).entries[0].answer
            assert alive is not None
            assert alive.status is AnswerStatus.STREAMING  # its process lives
        finally:
            asking.kill()
    (entry,) = qa.history(HistoryQuery()).entries
    assert entry.answer is not None
    assert entry.answer.status is AnswerStatus.FAILED
    assert f"{BROKEN_OFF} Until then it read: “one" in entry.answer.text
    assert entry.evidence
    assert qa.entry(entry.question.id).answer == entry.answer


def test_an_answer_on_its_way_on_another_machine_is_given_up_after_an_hour(served: SpokenQA, server: ProtocolServer) -> None:
    asked = served.ask(Question(text=QUESTION))
    entry = served.entry(asked.question.id)
    elsewhere = Answer("one", (), False, 0.0, "none", '{"answering": "00000000-1-1"}', status=AnswerStatus.STREAMING)
    coming = replace(entry, answer=elsewhere)
    assert settled(coming) == coming
    after = settled(coming, entry.asked_at + timedelta(hours=2))
    assert after.answer is not None
    assert after.answer.status is AnswerStatus.FAILED


@pytest.mark.parametrize("mark", ["{}", "", '{"answering": "x"}', '{"answering": 7}', "[]"])
def test_an_answer_on_its_way_that_nobody_claims_broke_off(served: SpokenQA, mark: str) -> None:
    entry = served.entry(served.ask(Question(text=QUESTION)).question.id)
    orphan = replace(entry, answer=Answer("one", (), False, 0.0, "none", mark, status=AnswerStatus.STREAMING))
    assert settled(orphan).answer is not None
    assert settled(orphan).answer.status is AnswerStatus.FAILED  # type: ignore[union-attr]


# The command line


def test_the_command_line_shows_the_answer_of_the_server(configured: Callable[..., None], server: ProtocolServer) -> None:
    server.behaviour.brain = answers("One [hundred] thousand times.", (1,))
    configured(kind="served", base_url=server.url, family="qwen2-audio")
    result = CliRunner().invoke(commands, ["ask", "--text", QUESTION])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("One [hundred] thousand times.\n")
    assert "Note:" not in result.stdout


def test_the_command_line_says_who_stood_in_and_why(configured: Callable[..., None]) -> None:
    configured(kind="served", base_url=AWAY, family="qwen2-audio")
    result = CliRunner().invoke(commands, ["ask", "--text", QUESTION])
    assert result.exit_code == 0, result.stderr
    assert f"Note: Answered by the embedded generator ({EMBEDDED.kind}) instead of the model server" in result.stdout
    result = CliRunner().invoke(commands, ["ask", "--text", QUESTION, "--json"])
    answer = json.loads(result.stdout)["answer"]
    assert (answer["model"], answer["status"]) == (EMBEDDED.kind, "complete")
    assert f"the model server {AWAY} cannot be reached" in answer["note"]
    result = CliRunner().invoke(commands, ["history"])
    assert result.stdout.count("Note: Answered by the embedded generator") == 2


def test_the_key_in_the_environment_is_used_and_is_no_unknown_setting(
    configured: Callable[..., None], server: ProtocolServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviour.key = "right"
    configured(kind="served", base_url=server.url, family="qwen2-audio")
    result = CliRunner().invoke(commands, ["ask", "--text", QUESTION])
    assert "it does not accept the key; put the right one into the environment variable ASKALOUD_LLM_KEY" in result.stdout
    monkeypatch.setenv("ASKALOUD_LLM_KEY", "right")
    result = CliRunner().invoke(commands, ["ask", "--text", QUESTION, "--json"])
    assert json.loads(result.stdout)["answer"]["model"] == "tiny"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"max_clips": 0}, "max_clips must be at least 1"),
        ({"timeout_s": -1.0}, "timeout_s must be more"),
        ({"temprature": 1}, "no such setting"),
    ],
)
def test_settings_with_which_nothing_can_be_asked_are_a_sentence(
    configured: Callable[..., None], setting: dict[str, object], complaint: str
) -> None:
    configured(kind="served", **setting)
    with pytest.raises(SettingsInvalid, match=complaint):
        load_settings()


def test_an_unknown_family_in_the_settings_is_a_sentence(configured: Callable[..., None]) -> None:
    configured(kind="served", family="qwen9")
    result = subprocess.run(
        [sys.executable, "-m", "app", "ask", "--text", QUESTION],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=os.environ,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: 'qwen9' is no family of speech LLMs: choose one of ")


# The page


def _ask() -> None:
    from app.web import ask  # noqa: PLC0415  runs as a script of its own

    ask.show()


def _history() -> None:
    from app.web import history  # noqa: PLC0415

    history.show()


@pytest.fixture
def page(home_with_lecture: Path) -> Iterator[Callable[..., AppTest]]:
    def make(script: Callable[[], None], **query: str) -> AppTest:
        at = AppTest.from_function(script, default_timeout=WAIT_S)
        for name, value in query.items():
            at.query_params[name] = value
        return at.run()

    shared.served.clear()
    yield make
    shared.served.clear()


def all_text(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.info, at.warning, at.error, at.header, at.get("html"), at.expander)
    one_by_one = (one for kind in kinds for one in kind)
    return "\n".join(str(getattr(one, "value", None) or getattr(one, "label", "") or getattr(one.proto, "body", "")) for one in one_by_one)


def ask_on(at: AppTest) -> str:
    at.text_input(key="typed_text").set_value(QUESTION)
    next(one for one in at.button if one.label == "Ask").click()
    at.run()
    assert not at.exception
    named = at.query_params["q"]
    return named if isinstance(named, str) else named[0]


def test_a_page_refreshed_in_mid_answer_shows_what_came_and_then_the_rest(
    page: Callable[..., AppTest], configured: Callable[..., None], server: ProtocolServer
) -> None:
    server.behaviour.brain, server.behaviour.pause_s = answers(LONG), 0.1
    configured(kind="served", base_url=server.url, family="qwen2-audio")
    named = ask_on(page(_ask))
    qa = shared.served().qa
    wait_for(lambda: (answer := qa.entry(UUID(named)).answer) is not None and answer.text)
    refreshed = page(_ask, q=named)
    text = all_text(refreshed)
    assert "The model server is answering" in text
    assert "one hundred" in text
    assert "Moments found" in text
    assert refreshed.get("audio")  # they can be played while the model speaks
    assert "being answered" in all_text(page(_history))
    server.behaviour.pause_s = 0.0
    wait_for(lambda: (answer := qa.entry(UUID(named)).answer) is not None and answer.status is AnswerStatus.COMPLETE)
    whole = all_text(page(_ask, q=named))
    assert LONG.strip() in whole
    assert "is answering" not in whole
    assert "Where it is said" in whole


def test_the_card_says_who_stood_in_and_why(page: Callable[..., AppTest], configured: Callable[..., None]) -> None:
    configured(kind="served", base_url=AWAY, family="qwen2-audio")
    named = ask_on(page(_ask))
    qa = shared.served().qa
    wait_for(lambda: (answer := qa.entry(UUID(named)).answer) is not None and answer.status is AnswerStatus.COMPLETE)
    at = page(_ask, q=named)
    assert any("Answered by the embedded generator" in one.value for one in at.info)
    assert "hundred thousand" in all_text(at)
    assert "in the lectures · with a note" in all_text(page(_history))


def test_an_answer_that_broke_off_is_called_failed(page: Callable[..., AppTest]) -> None:
    qa = shared.served().qa
    asked = qa.ask(Question(text=QUESTION))
    orphan = Answer("one hundred", (), False, 0.0, "none", "{}", status=AnswerStatus.STREAMING)
    qa.library.history.add_answer(asked.question.id, qa.owner, orphan, asked.found.evidence, "r", {})
    at = page(_ask, q=str(asked.question.id))
    assert "Until then it read: “one hundred”" in at.error[0].value.replace("\\", "")
    assert "failed" in all_text(page(_history))


def test_threads_that_answer_end_with_their_answer(
    page: Callable[..., AppTest], configured: Callable[..., None], server: ProtocolServer
) -> None:
    configured(kind="served", base_url=server.url, family="qwen2-audio")
    ask_on(page(_ask))
    wait_for(lambda: not any(thread.name == "answering" for thread in threading.enumerate()))


def test_nothing_of_langchain_is_loaded_for_the_embedded_generator() -> None:
    program = (
        "import sys\nfrom app.build import build_answerer\nfrom generator.config import Served\n"
        "build_answerer(Served(family='voxtral'), 'clsr')\n"
        "print(sorted({'langchain_core', 'langchain_openai', 'openai', 'langsmith'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=WAIT_S)
    assert result.stdout.strip() == "[]"
