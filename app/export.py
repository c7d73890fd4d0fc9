"""Exports: the history as CSV, JSON or Markdown, a lecture's heard words as SRT, WebVTT, text or JSON. Pure functions."""

import csv
import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import assert_never

from app import shapes, subtitles
from app.subtitles import clocks
from generator.domain import AnswerStatus, Citation
from retriever.domain import clock
from storage.domain import HeardSegment, HistoryEntry

CSV_COLUMNS = (
    "id",
    "asked_at",
    "question",
    "heard",
    "spoken",
    "answer",
    "supported",
    "confidence",
    "status",
    "model",
    "note",
    "moments",
    "evidence",
    "retriever",
    "total_ms",
)
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet calculates a cell that begins with one of these
MARKDOWN_SIGNS = re.compile(r"([\\`*_{}\[\]#|~!>])")
LIST_SIGNS = re.compile(r"^(\d*)([-+.)])(?=\s)")  # at the beginning of a line


class HistoryFormat(StrEnum):
    """How the history can be exported."""

    CSV = "csv"
    JSON = "json"
    MARKDOWN = "md"


class HeardFormat(StrEnum):
    """How what was heard can be exported."""

    SRT = "srt"
    VTT = "vtt"
    TXT = "txt"
    JSON = "json"


def export_history(entries: Sequence[HistoryEntry], kind: HistoryFormat) -> str:
    """Return the entries, in the order given, as one text."""
    match kind:
        case HistoryFormat.CSV:
            return _csv(entries)
        case HistoryFormat.JSON:
            return to_json({"entries": [shapes.of_entry(entry) for entry in entries]})
        case HistoryFormat.MARKDOWN:
            return _markdown(entries)
        case _:
            assert_never(kind)


def export_heard(heard: Sequence[HeardSegment], kind: HeardFormat) -> str:
    """Return what was heard in a lecture as one text."""
    match kind:
        case HeardFormat.SRT:
            return subtitles.to_srt(heard)
        case HeardFormat.VTT:
            return subtitles.to_vtt(heard)
        case HeardFormat.TXT:
            return subtitles.to_txt(heard)
        case HeardFormat.JSON:
            return to_json(shapes.of_heard(heard))
        case _:
            assert_never(kind)


def to_json(value: shapes.JsonObject) -> str:
    """Return the object as indented JSON with a line break at its end."""
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _csv(entries: Iterable[HistoryEntry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for entry in entries:
        writer.writerow([_safe(cell) for cell in _cells(entry)])
    return text.getvalue()


def _cells(entry: HistoryEntry) -> Iterator[str | float]:
    answer = entry.answer
    yield str(entry.question.id)
    yield entry.asked_at.isoformat()
    yield entry.question.text or ""
    yield entry.question.heard or ""
    yield "yes" if entry.has_audio else "no"
    yield answer.text if answer else ""
    yield ("yes" if answer.supported else "no") if answer else ""
    yield round(answer.confidence, 4) if answer else ""
    yield answer.status.value if answer else ""
    yield answer.model if answer else ""
    yield answer.note if answer else ""
    yield "; ".join(f"{_moment(c, entry)}: {c.text}" for c in answer.citations) if answer else ""
    yield "; ".join(f"{_source(one.lecture_title, one.lecture_deleted)}, {clock(one.hit.segment.span.start_s)}" for one in entry.evidence)
    yield entry.retriever
    yield round(entry.timings_ms["total"], 1) if "total" in entry.timings_ms else ""


def _safe(cell: str | float) -> str | float:
    """Return the cell so that no spreadsheet takes what a user or a lecture said for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip(" ").startswith(FORMULA_SIGNS) else cell


def _markdown(entries: Sequence[HistoryEntry]) -> str:
    return "\n".join(["# Questions and answers\n", *(line for entry in entries for line in _section(entry))])


def _section(entry: HistoryEntry) -> Iterator[str]:
    answer = entry.answer
    yield f"## {_plain(entry.question.wording) or '(nothing was understood)'}\n"
    spoken = ", spoken" if entry.has_audio else ""
    yield f"Asked {entry.asked_at:%Y-%m-%d %H:%M} UTC{spoken}.\n"
    if entry.question.heard and entry.question.text:
        yield f"Heard as: {_plain(entry.question.heard)}\n"
    if answer is None:
        yield "No answer.\n"
        return
    yield f"{'**Failed:** ' if answer.status is AnswerStatus.FAILED else ''}{_plain(answer.text)}\n"
    for name, moments in (("Moments", answer.citations), ("Nearest moments", answer.nearest)):
        if moments:
            yield f"{name}:\n"
            yield "\n".join(f"{i}. {_plain(_moment(c, entry))}: {_plain(c.text)}" for i, c in enumerate(moments, start=1)) + "\n"
    yield f"Answered by {_plain(answer.model)}.\n"
    if answer.note:
        yield f"Note: {_plain(answer.note)}\n"


def _moment(citation: Citation, entry: HistoryEntry) -> str:
    deleted = any(one.lecture_deleted for one in entry.evidence if one.hit.segment.lecture_id == citation.segment.lecture_id)
    return f"{_source(entry.title_of(citation), deleted)}, {clocks(citation.span)}"


def _source(title: str, deleted: bool) -> str:
    return f"{title} (deleted)" if deleted else title


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    line = html.escape(" ".join(text.split()), quote=False).replace("&gt;", ">")
    return LIST_SIGNS.sub(r"\1\\\2", MARKDOWN_SIGNS.sub(r"\\\1", line))
