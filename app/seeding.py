"""Puts the demo lecture into a new library, once: a demo that was deleted stays deleted."""

import logging
from typing import TYPE_CHECKING

from app import demo
from app.settings import Settings
from retriever.errors import RetrieverError
from storage.errors import StorageError

if TYPE_CHECKING:
    from app.service import SpokenQA

MARKER = "demo-added"

log = logging.getLogger(__name__)


def seed_demo(qa: "SpokenQA", settings: Settings) -> bool:
    """Add the demo lecture if the settings want it and this library never had lectures; return whether it was added."""
    marker = settings.home / MARKER
    if not settings.demo or marker.exists():
        return False
    try:
        is_new = not qa.lectures()
        if is_new:
            qa.ingest(demo.lecture_path(), demo.TITLE)
    except (RetrieverError, StorageError, OSError) as error:  # no room, say: the app works without it, and the next start tries again
        log.warning("the demo lecture could not be added: %s", error)
        return False
    marker.touch()
    return is_new
