"""Titles of lectures."""

from pathlib import Path


def title_from(path: Path) -> str:
    """Return a title made of a file's name."""
    return in_one_line(path.stem.replace("_", " ")) or "Untitled lecture"


def in_one_line(text: str) -> str:
    """Return the words of a text with one space between them."""
    return " ".join(text.split())
