"""The page Lectures: add them, watch the work, play and read what was heard, rename, export, delete."""

from collections.abc import Sequence

import streamlit as st

from app.service import SpokenQA
from app.web.adding import add_lectures
from app.web.cards import errors_shown, is_busy, job_progress, worker_warning
from app.web.heard import show_heard
from app.web.lecture_actions import actions
from app.web.parts import served
from app.web.texts import in_size, plain
from retriever.domain import clock
from storage.domain import JobState, LectureInfo

POLL_S = 1.0
PER_PAGE = 20
STATES = {
    JobState.QUEUED: ("waits", "gray"),
    JobState.RUNNING: ("at work", "blue"),
    JobState.FAILED: ("failed", "red"),
    JobState.CANCELLED: ("stopped", "orange"),
    JobState.DONE: ("ready", "green"),
}


def show() -> None:
    """Draw the page: one lecture, if the address names it, else all."""
    qa = served().qa
    if (named := st.query_params.get("lecture")) is not None:
        with errors_shown():
            show_heard(qa, named)
        return
    st.title("Lectures", anchor=False)
    lectures = qa.lectures()
    with st.expander("Add lectures", expanded=True, icon=":material/add:", key="adding"):
        add_lectures(served())
    if any(is_busy(info.job) for info in lectures):
        # Polls only while something is at work; when the last job is over, the whole page is drawn anew without it.
        st.fragment(_watched, run_every=POLL_S)(qa)
    else:
        _list(qa, lectures)
    _disk(qa)


def _watched(qa: SpokenQA) -> None:
    lectures = qa.lectures()
    if not any(is_busy(info.job) for info in lectures):
        st.rerun()
    if not qa.worker_is_alive():
        worker_warning()
    _list(qa, lectures)


def _list(qa: SpokenQA, lectures: Sequence[LectureInfo]) -> None:
    if not lectures:
        st.info("No lecture is here yet.", icon=":material/library_music:")
        return
    st.header(f"{len(lectures)} lectures" if len(lectures) > 1 else "One lecture", anchor=False)
    if len(lectures) > 5:
        words = (
            st.text_input("Find a lecture", type="search", placeholder="Words of its title, course or file", key="find").casefold().split()
        )
        lectures = [info for info in lectures if all(word in _searched(info) for word in words)]
    num_pages = -(-len(lectures) // PER_PAGE)
    page = st.pagination(num_pages, key="lecture-page") if num_pages > 1 else 1
    alive = qa.worker_is_alive()
    for info in lectures[(page - 1) * PER_PAGE : page * PER_PAGE]:
        _lecture(qa, info, alive)


def _searched(info: LectureInfo) -> str:
    return f"{info.lecture.title} {info.course or ''} {info.file_name}".casefold()


def _lecture(qa: SpokenQA, info: LectureInfo, alive: bool) -> None:
    with st.container(border=True, key=f"lecture-{info.lecture.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(info.lecture.title)}**")
            _badges(info)
        st.caption(_facts(info))
        job_progress(info, alive)
        if info.job is not None and info.job.state in (JobState.FAILED, JobState.CANCELLED) and info.job.message:
            (st.error if info.job.state is JobState.FAILED else st.info)(plain(info.job.message))
        if info.warning:
            st.warning(plain(info.warning))
        with errors_shown():
            actions(qa, info)


def _badges(info: LectureInfo) -> None:
    if info.course:
        st.badge(plain(info.course), color="violet", icon=":material/folder:")
    state = info.job.state if info.job else JobState.DONE
    word, color = STATES[state]
    if state is JobState.DONE and not info.is_complete:
        word, color = "waits for another model to hear it", "gray"
    if is_busy(info.job) and info.num_embedded:
        word = "can be asked already"
    st.badge(word, color=color)  # type: ignore[arg-type]


def _facts(info: LectureInfo) -> str:
    facts = [clock(info.lecture.duration_s)] if info.lecture.num_samples else []
    if info.num_segments:
        heard = f"{info.num_embedded} of " if info.num_embedded < info.num_segments else ""
        facts.append(f"{heard}{info.num_segments} segment{'s' * (info.num_segments != 1)}")
    facts += [in_size(info.num_bytes), f"added {info.added_at:%Y-%m-%d}", plain(info.file_name)]
    return " · ".join(facts)


def _disk(qa: SpokenQA) -> None:
    usage = qa.library.disk_usage()
    limit = in_size(served().uploads.max_bytes)
    st.caption(
        f"On disk: {in_size(usage.get('sound', 0))} of sound, {in_size(usage.get('database', 0))} of database; "
        f"{in_size(usage.get('free', 0))} free. Largest upload: {limit}."
    )
