"""The page Health: what works, what does not, and the way out of it."""

from importlib.metadata import version

import streamlit as st

from app import doctor
from app.web.cards import errors_shown, worker_warning
from app.web.parts import Served, served
from app.web.texts import in_size, plain


def show() -> None:
    """Draw the page."""
    parts = served()
    st.title("Health", anchor=False)
    with errors_shown():
        _state(parts)
    st.header("Checks", anchor=False)
    with st.spinner("Checking…"):
        checks = doctor.check(parts.settings)
    wrong = [one for one in checks if not one.ok]
    if wrong:
        st.error(f"{len(wrong)} of {len(checks)} checks found something wrong.", icon=":material/error:")
    else:
        st.success(f"All {len(checks)} checks passed.", icon=":material/check_circle:")
    for one in sorted(checks, key=lambda one: one.ok):
        _check(one)
    st.button("Check again", icon=":material/refresh:")
    st.header("Versions", anchor=False)
    with errors_shown():
        _versions(parts)


def _state(parts: Served) -> None:
    alive = parts.qa.worker_is_alive()
    usage = parts.qa.library.disk_usage()
    lectures = parts.qa.lectures()
    with st.container(horizontal=True, gap="medium"):
        st.metric("Worker", "alive" if alive else "not running", width="content")
        st.metric("Lectures", len(lectures), width="content")
        st.metric("Sound on disk", in_size(usage.get("sound", 0)), width="content")
        st.metric("Free disk", in_size(usage.get("free", 0)), width="content")
    if not alive:
        worker_warning()


def _check(one: doctor.Check) -> None:
    sign = (
        ":green[:material/check_circle:]"
        if one.ok and not one.way_out
        else ":orange[:material/info:]"
        if one.ok
        else ":red[:material/error:]"
    )
    word = "" if one.ok else " (wrong)"
    way_out = f"  \nWay out: {plain(one.way_out)}" if one.way_out else ""
    st.markdown(f"{sign} **{plain(one.name)}**{word}: {plain(one.message)}{way_out}")


def _versions(parts: Served) -> None:
    settings = parts.settings
    st.markdown(
        f"- askaloud {version('askaloud')}, Streamlit {st.__version__}\n"
        f"- retriever {plain(settings.retriever.kind)}, fingerprint {plain(parts.qa.retriever.fingerprint)}\n"
        f"- generator {plain(settings.generator.kind)}\n"
        f"- data in {plain(str(settings.home))}"
    )
