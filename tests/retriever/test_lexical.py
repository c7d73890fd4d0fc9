import doctest
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever import lexical
from retriever.lexical import (
    GRAM_LENGTH,
    GRAM_SATURATION,
    LENGTH_WEIGHT,
    NUM_GRAMS,
    NUM_LETTERS,
    SATURATION,
    STOP_WORDS,
    Matches,
    Postings,
    Vocabulary,
    content_letters,
    content_terms,
    letter_grams,
)

TEXTS = [
    "the heart pumps blood and the heart rests",
    "bread rises because yeast makes gas",
    "blood carries oxygen from the lungs to the heart muscle and back again",
    "",
    "violins have four strings",
]


def search(texts: list[str], question: str, scope: list[bool] | None = None) -> Matches:
    vocabulary = Vocabulary()
    bags = [vocabulary.learn(content_terms(text)) for text in texts]
    mask = np.array([True] * len(texts) if scope is None else scope)
    return Postings(bags, len(vocabulary)).match([vocabulary.number(term) for term in dict.fromkeys(content_terms(question))], mask)


def slow_search(texts: list[str], question: str) -> tuple[list[float], list[float]]:
    """BM25 and coverage straight from the definition."""
    bags = [Counter(content_terms(text)) for text in texts]
    mean = max(sum(bag.total() for bag in bags) / len(bags), 1.0)
    rarity = {
        term: math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
        for term in content_terms(question)
        for n in [sum(term in bag for bag in bags)]
    }
    bm25 = [
        sum(
            rarity[t] * bag[t] * (SATURATION + 1) / (bag[t] + SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * bag.total() / mean))
            for t in rarity
        )
        for bag in bags
    ]
    return bm25, [sum(rarity[t] for t in rarity if t in bag) / sum(rarity.values()) if rarity else 0.0 for bag in bags]


words = st.sampled_from(["heart", "blood", "bread", "yeast", "oxygen", "string", "violin", "the", "of"])
texts = st.lists(st.lists(words, max_size=12).map(" ".join), min_size=1, max_size=8)


@given(texts, st.lists(words, max_size=5).map(" ".join))
def test_scores_equal_their_definition(said: list[str], question: str) -> None:
    matches = search(said, question)
    bm25, coverage = slow_search(said, question)
    np.testing.assert_allclose(matches.bm25, bm25, atol=1e-9)
    np.testing.assert_allclose(matches.coverage, coverage, atol=1e-9)


@given(texts, texts, st.lists(words, max_size=5).map(" ".join))
def test_what_is_out_of_scope_changes_nothing(said: list[str], others: list[str], question: str) -> None:
    alone = search(said, question)
    among = search(said + others, question, [True] * len(said) + [False] * len(others))
    np.testing.assert_allclose(among.bm25[: len(said)], alone.bm25, atol=1e-9)
    np.testing.assert_allclose(among.coverage[: len(said)], alone.coverage, atol=1e-9)
    assert not among.bm25[len(said) :].any()
    assert not among.coverage[len(said) :].any()


def test_the_segment_with_the_rare_word_wins() -> None:
    assert int(np.argmax(search(TEXTS, "What does yeast do to the heart?").bm25)) == 1


def test_coverage_tells_how_much_of_the_question_is_there() -> None:
    coverage = search(TEXTS, "How does the heart pump blood?").coverage
    assert coverage[0] == pytest.approx(1.0)
    assert 0 < coverage[2] < 1
    assert coverage[1] == coverage[3] == 0


def test_a_word_that_nobody_says_lowers_coverage() -> None:
    assert search(TEXTS, "heart zebra").coverage[0] < 0.6


@pytest.mark.parametrize("question", ["", "what is it", "?!"])
def test_a_question_without_content_words_covers_nothing(question: str) -> None:
    matches = search(TEXTS, question)
    assert not matches.bm25.any()
    assert not matches.coverage.any()


def test_an_empty_index_and_an_empty_scope_are_no_error() -> None:
    assert search([], "heart").bm25.shape == (0,)
    assert not search(TEXTS, "heart", [False] * len(TEXTS)).bm25.any()


@pytest.mark.parametrize(
    ("one", "other"),
    [("cities", "city"), ("Running", "run"), ("houses", "house"), ("changing", "change"), ("Newton's", "newton"), ("don't", "dont")],
)
def test_forms_of_a_word_are_one_term(one: str, other: str) -> None:
    assert content_terms(one) == content_terms(other)


@pytest.mark.parametrize(
    ("one", "other"), [("glass", "glad"), ("bus", "bu"), ("sing", "s"), ("red", "r"), ("need", "ne"), ("analysis", "analysi")]
)
def test_different_words_stay_different(one: str, other: str) -> None:
    assert content_terms(one) != content_terms(other)


def test_stop_words_are_left_out_in_every_case() -> None:
    assert content_terms(" ".join(STOP_WORDS).upper()) == []


@given(st.text())
def test_any_text_has_terms_without_space_or_capitals(text: str) -> None:
    for term in content_terms(text):
        assert term
        assert not term.isspace()
        assert "\n" not in term


def search_letters(said: list[str], question: str) -> np.ndarray:
    postings = Postings([letter_grams(content_letters(text)) for text in said], NUM_GRAMS, GRAM_SATURATION)
    return postings.match(dict.fromkeys(letter_grams(content_letters(question)).tolist()), np.ones(len(said), np.bool_)).bm25


def test_a_misheard_word_is_found_by_the_letters_that_were_heard() -> None:
    said = ["they saw beyond say on the stage", "they saw a violin on the stage", "who beat the drum"]
    assert not search(said, "Beyonce").bm25.any()
    assert int(np.argmax(search_letters(said, "Beyonce"))) == 0


def test_a_word_that_was_heard_as_two_is_found_by_its_letters() -> None:
    said = ["this co ordination number", "this violin has strings"]
    scores = search_letters(said, "coordination")
    assert scores[0] > 0 == scores[1]


@given(st.text(alphabet="abcxyz é", max_size=30))
def test_runs_of_letters_have_numbers_of_their_own(text: str) -> None:
    letters = content_letters(text)
    grams = letter_grams(letters)
    assert len(grams) == max(0, len(letters) - GRAM_LENGTH + 1)
    for place, gram in enumerate(grams.tolist()):
        assert 0 <= gram < NUM_GRAMS
        assert gram == sum(letters[place + i] * NUM_LETTERS ** (GRAM_LENGTH - 1 - i) for i in range(GRAM_LENGTH))


@given(st.text())
def test_any_text_has_letters_in_the_alphabet(text: str) -> None:
    assert all(letter < NUM_LETTERS for letter in content_letters(text))


def test_the_saturation_of_postings_can_be_chosen() -> None:
    bags = [np.array([0, 0, 0, 1], np.int32), np.array([0, 1, 1, 1], np.int32)]
    scope = np.ones(2, np.bool_)
    soon, late = (Postings(bags, 2, saturation).match([0], scope).bm25 for saturation in (0.01, 5.0))
    assert soon[0] / soon[1] < 1.05
    assert late[0] / late[1] > 1.5


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(lexical).failed == 0
