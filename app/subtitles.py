"""Turns heard words into subtitles (SRT, WebVTT) and plain text.

Cues follow the usual rules for reading: at most two lines of 42 characters and at most 7 s, cut where the speaker pauses.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from retriever.domain import SAMPLE_RATE_HZ, Span, Word, clock, join_words, to_seconds
from storage.domain import HeardSegment

LINE_CHARS = 42
MAX_LINES = 2
MAX_CUE_MS = 7_000
MIN_CUE_MS = 1_000  # shorter ones flash by; stretched where the next leaves room
PAUSE_MS = 1_000  # a cue does not reach across a longer silence


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown for a while: half-open, in milliseconds from the lecture's beginning."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def cues(heard: Sequence[HeardSegment]) -> list[Cue]:
    """Return the cues of a lecture, in order of time, none overlapping another."""
    groups = list(_groups(piece for one in heard for word in one.words for piece in _pieces(word)))
    starts: list[int] = []
    for group in groups:  # each begins at least a millisecond after the one before, whatever the words' times say
        starts.append(max(_ms(group[0].start), starts[-1] + 1 if starts else 0))
    made = []
    for i, group in enumerate(groups):
        room = starts[i + 1] if i + 1 < len(groups) else starts[i] + MAX_CUE_MS
        wanted = max(_ms(group[-1].end), starts[i] + MIN_CUE_MS)
        made.append(Cue(starts[i], min(wanted, room, starts[i] + MAX_CUE_MS), tuple(_wrapped(group))))
    return made


def to_srt(heard: Sequence[HeardSegment]) -> str:
    """Return SubRip subtitles; empty if nothing was heard."""
    blocks = []
    for number, cue in enumerate(cues(heard), start=1):
        lines = "\n".join(line.replace("-->", "->") for line in cue.lines)  # the arrow marks a line of times
        blocks.append(f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{lines}\n")
    return "\n".join(blocks)


def to_vtt(heard: Sequence[HeardSegment]) -> str:
    """Return WebVTT subtitles."""
    blocks = ["WEBVTT\n"]
    for cue in cues(heard):
        lines = "\n".join(line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in cue.lines)
        blocks.append(f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{lines}\n")
    return "\n".join(blocks)


def to_txt(heard: Sequence[HeardSegment]) -> str:
    """Return a line for each segment in which something was heard, led by its time."""
    return "".join(f"[{clock(to_seconds(one.segment.start))}] {join_words(one.words)}\n" for one in heard if one.words)


def clocks(span: Span) -> str:
    """Return a moment as two positions, mm:ss to mm:ss."""
    return f"{clock(span.start_s)}–{clock(span.end_s)}"


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Yield the words of one cue after the other."""
    group: list[Word] = []
    for word in words:
        if group and not _fits(group, word):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _fits(group: list[Word], word: Word) -> bool:
    if _ms(word.start) - _ms(group[-1].end) > PAUSE_MS or _ms(word.end) - _ms(group[0].start) > MAX_CUE_MS:
        return False
    return len(_wrapped([*group, word])) <= MAX_LINES


def _wrapped(words: Sequence[Word]) -> list[str]:
    return textwrap.wrap(join_words(words), LINE_CHARS, break_on_hyphens=False)


def _pieces(word: Word) -> Iterator[Word]:
    """Yield the word without line breaks; one that is longer than a line in pieces, each with its part of the time."""
    text = " ".join(word.text.split())
    num_pieces = -(-len(text) // LINE_CHARS)
    for i in range(num_pieces):
        start, end = (word.start + (word.end - word.start) * k // num_pieces for k in (i, i + 1))
        yield Word(text[i * LINE_CHARS : (i + 1) * LINE_CHARS], start, end, word.confidence)


def _ms(num_samples: int) -> int:
    return num_samples * 1000 // SAMPLE_RATE_HZ


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{ms:03}"
