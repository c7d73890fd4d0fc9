"""What all pages and routes of one server share: settings, the application, the uploads' folder and the token that pages are given."""

import secrets
import threading
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import streamlit as st

from app.build import build_app, build_parts
from app.service import SpokenQA
from app.settings import Settings, load_settings
from app.web.uploads import Uploads
from generator.errors import GeneratorError
from retriever.domain import SAMPLE_RATE_HZ, Audio, Question
from retriever.errors import RetrieverError


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """The parts of a running server.

    Attributes:
        token: what a page must show to upload; new with every start.
    """

    settings: Settings
    qa: SpokenQA
    uploads: Uploads
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def close(self) -> None:
        """Give back what the application holds."""
        self.qa.retriever.close()
        self.qa.library.close()


_chosen: list[Settings] = []  # those the server was started with, if any


def use(settings: Settings) -> None:
    """Serve with these settings instead of those that files and environment give."""
    _chosen[:] = [settings]


def has_upload_route() -> bool:
    """Whether our own server serves these pages; `streamlit run` knows no upload route."""
    return bool(_chosen)


@st.cache_resource(show_spinner=False, on_release=lambda parts: parts.close())
def served() -> Served:
    """Return the parts, made on first use and kept for all sessions.

    Raises:
        SettingsInvalid, StorageError, ModelFilesMissing: the application cannot be opened.
    """
    settings = _chosen[0] if _chosen else load_settings()
    max_bytes = min(settings.web.max_upload_bytes, settings.limits.max_file_bytes)
    uploads = Uploads(settings.upload_folder, max_bytes, settings.storage.min_free_bytes)
    return Served(settings, build_app(build_parts(settings)), uploads)


@cache
def warm_up() -> None:
    """Load the models in the background, once, so that the first question need not wait for them."""

    def load() -> None:
        try:
            qa = served().qa
            qa.retriever.encode(Question(text="warm up"))
            if (
                served().settings.retriever.kind == "clsr"
            ):  # the cascade's processes would keep 100 MB each for questions that may never come
                qa.retriever.encode(Question(audio=Audio(np.zeros(SAMPLE_RATE_HZ, np.float32))))
        except (RetrieverError, GeneratorError):
            return  # the page says so when a question is asked

    threading.Thread(target=load, name="warm-up", daemon=True).start()
