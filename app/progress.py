"""Says how far a job is and how long it will take, for the pages and the command line alike."""

from dataclasses import dataclass
from datetime import datetime

from retriever.domain import Lecture
from storage.domain import Job, JobKind, JobStage, JobState

DECODING_SHARE = 0.05  # of the whole work; decoding is many times faster than listening
MIN_ELAPSED_S = 1.0  # sooner, a speed is a guess


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is.

    Attributes:
        fraction: of the whole work, in [0, 1]; None while unknown.
        eta_s: what is left; None while unknown, when nothing is at work, and when nothing is left.
        text: the same in words, without the time left.
    """

    fraction: float | None
    eta_s: float | None
    text: str


def describe(job: Job, lecture: Lecture | None, now: datetime, *, worker_alive: bool = True) -> JobProgress:
    """Return how far a job is.

    Args:
        job: as the library has it.
        lecture: what it works on; its length serves where the file does not say its own.
        now: with time zone.
        worker_alive: False if no worker gave a sign of life lately; then nothing moves, and no time left is promised.
    """
    if job.state.is_over:
        return JobProgress(1.0 if job.state is JobState.DONE else _fraction(job, job.done, lecture), None, _outcome(job))
    fraction = _fraction(job, job.done, lecture)
    if not worker_alive:
        return JobProgress(fraction, None, "waits for the worker, which is not running")
    if job.cancel_requested:
        return JobProgress(fraction, None, "is being cancelled")
    if job.state is JobState.QUEUED:
        return JobProgress(fraction, None, "waits for its turn")
    return JobProgress(fraction, _eta_s(job, lecture, now), _activity(job, fraction))


def in_words(duration_s: float) -> str:
    """Return a duration as a person would say it: 40 s, 3 min, 1 h 20 min."""
    if duration_s < 59.5:
        return f"{max(1, round(duration_s))} s"
    minutes = round(duration_s / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def _fraction(job: Job, done: int, lecture: Lecture | None) -> float | None:
    """Return the share of the whole work, had this much been done of the present stage."""
    total = job.total or (lecture.num_samples if lecture is not None and job.stage is JobStage.DECODING else 0)
    if job.stage is JobStage.WAITING:
        return 0.0
    if total <= 0:
        return None
    share = min(1.0, max(0.0, done / total))
    if job.stage is JobStage.DECODING:
        return DECODING_SHARE * share
    first = 0.0 if job.kind is JobKind.REEMBED else DECODING_SHARE
    return first + (1.0 - first) * share


def _eta_s(job: Job, lecture: Lecture | None, now: datetime) -> float | None:
    """Return the time left at the speed of this attempt in this stage."""
    fraction, base = _fraction(job, job.done, lecture), _fraction(job, job.stage_base, lecture)
    if fraction is None or base is None or job.stage_started_at is None or not base < fraction < 1.0:
        return None
    elapsed_s = (now - job.stage_started_at).total_seconds()
    if elapsed_s < MIN_ELAPSED_S:  # also a clock that was set back
        return None
    return elapsed_s * (1.0 - fraction) / (fraction - base)


def _activity(job: Job, fraction: float | None) -> str:
    if job.stage is JobStage.LISTENING and job.total:
        again = " anew" if job.kind is JobKind.REEMBED else ""
        return f"listening{again}: {job.done} of {job.total} segments"
    if job.stage is JobStage.DECODING and fraction is not None:
        return f"decoding: {100 * fraction / DECODING_SHARE:.0f} %"
    return "listening" if job.stage is JobStage.LISTENING else "decoding"


def _outcome(job: Job) -> str:
    word = {JobState.DONE: "done", JobState.FAILED: "failed", JobState.CANCELLED: "cancelled"}[job.state]
    return f"{word}: {job.message}" if job.message else word
