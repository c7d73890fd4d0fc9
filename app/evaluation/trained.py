"""Systems run from a checkpoint as training left it: controls that are compared and never shipped.

Their networks need torch (`pip install 'askaloud[train]'`), which is imported when one is built and at no other time: only here does the
application reach into `retriever.training`. A new one is a function from its folder to a retriever, and a line in `LOADERS`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from app.errors import CommandMisused
from retriever.base import Retriever


def build_trained(kind: str, folder: Path) -> Retriever:
    """Return the retriever of a checkpoint; its network is loaded on first use.

    Args:
        kind: one of `LOADERS`.
        folder: with the checkpoint; it says itself how large its network is.

    Raises:
        ModelFilesMissing: the folder holds no such checkpoint.
        CommandMisused: torch is not installed.
    """
    try:
        return LOADERS[kind](folder)
    except ModuleNotFoundError as error:
        raise CommandMisused(f"{kind}:{folder} is run from its training's checkpoint, {error}; pip install 'askaloud[train]'") from error


def _published(folder: Path) -> Retriever:
    from retriever.training.published_retriever import PublishedRetriever  # noqa: PLC0415 - torch, only for who evaluates it

    return PublishedRetriever(folder)


def _direct(folder: Path) -> Retriever:
    from retriever.training.dual_retriever import DualRetriever  # noqa: PLC0415 - torch, only for who evaluates it

    return DualRetriever(folder)


LOADERS: Final[Mapping[str, Callable[[Path], Retriever]]] = {"published": _published, "direct": _direct}
