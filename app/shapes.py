"""The shapes in which results leave as JSON: what `--json` prints and what exports hold. Pure functions to plain dictionaries."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from generator.domain import Answer, Citation, Evidence
from retriever.domain import Question, Span, Word, to_seconds
from storage.domain import EvidenceRecord, HeardSegment, HistoryEntry, HistoryPage, LectureInfo

JsonObject: TypeAlias = dict[str, object]


def of_search(question: Question, evidence: Sequence[Evidence], timings_ms: Mapping[str, float]) -> JsonObject:
    """Return the shape of a search: question, hits, times with their total."""
    return {
        "question": {"text": question.text, "heard": question.heard},
        "hits": [
            {
                "segment_id": one.segment.id,
                **_place(str(one.segment.lecture_id), one.lecture_title, one.segment.span),
                "score": round(one.hit.score, 6),
                "text": one.text,
            }
            for one in evidence
        ],
        "timings_ms": of_timings({**timings_ms, "total": timings_ms.get("total", sum(timings_ms.values()))}),
    }


def of_asking(question: Question, answer: Answer, evidence: Sequence[Evidence], timings_ms: Mapping[str, float]) -> JsonObject:
    """Return the shape of a question answered."""
    titles = {str(one.segment.lecture_id): one.lecture_title for one in evidence}
    found = of_search(question, evidence, timings_ms)
    return {
        "question": found["question"],
        "answer": {
            "text": answer.text,
            "supported": answer.supported,
            "status": answer.status.value,
            "model": answer.model,
            "note": answer.note,
        },
        "citations": [of_citation(c, titles.get(str(c.segment.lecture_id), "")) for c in answer.citations],
        "hits": found["hits"],
        "timings_ms": found["timings_ms"],
    }


def of_citation(citation: Citation, title: str) -> JsonObject:
    """Return the shape of a cited moment."""
    return {**_place(str(citation.segment.lecture_id), title, citation.span), "text": citation.text}


def of_heard(heard: Sequence[HeardSegment]) -> JsonObject:
    """Return the shape of what was heard in a sound."""
    return {
        "segments": [
            {
                "start_s": _seconds(one.segment.start),
                "end_s": _seconds(one.segment.end),
                "text": " ".join(word.text for word in one.words),
                "words": [_word(word) for word in one.words],
            }
            for one in heard
        ]
    }


def of_lecture(info: LectureInfo) -> JsonObject:
    """Return the shape of a lecture as listed."""
    return {
        "id": str(info.lecture.id),
        "title": info.lecture.title,
        "course": info.course,
        "file_name": info.file_name,
        "added_at": info.added_at.isoformat(),
        "duration_s": _seconds(info.lecture.num_samples),
        "num_segments": info.num_segments,
        "num_searchable": info.num_embedded,
        "num_bytes": info.num_bytes,
        "state": info.job.state.value if info.job else None,
        "message": (info.job.message if info.job else "") or info.warning,
    }


def of_history(page: HistoryPage) -> JsonObject:
    """Return the shape of a page of the history."""
    return {"entries": [of_entry(entry) for entry in page.entries], "total": page.total}


def of_entry(entry: HistoryEntry) -> JsonObject:
    """Return the shape of a question remembered, with all that came of it."""
    question = entry.question
    return {
        "id": str(question.id),
        "asked_at": entry.asked_at.isoformat(),
        "question": {
            "text": question.text,
            "heard": question.heard,
            "spoken": entry.has_audio,
            "language": question.language,
            "scope": None if question.scope is None else sorted(map(str, question.scope)),
            "corrects": str(question.corrects) if question.corrects else None,
        },
        "answer": _answer(entry.answer),
        "citations": [of_citation(c, entry.title_of(c)) for c in entry.answer.citations] if entry.answer else [],
        "nearest": [of_citation(c, entry.title_of(c)) for c in entry.answer.nearest] if entry.answer else [],
        "evidence": [_record(one) for one in entry.evidence],
        "retriever": entry.retriever,
        "timings_ms": of_timings(entry.timings_ms),
    }


def of_timings(timings_ms: Mapping[str, float]) -> JsonObject:
    """Return times in milliseconds, rounded to microseconds."""
    return {name: round(value, 3) for name, value in timings_ms.items()}


def _answer(answer: Answer | None) -> JsonObject | None:
    if answer is None:
        return None
    return {
        "text": answer.text,
        "supported": answer.supported,
        "confidence": round(answer.confidence, 4),
        "status": answer.status.value,
        "model": answer.model,
        "settings": answer.settings,
        "note": answer.note,
    }


def _record(one: EvidenceRecord) -> JsonObject:
    segment, features = one.hit.segment, one.hit.features
    return {
        "segment_id": segment.id,
        **_place(str(segment.lecture_id), one.lecture_title, segment.span),
        "score": round(one.hit.score, 6),
        "cosine": round(features.cosine, 4),
        "lexical": round(features.lexical, 4),
        "coverage": round(features.coverage, 4),
        "margin": round(features.margin, 4),
        "text": one.text,
        "lecture_deleted": one.lecture_deleted,
    }


def _place(lecture_id: str, title: str, span: Span) -> JsonObject:
    return {"lecture_id": lecture_id, "title": title, "start_s": _seconds(span.start), "end_s": _seconds(span.end)}


def _word(word: Word) -> JsonObject:
    return {"text": word.text, "start_s": _seconds(word.start), "end_s": _seconds(word.end)}


def _seconds(num_samples: int) -> float:
    return round(to_seconds(num_samples), 3)
