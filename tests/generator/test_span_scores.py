"""The best spans are those that trying every span finds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from generator.span_scores import NEVER, best_spans, log_total, span_scores

NUMBERS = st.integers(-20, 20).map(float)


def try_every_span(starts, ends, longest):
    return sorted(
        (
            (starts[first] + ends[last], first, last + 1)
            for first in range(len(starts))
            for last in range(first, min(len(starts), first + longest))
        ),
        key=lambda span: (-span[0], span[1], span[2]),
    )


@given(hnp.arrays(np.float32, st.integers(1, 12), elements=NUMBERS), st.integers(1, 15), st.integers(1, 30), st.randoms())
def test_the_fast_way_finds_what_trying_every_span_finds(starts, longest, num, rng):
    ends = np.array([rng.randint(-20, 20) for _ in starts], np.float32)
    found = best_spans(span_scores(starts, ends, longest), num)
    assert [(span.score, span.first, span.last) for span in found] == try_every_span(starts, ends, longest)[:num]


def test_spans_that_are_not_allowed_are_never_found():
    scores = span_scores(np.zeros(3, np.float32), np.zeros(3, np.float32), 3)
    scores[:, 1:] = NEVER
    assert {(span.first, span.last) for span in best_spans(scores, 10)} == {(0, 1), (1, 2), (2, 3)}
    assert best_spans(np.full((3, 3), NEVER), 5) == []
    assert best_spans(np.zeros((0, 3), np.float32), 5) == []


def test_all_odds_together_are_their_sum():
    starts, ends = np.array([0.5, -1.0], np.float32), np.array([0.25, 2.0], np.float32)
    every = [score for score, _, _ in try_every_span(starts, ends, 2)]
    assert log_total(span_scores(starts, ends, 2)) == pytest.approx(math.log(sum(map(math.exp, every))), abs=1e-4)
    assert log_total(np.zeros((0, 2), np.float32)) < -1000
