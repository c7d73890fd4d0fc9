"""The server of the pages: one process, Streamlit's application object with our upload route, behind a guard against other sites.

`python -m app.web.server` serves alone; `askaloud run` starts it beside the worker.
"""

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from app.settings import Settings, load_settings
from app.web import parts
from app.web.guard import OwnPagesOnly, own_hosts
from app.web.upload_routes import UploadRoutes
from app.web.uploads import Uploads

SCRIPT: Final = Path(__file__).with_name("entry") / "page.py"

Options: TypeAlias = dict[str, str | int | bool | list[str]]

# The same for `streamlit run streamlit_app.py` in .streamlit/config.toml; a test compares the two.
FIXED: Final[Options] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": True,
    "runner.magicEnabled": False,
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.showEmailPrompt": False,
    "server.maxUploadSize": 200,  # MB; only recordings come this way, files use our own route
    "theme.font": "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif",
    "theme.headingFont": "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', sans-serif",
    "theme.codeFont": "ui-monospace, 'Cascadia Mono', 'Noto Sans Mono', 'DejaVu Sans Mono', monospace",
    "theme.baseRadius": "0.6rem",
    "theme.headingFontSizes": ["2.1rem", "1.5rem", "1.25rem", "1.1rem", "1rem", "0.9rem"],
    "theme.metricValueFontSize": "1.5rem",
    "theme.light.primaryColor": "#0f766e",
    "theme.light.backgroundColor": "#fbfbf9",
    "theme.light.secondaryBackgroundColor": "#f0f1ec",
    "theme.light.textColor": "#1c2422",
    "theme.light.borderColor": "#d5d9d2",
    "theme.dark.primaryColor": "#2dd4bf",
    "theme.dark.backgroundColor": "#111716",
    "theme.dark.secondaryBackgroundColor": "#1b2422",
    "theme.dark.textColor": "#e6ebe8",
    "theme.dark.borderColor": "#33403d",
}


def create_app(settings: Settings) -> st.App:
    """Return the ASGI application."""
    parts.use(settings)

    @asynccontextmanager
    async def swept(_app: st.App) -> AsyncIterator[None]:
        uploads = Uploads(settings.upload_folder, settings.web.max_upload_bytes, settings.storage.min_free_bytes)
        await run_in_threadpool(uploads.sweep)
        if settings.web.import_folder is None:  # ours; one that the user names is the user's to make
            settings.import_folder.mkdir(parents=True, exist_ok=True)
        yield

    return st.App(
        SCRIPT,
        routes=UploadRoutes(parts.served).routes(),
        middleware=[Middleware(OwnPagesOnly, hosts=own_hosts(settings.web.host, settings.web.public_hosts))],
        lifespan=swept,
    )


def options(settings: Settings) -> Options:
    """Return Streamlit's options."""
    return FIXED | {"server.address": settings.web.host, "server.port": settings.web.port}


def serve(settings: Settings) -> None:
    """Serve the pages until told to end (Ctrl-C, SIGTERM)."""
    sys.argv[:] = ["-c"]  # else Streamlit puts the folder of whatever started us on the module search path
    create_app(settings).run(config=options(settings))


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    serve(load_settings())
