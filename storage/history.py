"""The shelf of history: questions, answers, evidence."""

import unicodedata
from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Text, delete, func, insert, or_, select, type_coerce
from sqlalchemy.orm import Session

from generator.domain import Answer, AnswerStatus, Evidence
from retriever.domain import Audio, Question
from storage.catalogue import Shelf
from storage.columns import clean, utc_now, write_ids
from storage.domain import HistoryEntry, HistoryPage, HistoryQuery
from storage.entries import citation_rows, evidence_rows, read_entries
from storage.errors import SoundMissing
from storage.files import Kind
from storage.flac import FlacWriter, hash_pcm, read_all, to_pcm
from storage.records import not_found, note_owner
from storage.removal import keeping, remove_questions
from storage.tables import AnswerRow, CitationRow, EvidenceRow, QuestionRow


class SqlHistory(Shelf):
    """`storage.base.History` over a database and a folder."""

    def add_question(self, question: Question, owner: UUID) -> None:
        """Keep a question and its sound; adding it again updates what was heard.

        Raises:
            NotFound: the number is another owner's question, or `corrects` is not one of this owner.
            DiskFull: no room.
        """
        with self._db.read() as session:
            known = session.get(QuestionRow, question.id)
            audio_known = known is not None and known.audio_hash is not None
        if question.audio is None or not question.audio.num_samples or audio_known:
            self._commit_question(question, owner, None)
        else:
            self._keep_sound(question, question.audio, owner)

    def add_answer(
        self, question_id: UUID, owner: UUID, answer: Answer, evidence: Sequence[Evidence], retriever: str, timings_ms: Mapping[str, float]
    ) -> None:
        """Keep an answer with the evidence it was given; a later answer to the same question replaces it. Raises NotFound."""
        with self._db.write(durable=False) as session:
            _question_of(session, question_id, owner)
            session.execute(delete(AnswerRow).where(AnswerRow.question_id == question_id))
            session.add(
                AnswerRow(
                    question_id=question_id,
                    status=answer.status,
                    text=answer.text,
                    folded=fold(answer.text),
                    supported=answer.supported,
                    confidence=answer.confidence,
                    model=answer.model,
                    settings=answer.settings,
                    retriever=retriever,
                    timings_ms=dict(timings_ms),
                    note=answer.note,
                )
            )
            session.flush()
            for table, rows in ((CitationRow, citation_rows(question_id, answer)), (EvidenceRow, evidence_rows(question_id, evidence))):
                if rows:
                    session.execute(insert(table), rows)

    def find(self, owner: UUID, query: HistoryQuery, limit: int, offset: int = 0) -> HistoryPage:
        """Return entries that match, newest first: four queries, however many there are."""
        matching = select(QuestionRow, AnswerRow).outerjoin(AnswerRow).where(QuestionRow.owner_id == owner, *_conditions(query))
        with self._db.read() as session:
            total = session.scalar(select(func.count()).select_from(matching.with_only_columns(QuestionRow.id).subquery())) or 0
            page = matching.order_by(QuestionRow.asked_at.desc(), QuestionRow.id).limit(limit).offset(offset)
            return HistoryPage(tuple(read_entries(session, page, owner)), total)

    def get(self, question_id: UUID, owner: UUID) -> HistoryEntry:
        """Return an entry. Raises NotFound."""
        one = select(QuestionRow, AnswerRow).outerjoin(AnswerRow).where(QuestionRow.id == question_id, QuestionRow.owner_id == owner)
        with self._db.read() as session:
            entries = read_entries(session, one, owner)
        if not entries:
            raise not_found("question", question_id)
        return entries[0]

    def question_audio(self, question_id: UUID, owner: UUID) -> Audio:
        """Return a question's sound. Raises NotFound, SoundMissing."""
        with self._db.read() as session:
            audio_hash = _question_of(session, question_id, owner).audio_hash
        if audio_hash is None:
            raise SoundMissing(f"question {question_id} was typed and has no sound; read its words")
        return read_all(self._files.question(audio_hash))

    def delete(self, question_id: UUID, owner: UUID) -> None:
        """Remove an entry with its sound. Raises NotFound."""
        if not remove_questions(self._db, self._files, QuestionRow.id == question_id, QuestionRow.owner_id == owner):
            raise not_found("question", question_id)

    def delete_all(self, owner: UUID) -> int:
        """Remove all entries of an owner; return how many."""
        return remove_questions(self._db, self._files, QuestionRow.owner_id == owner)

    def _keep_sound(self, question: Question, audio: Audio, owner: UUID) -> None:
        pcm = to_pcm(audio.samples)
        audio_hash = hash_pcm(pcm)
        place = self._files.question(audio_hash)
        with self._files.part() as part:
            with FlacWriter(part) as writer:
                writer.write(pcm)
            with keeping(self._db, self._files, Kind.QUESTION, audio_hash):
                if not place.is_file():
                    self._files.keep(part, place)
                self._commit_question(question, owner, audio_hash)

    def _commit_question(self, question: Question, owner: UUID, audio_hash: str | None) -> None:
        with self._db.write(durable=audio_hash is not None) as session:
            if question.corrects is not None:
                _question_of(session, question.corrects, owner)
            row = session.get(QuestionRow, question.id, with_for_update=True)
            if row is None:
                note_owner(session, owner)
                row = QuestionRow(id=question.id, owner_id=owner, asked_at=utc_now())
                session.add(row)
            elif row.owner_id != owner:
                raise not_found("question", question.id)
            row.text, row.heard, row.folded = question.text, question.heard, fold(f"{question.text or ''}\n{question.heard or ''}")
            row.scope, row.language, row.corrects = write_ids(question.scope), question.language, question.corrects
            row.audio_hash = audio_hash or row.audio_hash


def fold(text: str) -> str:
    """Return the text as it is compared: without regard to case or to how its letters are encoded."""
    return unicodedata.normalize("NFKC", clean(text)).casefold()


def _question_of(session: Session, question_id: UUID, owner: UUID) -> QuestionRow:
    row = session.get(QuestionRow, question_id)
    if row is None or row.owner_id != owner:
        raise not_found("question", question_id)
    return row


def _conditions(query: HistoryQuery) -> list[ColumnElement[bool]]:
    found = [_contains(word) for word in fold(query.words).split()]
    if query.lecture_id is not None:
        found.append(_concerns(query.lecture_id))
    if query.supported is not None:
        found += [AnswerRow.status == AnswerStatus.COMPLETE, AnswerRow.supported.is_(query.supported)]
    if query.spoken is not None:
        found.append(QuestionRow.audio_hash.is_not(None) if query.spoken else QuestionRow.audio_hash.is_(None))
    if query.since is not None:
        found.append(QuestionRow.asked_at >= query.since)
    if query.until is not None:
        found.append(QuestionRow.asked_at < query.until)
    return found


def _contains(word: str) -> ColumnElement[bool]:
    return or_(QuestionRow.folded.contains(word, autoescape=True), AnswerRow.folded.contains(word, autoescape=True))


def _concerns(lecture_id: UUID) -> ColumnElement[bool]:
    cited = select(CitationRow.question_id).where(
        CitationRow.question_id == QuestionRow.id, CitationRow.lecture_id == lecture_id, CitationRow.nearest.is_(False)
    )
    return or_(cited.exists(), type_coerce(QuestionRow.scope, Text()).contains(str(lecture_id)))
