"""Answers are found at their words, and what does not answer holds no answer."""

import gzip
import json
import random

import pytest

from generator.training.reader_data import (
    QuestionOnPassage,
    Unanswerable,
    agreement,
    crop,
    development,
    place_answers,
    read_questions,
    word_range,
)

HEART = "The heart beats 100,000 times a day. Dr. Harvey's book of 1628 says so, and he (William) wrote it in Latin."


def make_row(answer, context=HEART, split="train", number=0, title="Heart"):
    start = context.index(answer)
    return {
        "id": f"q{number}", "title": title, "context": context, "question": "How often, then?", "split": split,
        "answers": [{"text": answer, "start": start}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("100,000", "one hundred thousand"),
        ("00,00", "one hundred thousand"),  # a cut through a number takes all of it
        ("Harvey", "harvey's"),
        ("1628", "sixteen twenty eight"),
        ("William) wrote", "william wrote"),
        ("Latin.", "latin"),
    ],
)
def test_an_answer_is_at_its_whole_words(answer, words):
    one = place_answers(make_row(answer), "new_wiki")
    first, last = one.answers[0]
    assert " ".join(one.passage[first:last]) == words


def test_a_stretch_without_words_is_no_answer():
    assert word_range(HEART, HEART.index(". Dr"), HEART.index(". Dr") + 1) is None
    assert place_answers(make_row("(") | {"answers": [{"text": "unsaid", "start": -1}]}, "new_wiki") is None


def test_the_answer_that_most_people_gave_is_learnt():
    row = make_row("100,000 times")
    row["answers"] += [{"text": "100,000", "start": HEART.index("100,000")}, {"text": "The heart beats 100,000 times a day", "start": 0}]
    one = place_answers(row, "new_wiki")
    assert " ".join(one.passage[slice(*one.answers[0])]) == "one hundred thousand times"
    assert agreement((0, 2), [(0, 2), (5, 6)]) == 0.5


def test_the_shortened_passage_lacks_the_answer_and_keeps_the_rest():
    one = place_answers(make_row("100,000"), "new_wiki")
    assert "hundred" not in one.shortened
    assert "latin" in one.shortened


def make_question(number, passage, answers=(), golds=(), group="g", shortened=()):
    return QuestionOnPassage(
        f"q{number}", "new_wiki", group, ("how", "does", "blood", "flow"), tuple(passage.split()), answers, golds, shortened
    )


def test_questions_without_an_answer_hold_none():
    rest = "it is a pump of muscle that never sleeps"
    one = make_question(0, f"arteries carry blood {rest}", ((0, 1),), (("arteries",),), shortened=tuple(rest.split()))
    near = make_question(1, "blood can flow slowly in the small vessels of the skin")
    same = make_question(2, "the arteries carry blood and it does flow fast there too")
    far = make_question(3, "bread is baked in a hot oven for an hour", group="h")
    pool = Unanswerable([one, near, same, far])
    assert pool.make(one, "shortened", random.Random(0)).passage == tuple(rest.split())
    assert pool.make(one, "nearest", random.Random(0)).passage == near.passage  # not that which holds the answer
    for seed in range(8):
        other = pool.make(one, "elsewhere", random.Random(seed))
        assert other is None or (other.answers == () and "arteries" not in other.passage)


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_keeps_the_answer(seed):
    one = make_question(0, " ".join(f"w{number}" for number in range(50)), ((20, 23), (48, 50)))
    short = crop(one, 12, random.Random(seed))
    assert len(short.passage) == 12
    assert short.passage[slice(*short.answers[0])] == ("w20", "w21", "w22")
    assert crop(one, 50, random.Random(seed)) == one


def test_a_crop_that_cannot_hold_the_answer_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        crop(make_question(0, "a b c d e f", ((0, 4),)), 3, random.Random(0))


def test_splits_are_kept_apart_and_passages_left_out(tmp_path):
    rows = [
        make_row("100,000", number=1),
        make_row("Latin", number=2, split="dev"),
        make_row("hot", "Bread is baked hot in the oven.", number=3),
    ]
    with gzip.open(tmp_path / "new_wiki.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert [one.id for one in read_questions(tmp_path, "train", ["new_wiki"])] == ["q1", "q3"]
    assert [one.id for one in read_questions(tmp_path, "train", ["new_wiki"], without={HEART})] == ["q3"]
    kinds = {one.id for one in development(tmp_path, ["new_wiki"])}
    assert "q2" in kinds
    assert "q1" not in kinds
