import threading
from collections.abc import Generator, Iterable
from uuid import uuid4

import numpy as np
import pytest

from app.ahead import ROOM_SAMPLES, ListeningAhead
from app.listening import NOWHERE
from retriever.domain import SAMPLE_RATE_HZ, Audio, EmbeddedSegment, Segment, SegmentAudio
from retriever.errors import RecognitionFailed

LECTURE, RUN = uuid4(), uuid4()
LENGTH = 20 * SAMPLE_RATE_HZ


def cut(number: int) -> SegmentAudio:
    """The n-th segment while its lecture is being cut; its sound tells its number."""
    segment = Segment(LECTURE, number * LENGTH, (number + 1) * LENGTH, NOWHERE)
    return SegmentAudio(segment, Audio(np.full(LENGTH, number / 1000, np.float32)))


def kept(number: int) -> Segment:
    return Segment(LECTURE, number * LENGTH, (number + 1) * LENGTH, RUN)


class Listener:
    """Says what it was given, when it may."""

    fingerprint, dimension, language = "listener", 2, "en"

    def __init__(self, fails_at: int = -1) -> None:
        self.may, self.begun, self.taken = threading.Event(), threading.Event(), list[int]()
        self._fails_at = fails_at

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        for one in segments:
            self.begun.set()
            self.may.wait(20.0)
            number = round(float(one.audio.samples[0]) * 1000)
            if number == self._fails_at:
                raise RecognitionFailed("died")
            self.taken.append(number)
            yield EmbeddedSegment(one.segment, np.array([number, 0], np.float32), (), self.fingerprint)


def listen(ahead: ListeningAhead, numbers: range) -> list[tuple[Segment, int]]:
    """Ask for segments of the run; those not offered come from the library."""
    fetched = ahead.embed([kept(number) for number in numbers], lambda one: SegmentAudio(one, cut(one.start // LENGTH).audio))
    return [(one.segment, int(one.vector[0])) for one in fetched]


def test_what_was_offered_is_heard_meanwhile_and_comes_with_the_runs_segments() -> None:
    listener = Listener()
    listener.may.set()
    with ListeningAhead(listener) as ahead:  # type: ignore[arg-type]
        for number in range(3):
            ahead.offer(cut(number))
        assert listener.begun.wait(20.0), "nobody asked yet, and it listens"
        assert listen(ahead, range(5)) == [(kept(number), number) for number in range(5)]
    assert listener.taken == [0, 1, 2, 3, 4]


def test_more_than_has_room_is_read_again_later_and_nothing_is_heard_twice() -> None:
    listener, num_fitting = Listener(), ROOM_SAMPLES // LENGTH
    with ListeningAhead(listener) as ahead:  # type: ignore[arg-type]
        ahead.offer(cut(0))
        assert listener.begun.wait(20.0)  # it is in hand, and does not wait any more
        for number in range(1, num_fitting + 10):
            ahead.offer(cut(number))
        assert ahead._num_waiting <= ROOM_SAMPLES
        listener.may.set()
        numbers = range(num_fitting + 12)
        assert listen(ahead, numbers) == [(kept(number), number) for number in numbers]
    assert sorted(listener.taken) == list(numbers)


def test_segments_of_another_cut_are_dropped() -> None:
    listener = Listener()
    listener.may.set()
    with ListeningAhead(listener) as ahead:  # type: ignore[arg-type]
        for number in range(3):
            ahead.offer(cut(number))
        assert listen(ahead, range(1, 3)) == [(kept(1), 1), (kept(2), 2)]


def test_without_an_offer_everything_is_heard_here() -> None:
    listener = Listener()
    listener.may.set()
    before = threading.active_count()
    with ListeningAhead(listener) as ahead:  # type: ignore[arg-type]
        assert listen(ahead, range(2)) == [(kept(0), 0), (kept(1), 1)]
        assert threading.active_count() == before


def test_an_error_of_the_listening_is_raised_where_the_segments_are_asked_for() -> None:
    listener = Listener(fails_at=1)
    listener.may.set()
    with ListeningAhead(listener) as ahead:  # type: ignore[arg-type]
        for number in range(3):
            ahead.offer(cut(number))
        with pytest.raises(RecognitionFailed, match="died"):
            listen(ahead, range(3))


def test_leaving_early_ends_the_listening() -> None:
    listener = Listener()
    with ListeningAhead(listener) as ahead:  # type: ignore[arg-type]
        for number in range(10):
            ahead.offer(cut(number))
        assert listener.begun.wait(20.0)
        threading.Timer(0.2, listener.may.set).start()
    assert not [thread for thread in threading.enumerate() if thread.name == "listening ahead"]
    assert len(listener.taken) <= 2
