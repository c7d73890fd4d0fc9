import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.metrics import edit_distance, mean_reciprocal_rank, recall_at_k, word_error_rate

ranks = st.lists(st.none() | st.integers(1, 50), min_size=1)
sentence = st.lists(st.sampled_from("abcd"), max_size=8)


def test_recall_and_reciprocal_rank_of_a_known_case() -> None:
    found = [1, 3, None, 10]
    assert [recall_at_k(found, k) for k in (1, 2, 3, 10)] == [0.25, 0.25, 0.5, 0.75]
    assert mean_reciprocal_rank(found) == pytest.approx((1 + 1 / 3 + 1 / 10) / 4)


@given(ranks)
def test_recall_never_falls_with_k_and_bounds_the_reciprocal_rank(found: list[int | None]) -> None:
    recalls = [recall_at_k(found, k) for k in range(1, 51)]
    assert recalls == sorted(recalls)
    assert recalls[0] <= mean_reciprocal_rank(found) <= recalls[-1]


def test_nothing_to_average_is_refused() -> None:
    for refused in (
        lambda: recall_at_k([], 1),
        lambda: mean_reciprocal_rank([]),
        lambda: recall_at_k([1], 0),
        lambda: word_error_rate([], ["a"]),
    ):
        with pytest.raises(ValueError, match=r"."):
            refused()


def test_word_error_rate_of_a_known_case() -> None:
    said, heard = "the cat sat on the mat", "the cat sit on mat"
    assert word_error_rate(said.split(), heard.split()) == pytest.approx(2 / 6)
    assert word_error_rate(["yes"], ["oh", "no", "no"]) == 3.0


def slow_distance(left: list[str], right: list[str]) -> int:
    if not left or not right:
        return len(left) + len(right)
    if left[0] == right[0]:
        return slow_distance(left[1:], right[1:])
    return 1 + min(slow_distance(left[1:], right), slow_distance(left, right[1:]), slow_distance(left[1:], right[1:]))


@given(st.lists(st.sampled_from("abc"), max_size=5), st.lists(st.sampled_from("abc"), max_size=5))
def test_edit_distance_equals_its_definition(left: list[str], right: list[str]) -> None:
    assert edit_distance(left, right) == slow_distance(left, right)


@given(sentence, sentence, sentence)
def test_edit_distance_is_a_distance(a: list[str], b: list[str], c: list[str]) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
