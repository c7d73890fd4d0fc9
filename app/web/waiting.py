"""What the page Ask shows while lectures are being listened to."""

from collections.abc import Sequence

import streamlit as st

from app.service import SpokenQA
from app.web.cards import is_busy, job_progress, worker_warning
from app.web.texts import plain
from storage.domain import LectureInfo

POLL_S = 1.0

NOTHING_HERE = "There is no lecture to ask yet. Add one on the page **Lectures**; it can be asked as soon as its beginning has been heard."
FIRST_AT_WORK = "The first lecture is being listened to. It can be asked as soon as its beginning has been heard."
TO_BE_HEARD_ANEW = "Another model listens since the lectures were added. It will hear them anew by itself, one after the other."


def waiting_room(qa: SpokenQA, lectures: Sequence[LectureInfo]) -> None:
    """Draw why nothing can be asked yet, and how far the work is; the page is drawn anew as soon as something can be asked."""
    if not lectures:
        st.info(NOTHING_HERE, icon=":material/library_add:")
        return
    anew = any(info.num_segments and not is_busy(info.job) for info in lectures)
    if not anew and not any(is_busy(info.job) for info in lectures):
        st.info(NOTHING_HERE, icon=":material/library_add:")  # those that are here failed or were cancelled; their page says so
        return
    st.info(TO_BE_HEARD_ANEW if anew else FIRST_AT_WORK, icon=":material/hearing:")
    st.fragment(_progress, run_every=POLL_S)(qa)


def _progress(qa: SpokenQA) -> None:
    lectures = qa.lectures()
    if any(info.num_embedded for info in lectures):
        st.rerun()
    alive = qa.worker_is_alive()
    for info in lectures:
        if is_busy(info.job):
            st.markdown(f"**{plain(info.lecture.title)}**")
            job_progress(info, alive)
    if not alive:
        worker_warning()


def still_listening(qa: SpokenQA) -> None:
    """Draw a line on the lectures that cannot be asked as a whole yet."""
    st.fragment(_note, run_every=5 * POLL_S)(qa)


def _note(qa: SpokenQA) -> None:
    busy = [info for info in qa.lectures() if is_busy(info.job)]
    if not busy:
        st.rerun()  # without this line, and without looking again
    names = ", ".join(f"**{plain(info.lecture.title)}** ({info.num_embedded} of {info.num_segments or '?'})" for info in busy[:3])
    more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
    st.caption(f":material/hearing: Still listening to {names}{more}. What has been heard so far can be asked.")
