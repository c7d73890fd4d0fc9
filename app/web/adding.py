"""Three ways to add a lecture: a streamed upload, a file that already lies on this machine, a recording made in the page."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile

import streamlit as st

from app.folders import files_below
from app.service import SpokenQA
from app.web.cards import errors_shown
from app.web.parts import Served, has_upload_route
from app.web.texts import in_size, plain, zone_of
from app.web.uploader import uploader
from storage.domain import AddedLecture

MAX_LISTED = 200


def add_lectures(served: Served) -> None:
    """Draw the three ways as tabs."""
    upload, folder, record = st.tabs(["Upload", "From a folder", "Record"])
    with upload:
        if not has_upload_route():
            st.info(
                "This page was started by `streamlit run`, which takes no large files. Start it with `askaloud run`, or use the folder."
            )
        elif uploader(served) is not None:
            st.rerun()  # the list below may have been drawn before the lecture was there
    with folder, errors_shown():
        _from_folder(served)
    with record:
        _record(served.qa)


def _from_folder(served: Served) -> None:
    folder = served.settings.import_folder
    st.caption("Put files into this folder on the machine where the app runs; nothing is sent, so any size will do.")
    st.code(str(folder), language=None)
    found = files_in(folder)
    if not found:
        st.info("The folder is empty." if folder.is_dir() else "There is no such folder yet: make it, then put files into it.")
    for path in found[:MAX_LISTED]:
        name = str(path.relative_to(folder))
        left, right = st.columns([4, 1], vertical_alignment="center")
        left.markdown(f"{plain(name)} · {in_size(path.stat().st_size)}")
        if right.button("Add", key=f"add-{name}", help=f"Add {plain(name)}", width="stretch"):
            with errors_shown(), st.spinner(f"Checking {plain(name)}…"):
                _tell(served.qa.ingest(path))
    if len(found) > MAX_LISTED:
        st.caption(f"{len(found) - MAX_LISTED} more files are not shown: `askaloud ingest` takes the whole folder at once.")


def files_in(folder: Path) -> Sequence[Path]:
    """Return the files below a folder in order of their names; hidden ones and links that lead elsewhere are left out."""
    if not folder.is_dir():
        return []
    root = folder.resolve()
    return [path for path in files_below(folder) if path.resolve().is_relative_to(root)]


def _record(qa: SpokenQA) -> None:
    st.caption(
        "The recording stays in the browser until you stop it, then it is sent at once: good for up to about half an hour, "
        "and lost if the page is closed before. For a whole lecture, `askaloud record` on this machine writes to the disk as you speak."
    )
    sound = st.audio_input("Record a lecture", key="recorded")
    if sound is None:
        return
    now = datetime.now(zone_of(st.context.timezone))
    title = st.text_input("Title of the recording", value=f"Recording of {now:%Y-%m-%d %H:%M}", key=f"title-{sound.file_id}", max_chars=200)
    if st.button("Add the recording", type="primary", disabled=not title.strip()):
        with errors_shown(), NamedTemporaryFile(suffix=".wav") as file:
            file.write(sound.getbuffer())
            file.flush()
            _tell(qa.ingest(Path(file.name), title.strip(), file_name="recording.wav"))


def _tell(added: AddedLecture) -> None:
    title = plain(added.lecture.title)
    st.toast(f"{title} has been added." if added.new else f"{title} is here already; nothing was added twice.")
    st.rerun()
