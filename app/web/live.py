"""Answers that come while the page is shown, and go on coming when it is left, refreshed or closed.

A question is asked in a thread of the server, not of the page. The page only reads what stands in the history.
"""

import threading
from dataclasses import dataclass, field
from uuid import UUID

import streamlit as st

from app.service import SpokenQA
from app.web.cards import OUR_ERRORS, coming
from generator.domain import AnswerStatus
from retriever.domain import Question
from storage.errors import NotFound

LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class _Begun:
    """What a page waits for: that there is something to show, or why there is nothing."""

    told: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


def ask_apart(qa: SpokenQA, question: Question) -> None:
    """Ask in a thread of its own; return as soon as the history has something to show: the answer, or its first words.

    Raises:
        NothingToSearch, RetrieverError, StorageError: the question could not be asked.
    """
    begun = _Begun()
    threading.Thread(target=_work, args=(qa, question, begun), name="answering", daemon=True).start()
    begun.told.wait()
    if begun.error is not None:
        raise begun.error


def _work(qa: SpokenQA, question: Question, begun: _Begun) -> None:
    try:
        for _ in qa.asking(question):
            begun.told.set()
    except Exception as error:  # the page that waits raises it
        begun.error = error
        if begun.told.is_set() and not isinstance(error, OUR_ERRORS):
            raise  # nobody waits any more: let it be seen in the log
    finally:
        begun.told.set()


@st.fragment(run_every=LOOK_EVERY_S)
def watch(qa: SpokenQA, question_id: UUID) -> None:
    """Draw an answer as far as it has come, again and again, and the whole page anew once it is there."""
    try:
        answer = qa.entry(question_id).answer
    except NotFound:  # forgotten meanwhile
        answer = None
    if answer is None or answer.status is not AnswerStatus.STREAMING:
        st.rerun()
    coming(answer.text)
