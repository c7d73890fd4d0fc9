"""What can be done with a lecture in the list: ask it, read it, cancel or resume the work, rename, export, delete."""

from uuid import UUID

import streamlit as st

from app.export import HeardFormat, export_heard
from app.service import SpokenQA
from app.web.cards import clip_wav, errors_shown, is_busy
from app.web.parts import served
from app.web.texts import plain
from storage.domain import LectureInfo

MIME = {
    HeardFormat.SRT: "application/x-subrip",
    HeardFormat.VTT: "text/vtt",
    HeardFormat.TXT: "text/plain",
    HeardFormat.JSON: "application/json",
}


def actions(qa: SpokenQA, info: LectureInfo) -> None:
    """Draw the row of buttons."""
    key, title = str(info.lecture.id), info.lecture.title
    with st.container(horizontal=True):
        if info.num_segments and st.button("Read and play", key=f"read-{key}", icon=":material/menu_book:"):
            st.query_params["lecture"] = key
            st.rerun()
        if is_busy(info.job):
            _cancel(qa, info)
        elif not info.is_complete and st.button(
            "Resume", key=f"resume-{key}", icon=":material/play_arrow:", help=f"Go on with {plain(title)}"
        ):
            qa.resume(info.lecture.id)
            st.rerun()
        if st.button("Rename", key=f"rename-{key}", icon=":material/edit:"):
            rename(key)
        if info.num_embedded and st.button("Export", key=f"export-{key}", icon=":material/download:"):
            export(key)
        if st.button("Delete", key=f"delete-{key}", icon=":material/delete:"):
            delete(key)


def _cancel(qa: SpokenQA, info: LectureInfo) -> None:
    job = info.job
    if job is None:
        return
    asked = job.cancel_requested
    label = "Cancelling…" if asked else "Cancel"
    if st.button(label, key=f"cancel-{info.lecture.id}", icon=":material/stop_circle:", disabled=asked):
        qa.cancel(job.id)
        st.rerun()


@st.dialog("Rename a lecture")
def rename(lecture_id: str) -> None:
    """Ask for title and course."""
    qa = served().qa
    info = qa.lecture(UUID(lecture_id))
    courses = sorted({one.course for one in qa.lectures() if one.course})
    title = st.text_input("Title", value=info.lecture.title, max_chars=200)
    course = st.selectbox(
        "Course",
        courses,
        index=courses.index(info.course) if info.course else None,
        accept_new_options=True,
        placeholder="None; type a new one",
    )
    if st.button("Save", type="primary", disabled=not title.strip()):
        with errors_shown():
            qa.rename(info.lecture.id, title.strip(), (course or "").strip() or None)
            st.rerun()


@st.dialog("Export what was heard")
def export(lecture_id: str) -> None:
    """Offer the heard words as files."""
    qa = served().qa
    info = qa.lecture(UUID(lecture_id))
    kind = st.segmented_control(
        "Format", list(HeardFormat), default=HeardFormat.SRT, format_func=lambda one: one.value.upper(), required=True
    )
    with errors_shown():
        text = export_heard(qa.heard(info.lecture.id), kind)
        name = f"{file_name(info.lecture.title)}.{kind.value}"
        st.caption("SRT and VTT are subtitles, TXT is a line for each segment, JSON has every word with its time.")
        st.download_button(
            f"Download {kind.value.upper()}", text, name, MIME[kind], type="primary", on_click="ignore", icon=":material/download:"
        )


@st.dialog("Delete a lecture?")
def delete(lecture_id: str) -> None:
    """Ask whether it is meant."""
    qa = served().qa
    info = qa.lecture(UUID(lecture_id))
    st.markdown(
        f"**{plain(info.lecture.title)}** will be deleted with its sound and all that was heard in it. "
        "Questions in the history stay and say that the lecture is gone. This cannot be undone."
    )
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary", icon=":material/delete:"):
            with errors_shown():
                qa.delete_lecture(info.lecture.id)
                clip_wav.clear()
                st.rerun()
        if st.button("Keep it"):
            st.rerun()


def file_name(title: str) -> str:
    """Return a name for a downloaded file."""
    return " ".join("".join(c if c.isalnum() or c in " -_" else " " for c in title).split())[:80] or "lecture"
