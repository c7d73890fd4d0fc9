"""Words and numbers as the pages show them, and sound as the browser plays it. Pure functions."""

import html
import io
import re
import wave
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from retriever.domain import SAMPLE_RATE_HZ, Audio

_SIGNS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~<>$:&^=])")


def in_size(num_bytes: int) -> str:
    """Return a number of bytes as a person would say it."""
    if num_bytes >= 2**30:
        return f"{num_bytes / 2**30:.1f} GB"
    return f"{num_bytes / 2**20:.1f} MB" if num_bytes >= 2**20 else f"{max(1, round(num_bytes / 1024))} kB"


def plain(text: str) -> str:
    """Return text that Streamlit's Markdown shows as it is, on one line: no links, no images, no directives."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))


def marked(text: str, cited: Iterable[str]) -> str:
    """Return the text as HTML with those of the cited stretches marked that occur in it, whole or with the end that lies in it."""
    words = text.split()
    is_cited = [False] * len(words)
    for stretch in cited:
        start, end = _find(words, stretch.split())
        is_cited[start:end] = [True] * (end - start)
    pieces: list[str] = []
    for i, word in enumerate(words):
        before = is_cited[i - 1] if i else False
        opening = "<mark>" if is_cited[i] and not before else ""
        closing = "</mark>" if is_cited[i] and not (i + 1 < len(words) and is_cited[i + 1]) else ""
        pieces.append(f"{opening}{html.escape(word)}{closing}")
    return " ".join(pieces)


def _find(words: list[str], stretch: list[str]) -> tuple[int, int]:
    """Return where the stretch lies in the words; it may begin before the first or end after the last. Empty if nowhere."""
    for start in range(len(words) - len(stretch) + 1):
        if stretch and words[start : start + len(stretch)] == stretch:
            return start, start + len(stretch)
    for length in range(min(len(stretch) - 1, len(words)), 1, -1):  # one word alone may be there by chance
        if words[:length] == stretch[-length:]:
            return 0, length
        if words[-length:] == stretch[:length]:
            return len(words) - length, len(words)
    return 0, 0


def to_wav(audio: Audio) -> bytes:
    """Return a sound as a 16-bit WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes(np.round(audio.samples * 32767.0).astype("<i2").tobytes())
    return file.getvalue()


def local(moment: datetime, zone: str | None) -> datetime:
    """Return a moment in the reader's time zone, UTC if that is unknown."""
    return moment.astimezone(zone_of(zone))


def zone_of(name: str | None) -> ZoneInfo:
    """Return the time zone of this name, UTC if there is none."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
