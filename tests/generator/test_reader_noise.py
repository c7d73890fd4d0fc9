"""Misheard words sound like those that were said, and answers stay where they were said."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.training.reader_data import QuestionOnPassage
from generator.training.reader_noise import Confusions, Rates, SoundAlikes, align, measure, read_cmudict, read_letters

PHONES = {
    "light": "l ay t", "right": "r ay t", "night": "n ay t", "blood": "b l ah d", "flood": "f l ah d", "the": "dh ah", "a": "ah",
    "moonlight": "m uw n l ay t", "moon": "m uw n", "zoo": "z uw",
}  # fmt: skip
SAID = {word: tuple(phones.split()) for word, phones in PHONES.items()}
KINDS = {word: "function" if word in ("the", "a") else "common" for word in SAID if word != "moonlight"}
EVEN = Rates(
    dict.fromkeys(("function", "common", "rare", "unknown"), 1.0), dict.fromkeys(("function", "common", "rare", "unknown"), 0.2), 0.3, 0.1
)


@pytest.fixture(scope="module")
def confusions():
    alikes = SoundAlikes({word: (SAID[word], 10) for word in KINDS})
    return Confusions(alikes.table(SAID), KINDS, EVEN)


def test_the_nearest_words_sound_alike(confusions):
    alikes = SoundAlikes({word: (SAID[word], 10) for word in KINDS})
    assert {word for word, _ in alikes.nearest([SAID["light"]], 3)[0]} == {"light", "right", "night"}
    table = alikes.table(SAID)
    assert table["blood"][0][0] == "flood"
    assert all(heard != "light" for heard, _ in table["light"])
    assert "moon light" in [heard for heard, _ in table["moonlight"]]


def test_a_usual_word_is_heard_rather_than_a_rare_one():
    alikes = SoundAlikes({"right": (SAID["right"], 1000), "write": (SAID["right"], 1)})
    assert alikes.nearest([SAID["light"]], 2)[0][0][0] == "right"


@given(st.lists(st.sampled_from(sorted(SAID)), max_size=30), st.floats(0, 1), st.randoms(use_true_random=False))
def test_each_word_knows_what_was_heard_of_it(words, level, rng):
    alikes = SoundAlikes({word: (SAID[word], 10) for word in KINDS})
    heard, places = Confusions(alikes.table(SAID), KINDS, EVEN).mishear(tuple(words), level, rng)
    assert places[0] == 0
    assert places[-1] == len(heard)
    assert places == sorted(places)
    if level == 0:
        assert heard == tuple(words)


def test_the_answer_is_where_it_was_said(confusions):
    passage = ("the", "blood", "light", "moonlight", "night", "the", "zoo")
    one = QuestionOnPassage("q", "s", "g", ("the", "zoo"), passage, ((3, 4),))
    answers = set()
    for seed in range(60):
        heard = confusions(one, random.Random(seed))
        first, last = heard.answers[0]
        assert 0 <= first < last <= len(heard.passage)
        answers.add(" ".join(heard.passage[first:last]))
    assert "moonlight" in answers
    assert "moon light" in answers


def test_rates_are_counted_from_what_was_said_and_heard():
    pairs = [(["the", "blood", "zoo"], ["the", "flood", "zoo"]), (["a", "light"], ["light"]), (["night"], ["night"])]
    rates, mean = measure(pairs, KINDS)
    assert mean == pytest.approx(2 / 6)
    assert rates.lost["function"] == 1.0
    assert rates.lost["common"] == 0.0
    assert rates.relative["common"] == pytest.approx((1 / 4) / (2 / 6), abs=1e-3)


def test_words_are_aligned_with_the_fewest_edits():
    assert align(["a", "b", "c"], ["a", "x", "c"]) == [("a",), ("x",), ("c",)]
    assert align(["a", "b"], ["b"]) == [(), ("b",)]
    assert align(["a"], ["a", "y"]) == [("a", "y")]
    assert align([], ["z"]) == []


def test_a_word_that_no_dictionary_has_is_read_by_its_letters():
    assert read_letters("phizz") == ("f", "ih", "z")


def test_the_first_pronunciation_counts(tmp_path):
    (tmp_path / "d.dict").write_text("READ R IY D\nREAD(2) R EH D\n")
    assert read_cmudict(tmp_path / "d.dict") == {"read": ("r", "iy", "d")}
