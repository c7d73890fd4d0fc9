"""Ranks and intervals against the slowest way to get them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.evaluation.transcripts import normalised, word_errors
from retriever.metrics import (
    bootstrap_interval,
    context_ranks,
    edit_distance,
    matched_context_ranks,
    matched_question_ranks,
    question_ranks,
)

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 5))


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Few different scores, so that ties are frequent; some contexts cannot be found."""
    num_questions, num_contexts = draw(SIZES)
    values = st.sampled_from([0.0, 0.25, 0.5, -np.inf])
    rows = [[draw(values) for _ in range(num_contexts)] for _ in range(num_questions)]
    right = [draw(st.integers(0, num_contexts - 1)) for _ in range(num_questions)]
    return np.array(rows), np.array(right)


def rank_by_sorting(scores: list[float], wanted: int) -> int | None:
    """Sort everything and look where the wanted one came."""
    if scores[wanted] == -np.inf:
        return None
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place)).index(wanted) + 1


@given(tables())
def test_a_context_has_the_rank_that_sorting_gives_it(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, right = table
    assert context_ranks(scores, right) == [rank_by_sorting(list(row), int(place)) for row, place in zip(scores, right, strict=True)]


@given(tables())
def test_a_context_finds_the_best_of_its_questions(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, right = table
    expected = []
    for place in sorted(set(right.tolist())):
        ranks = [rank_by_sorting(list(scores[:, place]), q) for q in range(len(right)) if right[q] == place]
        expected.append(min((rank for rank in ranks if rank is not None), default=None))
    assert question_ranks(scores, right) == expected


@given(tables())
def test_matched_ranks_count_every_other_slot_as_wrong(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, right = table
    slots = [[row[place] for place in right] for row in scores]  # question i against the context of question j
    assert matched_context_ranks(scores, right) == [rank_by_sorting(row, number) for number, row in enumerate(slots)]
    columns = [[scores[q, place] for q in range(len(right))] for place in right]
    assert matched_question_ranks(scores, right) == [rank_by_sorting(column, number) for number, column in enumerate(columns)]


def test_the_published_way_counts_twins_as_wrong_and_ours_does_not() -> None:
    scores, right = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]]), np.array([0, 0, 1])
    assert context_ranks(scores, right) == [1, 1, 1]
    assert matched_context_ranks(scores, right) == [1, 2, 1]


@pytest.mark.parametrize("right", [np.array([2]), np.array([-1]), np.array([0, 1])])
def test_a_place_that_is_not_in_the_table_is_refused(right: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        context_ranks(np.zeros((1, 2)), right)


def test_an_interval_of_a_mean_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(3).normal(0.3, 1.0, 400)
    found = bootstrap_interval(values.tolist())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_values_of_one_group_are_drawn_together() -> None:
    values, groups = [1.0] * 50 + [0.0] * 50, [0] * 50 + [1] * 50
    alone, together = bootstrap_interval(values), bootstrap_interval(values, groups)
    assert together.high - together.low > 5 * (alone.high - alone.low)
    assert (together.low, together.high) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)


@pytest.mark.parametrize(("values", "groups", "level"), [([], None, 0.95), ([1.0], ["a", "b"], 0.95), ([1.0], None, 1.0)])
def test_an_interval_of_nothing_is_refused(values: list[float], groups: list[str] | None, level: float) -> None:
    with pytest.raises(ValueError, match="needs values"):
        bootstrap_interval(values, groups, level=level)


WORDS = st.lists(st.sampled_from(["bee", "wax", "hive"]), max_size=6).map(" ".join)


@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=1, max_size=4))
def test_the_word_error_rate_is_the_edit_distance_over_the_words_said(pairs: list[tuple[str, str]]) -> None:
    found = word_errors([said for said, _ in pairs], [heard for _, heard in pairs], "en")
    distance = sum(edit_distance(said.split(), heard.split()) for said, heard in pairs)
    num_words = sum(len(said.split()) for said, _ in pairs)
    assert found is not None
    assert found.substitutions + found.deletions + found.insertions == distance
    assert found.num_words == num_words
    assert found.rate == pytest.approx(distance / num_words)


def test_numbers_case_and_punctuation_are_no_errors() -> None:
    found = word_errors(["In 1906, Ann\N{RIGHT SINGLE QUOTATION MARK}s bees swarmed."], ["in nineteen six ann's bees swarmed"], "en")
    assert found is not None
    assert found.rate == 0.0


def test_languages_without_spaces_are_compared_by_character() -> None:
    assert normalised("\u4e2d\u6587\u3002\u597d", "zh") == "\u4e2d \u6587 \u597d"


def test_nothing_said_measures_nothing() -> None:
    assert word_errors(["..."], ["word"], "en") is None
