"""The application as users run it, over the real server with a tiny Qwen2-Audio: settings, doctor, a library, the command line, a crash."""

import json
import signal
import time

import pytest

from app.cli import run
from app.doctor import check
from app.settings import load_settings
from generator.config import Served
from generator.errors import ServedError
from generator.model_server import ModelServer
from generator.served import ServedGenerator, SoundBriefing
from retriever.domain import Question


@pytest.fixture
def served(qwen2_audio, monkeypatch):
    """The settings of an application that asks the server."""
    monkeypatch.setenv("ASKALOUD_LLM_KEY", qwen2_audio.key)
    monkeypatch.setenv("ASKALOUD_GENERATOR__KIND", "served")
    monkeypatch.setenv("ASKALOUD_GENERATOR__BASE_URL", qwen2_audio.base_url)
    monkeypatch.setenv("ASKALOUD_GENERATOR__TIMEOUT_S", "600")
    monkeypatch.setenv("ASKALOUD_GENERATOR__MAX_TOKENS", "120")
    return qwen2_audio


def doctor_on_the_server() -> list:
    return [one for one in check(load_settings()) if one.name == "model server"]


def test_the_doctor_finds_the_server_in_order(served, home):
    checks = doctor_on_the_server()
    assert all(one.ok for one in checks), checks
    told = " / ".join(one.message for one in checks)
    assert "is well" in told
    assert "it serves Qwen2-Audio-Tiny" in told
    assert "family Qwen2-Audio: 8 sounds of 30 s at most (verified" in told
    assert "answers to a second of sound" in told


def test_the_doctor_tells_of_a_wrong_key_and_a_wrong_model(served, home, monkeypatch):
    monkeypatch.setenv("ASKALOUD_GENERATOR__MODEL", "another")
    assert [one.way_out for one in doctor_on_the_server() if not one.ok] == ["set `model` in the [generator] settings to one of these"]
    monkeypatch.setenv("ASKALOUD_LLM_KEY", "wrong")
    (broken,) = [one for one in doctor_on_the_server() if not one.ok]
    assert "Unauthorized" in broken.message
    assert "ASKALOUD_LLM_KEY" in broken.way_out


def test_the_doctor_says_that_an_unverified_family_is_unverified(served, home, monkeypatch):
    monkeypatch.setenv("ASKALOUD_GENERATOR__FAMILY", "ultravox")
    (family,) = [one for one in doctor_on_the_server() if one.message.startswith("family")]
    assert "unverified" in family.message
    assert family.way_out


@pytest.mark.parametrize("spoken", [False, True], ids=["typed", "spoken"])
def test_a_question_to_a_library_is_answered_by_the_server_and_kept(served, home_with_lecture, short_question, capsys, spoken):
    asked = ["--audio", str(short_question)] if spoken else ["--text", "How often does the heart beat every day?"]
    assert run(["ask", *asked, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["answer"]["model"] == "Qwen2-Audio-Tiny" or "instead of the model server" in shown["answer"]["note"]
    assert run(["history", "--json"]) == 0
    (kept,) = json.loads(capsys.readouterr().out)["entries"]
    assert (kept["answer"]["model"], kept["answer"]["text"]) == (shown["answer"]["model"], shown["answer"]["text"])
    assert kept["question"]["spoken"] is spoken


@pytest.mark.crash
def test_a_server_killed_in_the_middle_of_an_answer_is_told_of_and_started_again(served, make_evidence):
    config = Served(base_url=served.base_url, max_tokens=700, timeout_s=600.0)
    asked = ServedGenerator(config, ModelServer(config.base_url, config.api_key_env, config.timeout_s), SoundBriefing(config))
    evidence, question = [make_evidence("one", 0.0), make_evidence("two", 40.0)], Question(text="What is said?")
    before = asked.answer(question, evidence)
    worker = next(one for one in served.vllm_processes() if "EngineCore" in " ".join(one.cmdline()) or "EngineCore" in one.name())
    drafts = []
    with pytest.raises(ServedError) as broken:
        drafts.extend(_killing(worker, asked.stream(question, evidence)))
    assert len(drafts) > 3
    assert broken.value.partial
    assert before.text.startswith(broken.value.partial.strip()[:20])
    began = time.monotonic()
    while served.is_healthy():
        assert time.monotonic() - began < 120, "its engine is dead, and it says that it is well"
        time.sleep(0.2)
    assert [one for one in doctor_on_the_server() if not one.ok]  # as long as it is away
    served.wait_until_healthy()
    assert "starting it again" in served.told.read_text()
    after = asked.answer(question, evidence)
    assert (after.text, after.citations) == (before.text, before.citations)


def _killing(worker, drafts):
    """Yield drafts, and kill the worker once three have words."""
    for number, draft in enumerate(draft for draft in drafts if draft.text):
        if number == 3:
            worker.send_signal(signal.SIGKILL)
        yield draft
