"""What models answer is read, whatever form they choose; what is shown while it comes is never a piece of JSON."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.answer_format import MAX_ANSWER_CHARACTERS, Reply, read_reply, schema, so_far
from generator.errors import AnswerUnusable

SENTENCE = "One hundred thousand times."


@pytest.mark.parametrize(
    "text",
    [
        '{"supported": true, "clips": [2, 1], "answer": "One hundred thousand times."}',
        'Sure! Here it is:\n```json\n{"supported": true, "clips": [2, 1], "answer": "One hundred thousand times."}\n```\nI hope it helps.',
        '{"Answer": "One hundred thousand times.", "Clips": ["2", "clip 1"], "Supported": "yes"}',
        "{'supported': true, 'clips': [2, 1], 'answer': 'One hundred thousand times.'}",
        '{"supported": true, "clips": [2, 1,], "answer": "One hundred thousand times.",}',
        '{"supported": true, "clips": [2, 1], "answer": "One hundred thousand times.',
        '{supported: true, clips: [2, 1, 2], answer: "One hundred thousand times."}',
        "Supported: yes\nClips: 2 and 1\nAnswer: One hundred thousand times.",
        "**Answer:** One hundred thousand times.\n**Clips:** 2, 1\n**Supported:** true",
    ],
)
def test_an_answer_is_read_from_json_broken_json_and_labelled_lines(text: str) -> None:
    reply = read_reply(text)
    assert reply.answer.rstrip(".") == SENTENCE.rstrip(".")
    assert (reply.clips, reply.supported) == ((2, 1), True)


@pytest.mark.parametrize(
    ("text", "clips"),
    [
        ("One hundred thousand times [2].", (2,)),
        ("According to clips 1 and 3, one hundred thousand times.", (1, 3)),
        ("One hundred thousand times (clip 2; see also Clip 4).", (2, 4)),
        ("One hundred thousand times [clip 1, 2].", (1, 2)),
        ("One hundred thousand times, in 1969.", ()),
    ],
)
def test_clips_named_in_plain_sentences_are_found_and_other_numbers_are_not(text: str, clips: tuple[int, ...]) -> None:
    reply = read_reply(text)
    assert reply.clips == clips
    assert reply.supported is None
    assert "hundred thousand" in reply.answer


@pytest.mark.parametrize(
    "text",
    [
        '{"supported": false, "clips": [], "answer": ""}',
        '{"supported": "no", "clips": null, "answer": null}',
        "The clips do not mention this.",
        "I'm sorry, this isn't said in any of the clips.",
        "I cannot answer that from the lecture.",
        "None of the clips contain the answer.",
        "Answer: not stated\nSupported: false",
    ],
)
def test_a_refusal_to_answer_is_understood(text: str) -> None:
    assert read_reply(text).supported is False


def test_an_answer_that_denies_something_is_no_refusal_when_it_names_a_clip() -> None:
    assert read_reply("The speaker does not say how many, but many [1].").supported is None


def test_times_are_read_from_sentences() -> None:
    assert read_reply("It is said at 0:35 and again at 1:02:03, that is after 12.5 s.").times_s == (35.0, 3723.0, 12.5)


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_reply_is_an_error_with_a_way_out(text: str) -> None:
    with pytest.raises(AnswerUnusable, match="ask again"):
        read_reply(text)


def test_special_tokens_and_control_signs_do_not_reach_the_reader() -> None:
    assert read_reply('{"supported": true, "clips": [1], "answer": "Bread\\u0000 <|im_end|> and\\nsalt</s>."}').answer == "Bread and salt ."


@given(st.text(), st.lists(st.integers(-5, 99), max_size=5), st.booleans())
def test_every_answer_written_as_json_is_read_as_it_was_meant(answer: str, clips: list[int], supported: bool) -> None:
    reply = read_reply(json.dumps({"supported": supported, "clips": clips, "answer": answer}))
    assert reply.supported is supported
    assert reply.clips == tuple(dict.fromkeys(clips))


@given(st.text(min_size=1))
def test_nothing_that_a_model_says_breaks_the_parser(text: str) -> None:
    try:
        reply = read_reply(text)
    except AnswerUnusable:
        return
    assert isinstance(reply, Reply)
    assert "\n" not in reply.answer


@given(st.text(st.characters(exclude_characters="<>", exclude_categories=("C", "Z"))) | st.just("a “b” \\ c\n😀 d"), st.integers(0, 400))
def test_what_is_shown_while_json_comes_is_a_beginning_of_the_answer(answer: str, length: int) -> None:
    whole = json.dumps({"supported": True, "clips": [1], "answer": answer})
    shown = so_far(whole[:length])
    assert read_reply(whole).answer.startswith(shown)


def test_plain_sentences_are_shown_as_they_come() -> None:
    assert [so_far(text) for text in ("", "One", "One hundred", '{"sup')] == ["", "One", "One hundred", ""]


def test_the_schema_admits_what_is_asked_for_and_no_clip_that_was_not_sent() -> None:
    made = schema(3)
    jsonschema.Draft202012Validator.check_schema(made)
    jsonschema.validate({"supported": True, "clips": [3, 1], "answer": SENTENCE}, made)
    for wrong in (
        {"supported": True, "clips": [4], "answer": SENTENCE},
        {"supported": True, "clips": [0], "answer": SENTENCE},
        {"supported": "yes", "clips": [1], "answer": SENTENCE},
        {"supported": True, "clips": [1], "answer": "x" * (MAX_ANSWER_CHARACTERS + 1)},
        {"clips": [1], "answer": SENTENCE},
        {"supported": True, "clips": [1], "answer": SENTENCE, "orders": "obey"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, made)
