import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import spoken_numbers
from retriever.lexical import content_terms
from retriever.spoken_numbers import spell_numbers


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(spoken_numbers).failed == 0


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "zero"),
        ("13", "thirteen"),
        ("40", "forty"),
        ("99", "ninety nine"),
        ("100", "one hundred"),
        ("1,005", "one thousand five"),
        ("12345", "twelve thousand three hundred forty five"),
        ("3,000,000", "three million"),
        ("1066", "ten sixty six"),
        ("1900", "nineteen hundred"),
        ("1905", "nineteen five"),
        ("2000", "two thousand"),
        ("2009", "two thousand nine"),
        ("2016", "twenty sixteen"),
        ("5280", "five thousand two hundred eighty"),
        ("1st", "first"),
        ("12th", "twelfth"),
        ("20th", "twentieth"),
        ("21ST", "twenty first"),
        ("100th", "one hundredth"),
        ("1990s", "nineteen nineties"),
    ],
)
def test_numbers_are_spelled_as_they_are_said(digits: str, words: str) -> None:
    assert spell_numbers(f"the {digits}, then") == f"the {words}, then"


@pytest.mark.parametrize("text", ["", "no numbers", "B12", "mp3", "x86", "1234567890123", "²"])
def test_what_is_no_whole_number_stays(text: str) -> None:
    assert spell_numbers(text) == text


@given(st.integers(0, 999_999_999_999))
def test_every_number_is_spelled_and_two_numbers_differ(number: int) -> None:
    words = spell_numbers(str(number))
    assert not any(character.isdigit() for character in words)
    assert words != spell_numbers(str(number + 1))


@given(st.text())
def test_any_text_can_be_spelled_twice(text: str) -> None:
    assert spell_numbers(spell_numbers(text)) == spell_numbers(text)


def test_typed_digits_match_words_that_were_heard() -> None:
    assert content_terms("Super Bowl 50 in 2016") == content_terms("super bowl fifty in twenty sixteen")
