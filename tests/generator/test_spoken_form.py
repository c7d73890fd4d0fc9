"""Every text meets in one form: the words as they are said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.spoken_form import spoken_form


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("What size, of ROOM?", "what size of room"),
        ("in 1906 and 1,200", "in nineteen six and one thousand two hundred"),
        ("12% of 3.5", "twelve percent of three point five"),
        ("Brežnev’s café", "breznev's cafe"),
        ("H1N1, COVID-19", "h one n one covid nineteen"),
        ("the U.S. & 'quoted'", "the u s and quoted"),
        ("the 2nd of the 1990s", "the second of the nineteen nineties"),
        ("???", ""),
    ],
)
def test_text_becomes_words_as_they_are_said(text, words):
    assert spoken_form(text) == words.split()


@given(st.text(max_size=60))
def test_saying_it_again_changes_nothing(text):
    words = spoken_form(text)
    assert spoken_form(" ".join(words)) == words


@given(st.lists(st.sampled_from(["The", "12", "cats,", "didn't", "sleep."]), max_size=8), st.integers(0, 8))
def test_words_can_be_counted_piece_by_piece(tokens, cut):
    joined = spoken_form(" ".join(tokens))
    assert spoken_form(" ".join(tokens[:cut])) + spoken_form(" ".join(tokens[cut:])) == joined
