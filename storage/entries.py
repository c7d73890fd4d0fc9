"""Entries of the history, between records and rows."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import numpy as np
from sqlalchemy import Select, and_, select
from sqlalchemy.orm import Session

from generator.domain import Answer, Citation, Evidence
from retriever.domain import Audio, Hit, HitFeatures, Question, Segment, Span
from storage.columns import read_ids
from storage.database import Values
from storage.domain import EvidenceRecord, HistoryEntry
from storage.tables import AnswerRow, CitationRow, EvidenceRow, LectureRow, QuestionRow


def citation_rows(question_id: UUID, answer: Answer) -> list[Values]:
    """Return rows of what an answer rests on and of what came nearest."""
    return [
        _moment(citation.segment, citation.text)
        | {"question_id": question_id, "nearest": nearest, "rank": rank, "span_start": citation.span.start, "span_end": citation.span.end}
        for nearest, citations in ((False, answer.citations), (True, answer.nearest))
        for rank, citation in enumerate(citations)
    ]


def evidence_rows(question_id: UUID, evidence: Sequence[Evidence]) -> list[Values]:
    """Return rows of evidence as it is now."""
    return [
        _moment(one.segment, one.text)
        | {
            "question_id": question_id,
            "rank": rank,
            "lecture_title": one.lecture_title,
            "score": float(one.hit.score),
            "cosine": float(one.hit.features.cosine),
            "lexical": float(one.hit.features.lexical),
            "coverage": float(one.hit.features.coverage),
            "margin": float(one.hit.features.margin),
        }
        for rank, one in enumerate(evidence)
    ]


def read_entries(session: Session, statement: Select[QuestionRow, AnswerRow], owner: UUID) -> list[HistoryEntry]:
    """Return entries in the order of the statement, which selects questions with their answers; two more queries fetch the rest."""
    rows = session.execute(statement).all()
    answered = [answer.question_id for _, answer in rows if answer is not None]
    citations: dict[tuple[UUID, bool], list[Citation]] = defaultdict(list)
    evidence: dict[UUID, list[EvidenceRecord]] = defaultdict(list)
    if answered:
        for row in session.scalars(select(CitationRow).where(CitationRow.question_id.in_(answered)).order_by(CitationRow.rank)):
            citations[row.question_id, row.nearest].append(Citation(_segment(row), Span(row.span_start, row.span_end), row.text))
        present = (
            select(EvidenceRow, LectureRow.id)
            .outerjoin(LectureRow, and_(LectureRow.id == EvidenceRow.lecture_id, LectureRow.owner_id == owner))
            .where(EvidenceRow.question_id.in_(answered))
            .order_by(EvidenceRow.rank)
        )
        for one, lecture_id in session.execute(present):
            evidence[one.question_id].append(_evidence(one, deleted=lecture_id is None))
    return [
        HistoryEntry(
            question=_question(question),
            has_audio=question.audio_hash is not None,
            asked_at=question.asked_at,
            answer=None if answer is None else _answer(answer, citations[question.id, False], citations[question.id, True]),
            evidence=tuple(evidence[question.id]),
            retriever="" if answer is None else answer.retriever,
            timings_ms={} if answer is None else answer.timings_ms,
        )
        for question, answer in rows
    ]


def _moment(segment: Segment, text: str) -> Values:
    return {"lecture_id": segment.lecture_id, "run_id": segment.run_id, "start": segment.start, "end": segment.end, "text": text}


def _segment(row: CitationRow | EvidenceRow) -> Segment:
    return Segment(row.lecture_id, row.start, row.end, row.run_id)


def _evidence(row: EvidenceRow, *, deleted: bool) -> EvidenceRecord:
    features = HitFeatures(row.cosine, row.lexical, row.coverage, row.margin)
    return EvidenceRecord(Hit(_segment(row), row.score, features), row.lecture_title, row.text, deleted)


def _answer(row: AnswerRow, citations: Sequence[Citation], nearest: Sequence[Citation]) -> Answer:
    return Answer(
        text=row.text,
        citations=tuple(citations),
        supported=row.supported,
        confidence=row.confidence,
        model=row.model,
        settings=row.settings,
        nearest=tuple(nearest),
        status=row.status,
        note=row.note,
    )


def _question(row: QuestionRow) -> Question:
    """A question without words needs sound to be one: an empty one stands for what is on the disk."""
    has_words = bool(row.text and row.text.strip())
    return Question(
        audio=None if has_words else Audio(np.zeros(0, np.float32)),
        text=row.text,
        heard=row.heard,
        scope=read_ids(row.scope),
        language=row.language,
        corrects=row.corrects,
        id=row.id,
    )
