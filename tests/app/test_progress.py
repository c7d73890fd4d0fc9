from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.progress import DECODING_SHARE, describe, in_words
from retriever.domain import Lecture
from storage.domain import Job, JobKind, JobStage, JobState

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
OWNER, LECTURE = UUID(int=1), UUID(int=2)
JOB = Job(UUID(int=3), OWNER, LECTURE, JobKind.INGEST, JobState.RUNNING, JobStage.LISTENING, 10, 40, "", 1, False, NOW, NOW, None, NOW, 0)


def test_a_queued_job_waits_at_nothing_done() -> None:
    told = describe(replace(JOB, state=JobState.QUEUED, stage=JobStage.WAITING, done=0, total=0), None, NOW)
    assert (told.fraction, told.eta_s, told.text) == (0.0, None, "waits for its turn")


def test_the_time_left_follows_from_the_speed_of_listening() -> None:
    told = describe(JOB, None, NOW + timedelta(seconds=20))
    assert told.eta_s == pytest.approx(60)
    assert told.fraction == pytest.approx(DECODING_SHARE + (1 - DECODING_SHARE) / 4)
    assert told.text == "listening: 10 of 40 segments"


def test_what_an_earlier_attempt_did_does_not_make_this_one_fast() -> None:
    resumed = replace(JOB, done=30, stage_base=20)
    assert describe(resumed, None, NOW + timedelta(seconds=20)).eta_s == pytest.approx(20)


def test_no_time_is_promised_before_anything_was_done() -> None:
    assert describe(replace(JOB, done=5, stage_base=5), None, NOW + timedelta(seconds=20)).eta_s is None
    assert describe(JOB, None, NOW + timedelta(milliseconds=10)).eta_s is None
    assert describe(JOB, None, NOW - timedelta(hours=1)).eta_s is None  # the clock was set back
    assert describe(replace(JOB, stage_started_at=None), None, NOW + timedelta(seconds=20)).eta_s is None


def test_no_time_is_left_when_the_last_segment_is_done() -> None:
    assert describe(replace(JOB, done=40), None, NOW + timedelta(seconds=20)).eta_s is None


def test_while_decoding_an_unknown_length_the_share_is_unknown() -> None:
    told = describe(replace(JOB, stage=JobStage.DECODING, done=16_000, total=0), None, NOW + timedelta(seconds=5))
    assert (told.fraction, told.eta_s, told.text) == (None, None, "decoding")


def test_while_decoding_the_length_of_the_lecture_serves_if_the_file_does_not_tell() -> None:
    lecture = Lecture(LECTURE, OWNER, "", "Bread", num_samples=32_000)
    told = describe(replace(JOB, stage=JobStage.DECODING, done=16_000, total=0), lecture, NOW + timedelta(seconds=5))
    assert told.fraction == pytest.approx(DECODING_SHARE / 2)
    assert told.text == "decoding: 50 %"


def test_nothing_is_promised_while_no_worker_lives() -> None:
    told = describe(JOB, None, NOW + timedelta(seconds=20), worker_alive=False)
    assert told.eta_s is None
    assert told.fraction is not None
    assert "not running" in told.text


@pytest.mark.parametrize(
    ("state", "text"), [(JobState.DONE, "done"), (JobState.FAILED, "failed: no room"), (JobState.CANCELLED, "cancelled")]
)
def test_a_job_that_is_over_says_how_it_ended(state: JobState, text: str) -> None:
    told = describe(replace(JOB, state=state, message="no room" if state is JobState.FAILED else ""), None, NOW)
    assert (told.eta_s, told.text) == (None, text)
    assert (told.fraction == 1.0) is (state is JobState.DONE)


def test_a_job_that_shall_stop_says_so() -> None:
    assert describe(replace(JOB, cancel_requested=True), None, NOW).text == "is being cancelled"


jobs = st.builds(
    lambda stage, state, kind, done, total, base: replace(
        JOB, stage=stage, state=state, kind=kind, done=done, total=total, stage_base=base
    ),
    st.sampled_from(JobStage),
    st.sampled_from(JobState),
    st.sampled_from(JobKind),
    st.integers(0, 99),
    st.integers(0, 50),
    st.integers(0, 99),
)


@given(jobs, st.integers(-99, 10**7))
def test_the_share_is_a_share_and_the_time_left_is_never_negative(job: Job, elapsed_s: int) -> None:
    told = describe(job, None, NOW + timedelta(seconds=elapsed_s))
    assert told.text
    assert told.fraction is None or 0.0 <= told.fraction <= 1.0
    assert told.eta_s is None or told.eta_s >= 0.0


def test_the_share_never_falls_as_work_goes_on() -> None:
    decoding = [describe(replace(JOB, stage=JobStage.DECODING, done=i, total=10), None, NOW).fraction for i in range(11)]
    listening = [describe(replace(JOB, done=i, total=10), None, NOW).fraction for i in range(11)]
    assert [*decoding, *listening] == sorted(f for f in [*decoding, *listening] if f is not None)
    assert listening[-1] == 1.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (59.6, "1 min"), (180, "3 min"), (3600, "1 h"), (4800, "1 h 20 min")]
)
def test_durations_are_said_as_a_person_would(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
