"""The whole path with a second family, a tiny Voxtral: Mistral's own files, tokenizer and prompt; its answers are random."""

import itertools
import json
from dataclasses import replace

import pytest

from generator.clips import plan_sounds
from generator.config import Served
from generator.domain import AnswerStatus
from generator.families import PromptStyle, named_family
from generator.model_server import ModelServer
from generator.prompt import messages_with_sound
from generator.served import ServedGenerator, SoundBriefing
from retriever.domain import Question


@pytest.fixture(scope="module")
def voxtral(make_checkpoint, serve):
    """A server of a tiny Voxtral."""
    with serve(make_checkpoint("voxtral", "Voxtral-Tiny")) as server:
        yield server


@pytest.fixture
def config(voxtral, monkeypatch) -> Served:
    monkeypatch.setenv("ASKALOUD_LLM_KEY", voxtral.key)
    return Served(base_url=voxtral.base_url, max_tokens=700, timeout_s=600.0)


@pytest.fixture
def generator(config) -> ServedGenerator:
    return ServedGenerator(config, ModelServer(config.base_url, config.api_key_env, config.timeout_s), SoundBriefing(config))


def test_each_clip_reaches_the_model_and_counts_as_30_s(voxtral, sounds, words):
    counts = [voxtral.ask(*(sounds(1.0 + i, 300 + i) for i in range(n)), words("What is said?")).num_prompt_tokens for n in range(4)]
    steps = {later - earlier for earlier, later in itertools.pairwise(counts)}
    assert len(steps) == 1  # the same for 1, 2 and 3 s
    assert 375 <= steps.pop() <= 380


def test_a_clip_of_45_s_is_heard_whole(voxtral, sounds, words):
    short, long = (voxtral.ask(sounds(seconds), words("What is said?")).num_prompt_tokens for seconds in (30.0, 45.0))
    assert long - short == 375


def test_it_takes_five_sounds_whatever_it_is_told(voxtral, sounds, words):
    assert voxtral.ask(*(sounds(1.0, 300 + i) for i in range(5)), words("x")).status == 200
    refused = voxtral.ask(*(sounds(1.0, 300 + i) for i in range(6)), words("x"))
    assert refused.status == 400
    assert "At most 5 audio(s)" in refused.complaint


def test_an_empty_sound_is_taken_without_a_word(voxtral, sounds, words):
    nothing = voxtral.ask(words("What is said?"))
    empty = voxtral.ask(sounds(0.0), words("What is said?"))
    assert empty.status == 400 or empty.num_prompt_tokens <= nothing.num_prompt_tokens + 1  # why we send at least half a second


def test_special_tokens_cannot_be_written(voxtral, words):
    plain, written = (voxtral.ask(words(text), return_token_ids=True).body["prompt_token_ids"] for text in ("x", "[INST] [AUDIO] </s>"))
    assert [number for number in written if number < 64] == [number for number in plain if number < 64]


def test_a_spoken_question_is_answered_with_the_clips_it_rests_on(generator, make_evidence):
    evidence = [make_evidence(f"word {i}", 40.0 * i, 2.0 + i) for i in range(6)]
    question = Question(audio=make_evidence("what", 500.0, 2.0).load_audio())
    *drafts, answer = generator.stream(question, evidence)
    assert all(draft.status is AnswerStatus.STREAMING for draft in drafts)
    assert answer.model == "Voxtral-Tiny"
    assert answer.text.isprintable()
    assert answer.text == drafts[-1].text or not answer.supported
    assert bool(answer.citations) is answer.supported
    assert {citation.segment for citation in answer.citations} <= {one.segment for one in evidence[:4]}
    told = json.loads(answer.settings)
    assert len(told["sent"]) == 4  # the question is the fifth sound
    assert len(told["left_out"]) == 2
    assert "Not sent to the model" in answer.note


def test_the_rules_reach_a_model_without_a_system_message(voxtral, make_evidence):
    evidence = [make_evidence("one", 0.0)]
    family = named_family("voxtral")
    messages = messages_with_sound(plan_sounds(None, evidence, family, 5), "What is said?", family.prompt)
    assert family.prompt is PromptStyle.USER
    answered = voxtral.post("/chat/completions", {"model": voxtral.model, "messages": messages, "max_tokens": 1})
    bare = voxtral.ask(messages[0]["content"][-1], max_tokens=1)
    assert answered.num_prompt_tokens > bare.num_prompt_tokens + 375 + 100


def test_it_streams_several_answers_at_once(config, make_evidence):
    asked = ServedGenerator(
        replace(config, max_tokens=60), ModelServer(config.base_url, config.api_key_env, config.timeout_s), SoundBriefing(config)
    )
    evidence = [make_evidence("one", 0.0), make_evidence("two", 40.0)]
    streams = [asked.stream(Question(text=f"Question {i}"), evidence) for i in range(3)]
    for turn in zip(*(iter(stream) for stream in streams), strict=False):
        assert all(answer.model == "Voxtral-Tiny" for answer in turn)
