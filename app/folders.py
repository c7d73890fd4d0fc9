"""Walks a folder that a user names."""

from collections.abc import Sequence
from pathlib import Path


def files_below(folder: Path) -> Sequence[Path]:
    """Return the files below a folder in order of their names; hidden ones, and all in hidden folders, are left out."""
    return sorted(path for path in folder.rglob("*") if not _is_hidden(path.relative_to(folder)) and path.is_file())


def _is_hidden(inside: Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)
