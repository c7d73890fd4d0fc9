import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.training.mishearing import Mishearing, measured_rate, read_dictionary, spoken_form

DICTIONARY = """\
;;; a small dictionary in CMU's format
heart HH AA1 R T
hard HH AA1 R D
art AA1 R T
pump P AH1 M P
bump B AH1 M P
pumps P AH1 M P S
blood B L AH1 D
flood F L AH1 D
the DH AH0
the(2) DH IY0
of AH1 V
violin V AY2 AH0 L IH1 N
vile V AY1 L
in IH0 N
"""
TEXT = "the heart pumps blood the violin in the flood of art " * 6


@pytest.fixture(scope="module")
def mishearing(tmp_path_factory: pytest.TempPathFactory) -> Mishearing:
    path = tmp_path_factory.mktemp("dictionary") / "small.dict"
    path.write_text(DICTIONARY)
    dictionary = read_dictionary(path)
    return Mishearing(dictionary, Counter(dict.fromkeys(dictionary, 10)))


def test_the_first_pronunciation_counts_and_stress_does_not(tmp_path: Path) -> None:
    (tmp_path / "small.dict").write_text(DICTIONARY)
    dictionary = read_dictionary(tmp_path / "small.dict")
    assert dictionary["the"] == ("DH", "AH")
    assert dictionary["violin"] == ("V", "AY", "AH", "L", "IH", "N")
    assert ";;;" not in dictionary


def test_what_sounds_alike_is_heard_instead(mishearing: Mishearing) -> None:
    rng = random.Random(0)
    heard = Counter(word for _ in range(300) for word in mishearing.mishear("blood", 1.0, rng).split())
    others = {word: count for word, count in heard.items() if word != "blood"}
    assert max(others, key=others.__getitem__) == "flood"


def test_only_words_that_can_be_heard_are_heard(mishearing: Mishearing) -> None:
    heard = mishearing.mishear("beyonce saw kubernetes", 0.0, random.Random(3))
    assert set(heard.split()) & {"heart", "hard", "art", "pump", "bump", "vile", "in", "violin", "the", "of", "flood", "blood", "pumps"}


def test_the_rate_decides_how_much_is_misheard(mishearing: Mishearing) -> None:
    rng = random.Random(1)
    rates = [measured_rate([TEXT] * 20, [mishearing.mishear(TEXT, rate, rng) for _ in range(20)]) for rate in (0.0, 0.2, 0.5)]
    assert rates[0] == 0.0
    assert 0.08 < rates[1] < 0.35 < rates[2]


def test_the_same_random_state_mishears_the_same(mishearing: Mishearing) -> None:
    assert mishearing.mishear(TEXT, 0.4, random.Random(5)) == mishearing.mishear(TEXT, 0.4, random.Random(5))


@given(text=st.text(max_size=60), rate=st.floats(0, 1))
def test_any_spoken_form_can_be_misheard(mishearing: Mishearing, text: str, rate: float) -> None:
    heard = mishearing.mishear(spoken_form(text), rate, random.Random(0))
    assert heard == " ".join(heard.split())


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("In 1906, 3.5% fell.", "in nineteen six three point five percent fell"),
        ("The “heart’s” pump!", "the heart's pump"),
        ("e-mail 'quoted'", "e mail quoted"),
        ("", ""),
    ],
)
def test_a_text_is_written_as_it_is_heard(written: str, spoken: str) -> None:
    assert spoken_form(written) == spoken
