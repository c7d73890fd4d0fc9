"""Answers that come bit by bit: how often they are kept, and what becomes of one whose process is gone.

An answer on its way stands in the history under the name of the process that works on it, so that anybody who reads it later can tell
whether somebody still does.
"""

import json
import os
import platform
import time
from collections.abc import Generator as Iterating
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final

import psutil

from generator.base import Generator, StreamingGenerator
from generator.domain import Answer, AnswerStatus, Evidence
from generator.errors import GeneratorError
from retriever.domain import Question
from storage.domain import HistoryEntry

PACE_S: Final = 0.2  # between two states of an answer that are kept: what the eye follows
LONGEST: Final = timedelta(hours=1)  # after which an answer on its way on another machine is given up
BROKEN_OFF: Final = "The answer broke off: askaloud was stopped while it came. Ask again."
_ANSWERING: Final = "answering"


def answers(generator: Generator, question: Question, evidence: Sequence[Evidence]) -> Iterating[Answer, None, None]:
    """Yield the states of an answer that are worth keeping, and last the finished one; an error of the generator is a failed answer.

    What streams begins with an empty state, so that the evidence can be shown while the model thinks.
    """
    try:
        if isinstance(generator, StreamingGenerator):
            yield from _paced(generator, question, evidence)
        else:
            yield generator.answer(question, evidence)
    except GeneratorError as error:  # the evidence was found and is worth keeping
        yield _failed(str(error))


def broken_off(so_far: Answer | None) -> Answer:
    """Return an answer that nobody works on any more as what it is."""
    said = so_far.text if so_far is not None else ""
    return _failed(f"{BROKEN_OFF} Until then it read: “{said}”" if said else BROKEN_OFF)


def settled(entry: HistoryEntry, now: datetime | None = None) -> HistoryEntry:
    """Return the entry; an answer on its way whose process is gone is one that broke off."""
    answer = entry.answer
    if answer is None or answer.status is not AnswerStatus.STREAMING or _is_worked_on(answer, entry.asked_at, now or datetime.now(UTC)):
        return entry
    return replace(entry, answer=broken_off(answer))


def _paced(generator: StreamingGenerator, question: Question, evidence: Sequence[Evidence]) -> Iterator[Answer]:
    mark = json.dumps({_ANSWERING: _this_process()})
    yield Answer("", (), supported=False, confidence=0.0, model="none", settings=mark, status=AnswerStatus.STREAMING)
    kept_at, kept = time.monotonic(), ""
    for answer in generator.stream(question, evidence):
        if answer.status is not AnswerStatus.STREAMING:
            yield answer
        elif answer.text != kept and time.monotonic() - kept_at >= PACE_S:
            yield replace(answer, settings=mark)
            kept_at, kept = time.monotonic(), answer.text


def _failed(text: str) -> Answer:
    return Answer(text, (), supported=False, confidence=0.0, model="none", settings="{}", status=AnswerStatus.FAILED)


def _this_process() -> str:
    return f"{_host()}-{os.getpid()}-{psutil.Process().create_time():.0f}"


def _host() -> str:
    return blake2b(platform.node().encode(), digest_size=4).hexdigest()


def _is_worked_on(answer: Answer, asked_at: datetime, now: datetime) -> bool:
    try:
        host, pid, began = str(json.loads(answer.settings)[_ANSWERING]).split("-")
    except (ValueError, KeyError, TypeError):
        return False
    if host != _host():
        return now - asked_at < LONGEST
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == began
    except (psutil.Error, ValueError):
        return False
