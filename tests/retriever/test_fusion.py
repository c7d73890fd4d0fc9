import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.fusion import Fusion, ranking
from retriever.lexical import Postings


def test_the_score_is_the_cosine_and_both_scaled_bm25() -> None:
    unit = np.log1p(2.5 / 1.5)  # one of three segments has the word
    words, letters = unit * np.array([0.0, 2.0, 1.0]), unit * np.array([1.0, 0.0, 2.0])
    scores = Fusion(0.4, gram_weight=0.2).scores(np.array([0.5, 0.1, 0.2]), words, letters, 1)
    np.testing.assert_allclose(scores, [0.7, 0.9, 1.0], atol=1e-6)


def test_without_words_the_cosine_decides() -> None:
    np.testing.assert_allclose(Fusion(0.4).scores(np.array([0.5, -0.1]), np.zeros(2), np.zeros(2), 1), [0.5, -0.1])


def test_a_side_without_weight_brings_no_candidates() -> None:
    cosine, letters = np.array([0.9, 0.1]), np.array([0.0, 5.0])
    assert np.isfinite(Fusion(0.4, 1, gram_weight=0.0).scores(cosine, np.zeros(2), letters, 1)).tolist() == [True, False]


def test_the_best_of_each_side_are_candidates_and_nothing_else() -> None:
    cosine, lexical, letters = np.array([0.9, 0.1, 0.2, 0.3, 0.2]), np.array([0.0, 5.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 2.0, 0.0])
    scores = Fusion(0.4, 1, gram_weight=0.2).scores(cosine, lexical, letters, 1)
    assert np.isfinite(scores).tolist() == [True, True, False, True, False]


def test_as_many_as_are_asked_for_are_candidates() -> None:
    assert np.isfinite(Fusion(0.4, num_candidates=1).scores(np.arange(5.0), np.zeros(5), np.zeros(5), 4)).sum() == 4


def test_equal_scores_are_ranked_by_position() -> None:
    assert ranking(np.array([1.0, 2.0, 2.0, 1.0]), 3).tolist() == [1, 2, 0]


def test_nothing_to_fuse_is_no_error() -> None:
    assert Fusion().scores(np.zeros(0), np.zeros(0), np.zeros(0), 5).shape == (0,)


pairs = st.lists(st.tuples(st.floats(-1, 1), st.just(0.0) | st.floats(0.01, 30)), min_size=1, max_size=20)


@given(pairs, st.integers(1, 20))
def test_more_of_the_words_never_ranks_a_segment_lower(values: list[tuple[float, float]], k: int) -> None:
    cosine, lexical = np.array([c for c, _ in values]), np.array([w for _, w in values])
    more = lexical.copy()
    more[-1] += 1
    fusion = Fusion(0.4, num_candidates=50)
    before, after = (np.count_nonzero(found[-1] < found) for found in (fusion.scores(cosine, one, one, k) for one in (lexical, more)))
    assert after <= before


@given(st.integers(2, 4), st.integers(1, 400))
def test_a_word_that_one_segment_has_counts_the_same_among_few_and_among_many(few: int, more: int) -> None:
    def gain(num_segments: int) -> float:
        postings = Postings([np.array([0], np.int32), *[np.array([1], np.int32)] * (num_segments - 1)], 2)
        bm25 = postings.match([0], np.ones(num_segments, np.bool_)).bm25
        return float(Fusion(1.0, gram_weight=0.0).scores(np.zeros(num_segments), bm25, bm25, num_segments)[0])

    assert gain(few) == pytest.approx(gain(few + more), abs=1e-5)
