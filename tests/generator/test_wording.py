import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.errors import CalibrationMissing
from generator.wording import RARITY_PATH, Rarity, asks_for_number, content_words, holds_number, load_rarity, normal_words


@pytest.mark.parametrize(
    ("one", "other"),
    [("cells", "cell"), ("divided", "dividing"), ("studies", "study"), ("stones", "stone"), ("make", "makes"), ("Heart's", "heart")],
)
def test_forms_of_a_word_meet(one, other):
    assert normal_words(one) == normal_words(other)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1987", "nineteen eighty seven"),
        ("1900", "nineteen hundred"),
        ("2005", "two thousand five"),
        ("1066", "ten sixty six"),
        ("40", "forty"),
        ("15", "fifteen"),
        ("0", "zero"),
        ("300000", "three hundred thousand"),
        ("1000001", "one million one"),
    ],
)
def test_numbers_are_compared_as_they_are_said(written, said):
    assert normal_words(written) == normal_words(said)


def test_a_number_too_long_to_say_stays_as_it_is():
    assert normal_words("1234567890123") == ["1234567890123"]


def test_only_words_that_name_the_subject_are_asked_for():
    assert content_words("What is the heart of the volcano, and how does a volcano explode?") == ("heart", "volcano", "explod")


def test_a_question_of_common_words_only_keeps_them():
    assert content_words("when was that") == ("when", "was", "that")


@pytest.mark.parametrize(
    "question", ["How many strings has a violin?", "When did it begin?", "in what year was it built", "How old is it?"]
)
def test_questions_for_numbers_are_recognised(question):
    assert asks_for_number(question)


@pytest.mark.parametrize("question", ["How does it work?", "Who whenever asked?", "What is a year?"])
def test_other_questions_are_not(question):
    assert not asks_for_number(question)


def test_a_lone_one_is_no_number():
    assert holds_number("it beats one hundred times")
    assert holds_number("in 1987")
    assert not holds_number("the one who beats")


def test_rare_words_weigh_more():
    rarity = load_rarity()
    assert rarity.of("the") < rarity.of("water") < rarity.of("mitosis") <= rarity.of("xylophonist")
    asked = ("water", "mitosis")
    assert rarity.coverage(asked, ["mitosis"]) > rarity.coverage(asked, ["water"])


@given(
    st.lists(st.sampled_from(["the", "water", "mitosi", "zzz"]), unique=True), st.lists(st.sampled_from(["the", "water", "mitosi", "x"]))
)
def test_coverage_is_a_share(asked, heard):
    coverage = Rarity({"the": 50, "water": 5, "mitosi": 1}, 100).coverage(asked, heard)
    assert 0 <= coverage <= 1
    assert (coverage == 1) == (bool(asked) and set(asked) <= set(heard))


@pytest.mark.parametrize(
    "content", ["", "[]", '{"counts": {}}', '{"num_words": 3, "counts": {}}', '{"num_words": "x", "counts": {"a": 1}}']
)
def test_a_damaged_table_is_refused(tmp_path, content):
    path = tmp_path / "word-rarity.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CalibrationMissing, match=r"word-rarity\.json"):
        load_rarity(path)


def test_a_table_that_is_absent_is_refused(tmp_path):
    with pytest.raises(CalibrationMissing, match="install"):
        load_rarity(tmp_path / "word-rarity.json")


def test_the_shipped_table_is_of_words_as_they_are_compared():
    counts = json.loads(RARITY_PATH.read_text(encoding="utf-8"))["counts"]
    assert len(counts) > 5000
    assert all(word == word.lower() for word in counts)
