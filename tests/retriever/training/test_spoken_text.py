"""What is written and how it is said."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.training.spoken_text import spoken_phrases, spoken_words


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It rained in 1990, didn't it?", "it rained in nineteen ninety didn't it"),
        ("Dr. Fox and Mrs. Hen live on St. Helena.", "doctor fox and missus hen live on saint helena"),
        ("About 12.5% of 1,200 people", "about twelve point five percent of one thousand two hundred people"),
        ("It costs $3.50, £40 or €2 million.", "it costs three dollars and fifty cents forty pounds or two million euros"),
        ("On May 5, 1921 and 6 June 1944", "on may fifth nineteen twenty one and the sixth of june nineteen forty four"),
        ("the 1920s, the 21st century", "the nineteen twenties the twenty first century"),
        ("Henry VIII before World War II", "henry the eighth before world war two"),
        ("cats vs. dogs, e.g. at 5:30 p.m.", "cats versus dogs for example at five thirty p m"),
        ("The CEO's DNA and NASA's CO2", "the c e o's d n a and nasa's c o two"),
        ("70 km/h at 25 °C – 10–20 kg", "seventy kilometers per hour at twenty five degrees celsius ten to twenty kilograms"),
        ('Æsop’s café & the students’ "naïve" view', "aesop's cafe and the students naive view"),
        ("NORTHANGER ABBEY", "northanger abbey"),
        ("George W. Bush of the U.S.", "george w bush of the u s"),
        ("AT&T and R&D", "a t and t and r and d"),
        ("See No. 7, Chapter IV", "see number seven chapter four"),
    ],
)
def test_numbers_signs_and_abbreviations_become_words(written: str, said: str) -> None:
    assert spoken_words(written) == said


@pytest.mark.parametrize("written", ["", "...", "E = mc^2", "see https://example.org", "x² + y_1", "a 1/2 cup", "β-lactam", "7" * 13])
def test_a_text_without_a_certain_reading_is_refused(written: str) -> None:
    assert spoken_words(written) is None
    assert spoken_phrases(written) is None


def test_pauses_are_kept_apart_where_punctuation_asks_for_them() -> None:
    written = "On May 5, 1990, Mr. Fox paid $1,200; why not (he asked) 3.5 million?"
    assert spoken_phrases(written) == (
        "on may fifth",
        "nineteen ninety",
        "mister fox paid one thousand two hundred dollars",
        "why not he asked three point five million",
    )


PIECES = """
the Fox DNA's students' 1990 3rd 1,200 $5 £3.20 40% Dr. U.S. e.g. well-known - -- , ; . ? ! ( ) " ' 12:30 p.m. May 7 VIII II °C km & and/or
naïve CO2 BCE I a O'Neil's 'tis 1914-18 NASA @ = 0.05 co. 2°
"""


@given(st.lists(st.sampled_from(PIECES.split()), min_size=1, max_size=12).map(" ".join))
def test_what_is_said_is_plain_words_and_saying_it_again_changes_nothing(written: str) -> None:
    said = spoken_words(written)
    if said is not None:
        assert re.fullmatch(r"[a-z]+(?:'[a-z]+)*(?: [a-z]+(?:'[a-z]+)*)*", said)
        assert spoken_words(said) == said
        assert " ".join(spoken_phrases(written) or ()) == said


@given(st.text(max_size=60))
def test_any_text_is_said_or_refused(written: str) -> None:
    said = spoken_words(written)
    assert said is None or (said and spoken_words(said) == said)
