import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.domain import SAMPLE_RATE_HZ, clock, to_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (59.99, "00:59"), (61, "01:01"), (3599.9, "59:59"), (3600, "1:00:00"), (36_061, "10:01:01"), (-1, "00:00")],
)
def test_a_time_is_told_in_minutes_and_from_one_hour_on_in_hours(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@given(st.integers(0, 20 * 3600 * SAMPLE_RATE_HZ))
def test_a_time_read_back_is_the_whole_second_before(num_samples: int) -> None:
    parts = [int(part) for part in clock(to_seconds(num_samples)).split(":")]
    seconds = sum(part * 60**place for place, part in enumerate(reversed(parts)))
    assert seconds * SAMPLE_RATE_HZ <= num_samples < (seconds + 1) * SAMPLE_RATE_HZ
