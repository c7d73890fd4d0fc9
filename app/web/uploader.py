"""The component that sends files to the upload route; its page side is `uploader.html`, `.css` and `.js` beside it."""

from functools import cache
from importlib.resources import files
from uuid import UUID

import streamlit as st
from streamlit.components.v2.types import ComponentRenderer

from app.web.parts import Served
from app.web.texts import in_size
from app.web.upload_routes import PREFIX

FORMATS = "mp3, m4a, wav, flac, ogg, opus, webm, mp4, mkv and more"


def uploader(served: Served) -> UUID | None:
    """Draw the uploader; return the lecture that an upload has just become, once."""
    limit = in_size(served.uploads.max_bytes)
    data = {
        "prefix": PREFIX,
        "token": served.token,
        "max_bytes": served.uploads.max_bytes,
        "limits": f"{FORMATS}; up to {limit} each. Keep this window open until the bar is full.",
    }
    result = _component()(key="uploader", data=data, on_added_change=lambda: None)
    return UUID(result.added) if result.added else None


@cache
def _component() -> ComponentRenderer:
    folder = files("app.web")
    html, css, js = (folder.joinpath(f"uploader.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js"))
    return st.components.v2.component("askaloud_uploader", html=html, css=css, js=js)
