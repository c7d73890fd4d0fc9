"""The frame around the pages: title, style, navigation, and errors as sentences."""

from functools import cache
from importlib.resources import files

import streamlit as st

from app.web import ask, health, history, lectures
from app.web.cards import OUR_ERRORS, errors_shown
from app.web.parts import served
from app.web.texts import plain


def show() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="askaloud", page_icon=_icon(), layout="centered")
    st.html(f"<style>{_style()}</style>")
    pages = {
        "ask": st.Page(ask.show, title="Ask", icon=":material/mic:", default=True),
        "lectures": st.Page(lectures.show, title="Lectures", icon=":material/library_music:", url_path="lectures"),
        "history": st.Page(history.show, title="History", icon=":material/history:", url_path="history"),
        "health": st.Page(health.show, title="Health", icon=":material/monitor_heart:", url_path="health"),
    }
    st.session_state["pages"] = pages
    # The default page lives at the bare address; whoever types its name shall find it too.
    named_ask = st.Page(_to_ask, title="Ask", url_path="ask", visibility="hidden")
    page = st.navigation([*pages.values(), named_ask], position="hidden")
    with st.container(horizontal=True, vertical_alignment="center", key="nav"):
        # Links of our own, on every width: Streamlit hides its own behind an arrow on a phone.
        st.html('<span class="brand"><i></i>askaloud</span>', width="content")
        for one in pages.values():
            st.page_link(one)
    if not _can_open():
        return
    with errors_shown():
        page.run()


def _to_ask() -> None:
    st.switch_page(st.session_state["pages"]["ask"], query_params=st.query_params.to_dict())


def _can_open() -> bool:
    """Open the application, or say why that is impossible."""
    try:
        served()
    except OUR_ERRORS as error:
        st.title("askaloud cannot start", anchor=False)
        st.error(plain(str(error)), icon=":material/error:")
        return False
    return True


def _icon() -> str:
    return str(files("app.web").joinpath("icon.svg"))  # an icon's name or an emoji would be fetched from the internet


@cache
def _style() -> str:
    return files("app.web").joinpath("style.css").read_text(encoding="utf-8")
