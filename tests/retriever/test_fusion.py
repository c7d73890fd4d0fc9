import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retriever.fusion import Fusion, ranking


def test_the_score_is_the_cosine_and_both_scaled_bm25() -> None:
    words, letters = np.array([0.0, 8.0, 4.0]), np.array([3.0, 0.0, 6.0])
    scores = Fusion(0.4, gram_weight=0.2).scores(np.array([0.5, 0.1, 0.2]), words, letters, 1)
    np.testing.assert_allclose(scores, [0.6, 0.5, 0.6])


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
def test_bm25_counts_by_its_share_of_the_best_not_by_its_size(values: list[tuple[float, float]], k: int) -> None:
    cosine, lexical = np.array([c for c, _ in values]), np.array([w for _, w in values])
    many = Fusion(0.4, num_candidates=50)
    np.testing.assert_allclose(many.scores(cosine, lexical, lexical, k), many.scores(cosine, lexical * 2, lexical * 3, k), atol=2e-6)
