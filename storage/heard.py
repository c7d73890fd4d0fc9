"""What models made of lectures: segments, vectors, words, and evidence for answers."""

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, Text, and_, delete, insert, select, type_coerce, update
from sqlalchemy.orm import Session, aliased

from generator.domain import Evidence
from generator.errors import ClipUnavailable
from retriever.domain import Audio, EmbeddedSegment, Hit, Lecture, Segment, Span, Vector, Word, join_words
from storage.columns import read_words
from storage.database import PAGE, bump_generations, insert_new
from storage.domain import HeardSegment, JobState
from storage.errors import NotFound, SoundMissing
from storage.records import lecture_of, not_found, segments_of, select_segments, sound_of, to_lecture
from storage.removal import bump_concerned
from storage.sound import Sound
from storage.tables import GenerationRow, JobRow, LectureRow, RunRow, SegmentRow, SoundRow, TranscriptRow, VectorRow


class Heard(Sound):
    """The part of `storage.base.Lectures` that deals in segments; it needs clips for evidence."""

    def add_run(self, lecture_id: UUID, settings: str, spans: Sequence[Span], num_samples: int, warning: str) -> Sequence[Segment]:
        """Commit a segmentation run with its segments; it becomes the current one, and the older run's segments go. Raises NotFound."""
        run_id = uuid4()
        segments = [Segment(lecture_id, span.start, span.end, run_id) for span in sorted(spans)]
        with self._db.write() as session:
            if session.scalar(select(LectureRow.id).where(LectureRow.id == lecture_id).with_for_update()) is None:
                raise not_found("lecture", lecture_id)
            sound = sound_of(session, lecture_id)
            if not sound.decoded:
                sound.num_samples = num_samples
            bump_concerned(session, [lecture_id])
            session.execute(delete(SegmentRow).where(SegmentRow.lecture_id == lecture_id))
            session.execute(update(RunRow).where(RunRow.lecture_id == lecture_id).values(current=False))
            run = RunRow(id=run_id, lecture_id=lecture_id, settings=settings, warning=warning, num_segments=len(segments), current=True)
            session.add(run)
            session.flush()
            rows = [
                {"id": one.id, "lecture_id": lecture_id, "run_id": run_id, "ordinal": number, "start": one.start, "end": one.end}
                for number, one in enumerate(segments)
            ]
            if rows:
                session.execute(insert(SegmentRow), rows)
        return segments

    def segments(self, lecture_id: UUID) -> Sequence[Segment]:
        """Return the current run's segments in order of time."""
        with self._db.read() as session:
            statement = select_segments().where(SegmentRow.lecture_id == lecture_id).order_by(SegmentRow.ordinal)
            return segments_of(session.execute(statement).all())

    def pending(self, lecture_id: UUID, fingerprint: str) -> Sequence[Segment]:
        """Return the current run's segments that this model has not embedded, in order of time."""
        with self._db.read() as session:
            statement = (
                select_segments().where(SegmentRow.lecture_id == lecture_id, _not_embedded(fingerprint)).order_by(SegmentRow.ordinal)
            )
            return segments_of(session.execute(statement).all())

    def add_embedded(self, batch: Sequence[EmbeddedSegment]) -> None:
        """Commit vectors and words in one transaction and move the generation on; segments deleted meanwhile are passed over."""
        with self._db.write() as session:
            present = _still_there(session, [one.segment.id for one in batch])
            kept = [one for one in batch if one.segment.id in present]
            insert_new(
                session,
                VectorRow,
                [
                    {"segment_id": one.segment.id, "fingerprint": one.fingerprint, "dimension": len(one.vector), "vector": one.vector}
                    for one in kept
                ],
            )
            insert_new(
                session,
                TranscriptRow,
                [
                    {"segment_id": one.segment.id, "fingerprint": one.fingerprint, "text": join_words(one.words), "words": one.words}
                    for one in kept
                ],
            )
            bump_generations(session, {one.fingerprint for one in kept})

    def generation(self, fingerprint: str) -> int:
        """Return a number that grows with every change to what this model's index should hold."""
        with self._db.read() as session:
            return session.scalar(select(GenerationRow.generation).where(GenerationRow.fingerprint == fingerprint)) or 0

    def embedded_ids(self, fingerprint: str) -> frozenset[int]:
        """Return the ids of all segments embedded by this model, of all owners."""
        with self._db.read() as session:
            return frozenset(session.scalars(select(VectorRow.segment_id).where(VectorRow.fingerprint == fingerprint)))

    def embedded(self, fingerprint: str, ids: Collection[int] | None = None) -> Generator[EmbeddedSegment, None, None]:
        """Yield embedded segments (all, or these), some hundred in memory at a time; those deleted meanwhile are left out."""
        wanted = sorted(self.embedded_ids(fingerprint) if ids is None else ids)
        for first in range(0, len(wanted), PAGE):
            with self._db.read() as session:  # a transaction for each page: none stays open while the caller works
                rows = session.execute(_select_embedded(fingerprint, wanted[first : first + PAGE])).all()
            for lecture_id, start, end, run_id, vector, words in rows:
                yield EmbeddedSegment(Segment(lecture_id, start, end, run_id), vector, read_words(words), fingerprint)

    def outdated(self, fingerprint: str) -> Sequence[Lecture]:
        """Return lectures, of all owners, that have segments which this model has not embedded and whose latest job is done."""
        missing = select(SegmentRow.id).where(SegmentRow.lecture_id == LectureRow.id, _not_embedded(fingerprint))
        later = aliased(JobRow)
        not_latest = select(later.id).where(later.lecture_id == JobRow.lecture_id, later.created_at > JobRow.created_at)
        at_rest = select(JobRow.id).where(JobRow.lecture_id == LectureRow.id, JobRow.state == JobState.DONE, ~not_latest.exists())
        busy = select(JobRow.id).where(JobRow.lecture_id == LectureRow.id, JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)))
        with self._db.read() as session:
            statement = select(LectureRow, SoundRow).join(SoundRow).where(missing.exists(), at_rest.exists(), ~busy.exists())
            return [to_lecture(lecture, sound) for lecture, sound in session.execute(statement.order_by(LectureRow.added_at))]

    def heard(self, lecture_id: UUID, owner: UUID, fingerprint: str) -> Sequence[HeardSegment]:
        """Return what this model heard, in order of time. Raises NotFound."""
        with self._db.read() as session:
            lecture_of(session, lecture_id, owner)
            statement = (
                select_segments()
                .add_columns(TranscriptRow.words)
                .join(TranscriptRow, and_(TranscriptRow.segment_id == SegmentRow.id, TranscriptRow.fingerprint == fingerprint))
                .where(SegmentRow.lecture_id == lecture_id)
                .order_by(SegmentRow.ordinal)
            )
            return [HeardSegment(Segment(*segment), words) for *segment, words in session.execute(statement)]

    def evidence(self, hits: Sequence[Hit], owner: UUID, fingerprint: str) -> Sequence[Evidence]:
        """Return hits with words, neighbours' words and titles, in the same order.

        Two queries for each five hundred hits. Hits whose lecture, or whose cut of it, is gone meanwhile are left out.
        """
        places: dict[int, _Place] = {}
        words: dict[tuple[UUID, int], tuple[Word, ...]] = {}
        with self._db.read() as session:
            for page in _pages(hit.segment.id for hit in hits):
                places |= _places(session, page, owner)
                words |= _words_around(session, page, fingerprint)
        return [
            Evidence(
                hit=hit,
                lecture_title=place.title,
                words=words.get((place.run_id, place.ordinal), ()),
                before=words.get((place.run_id, place.ordinal - 1), ()),
                after=words.get((place.run_id, place.ordinal + 1), ()),
                load_audio=partial(self._sound_of, hit.segment),
            )
            for hit in hits
            if (place := places.get(hit.segment.id)) is not None
        ]

    def _sound_of(self, segment: Segment) -> Audio:
        """Return a segment's sound as evidence gives it. Raises ClipUnavailable."""
        try:
            return self.clip(segment.lecture_id, segment.span)
        except (NotFound, SoundMissing) as error:
            raise ClipUnavailable(str(error)) from error


class _Place(NamedTuple):
    """Where a segment stands in its run, and the title of its lecture."""

    run_id: UUID
    ordinal: int
    title: str


def _pages(things: Iterable[int]) -> Iterator[list[int]]:
    every = list(things)
    for first in range(0, len(every), PAGE):
        yield every[first : first + PAGE]


def _places(session: Session, ids: Sequence[int], owner: UUID) -> dict[int, _Place]:
    """Return where those of the segments stand that are this owner's."""
    statement = (
        select(SegmentRow.id, SegmentRow.run_id, SegmentRow.ordinal, LectureRow.title)
        .join(LectureRow, LectureRow.id == SegmentRow.lecture_id)
        .where(SegmentRow.id.in_(ids), LectureRow.owner_id == owner)
    )
    return {number: _Place(run_id, ordinal, title) for number, run_id, ordinal, title in session.execute(statement)}


def _words_around(session: Session, ids: Sequence[int], fingerprint: str) -> dict[tuple[UUID, int], tuple[Word, ...]]:
    """Return the words of these segments and of those before and after each, by run and ordinal."""
    found = aliased(SegmentRow)
    statement = (
        select(SegmentRow.run_id, SegmentRow.ordinal, type_coerce(TranscriptRow.words, Text()))
        .join(found, and_(found.run_id == SegmentRow.run_id, SegmentRow.ordinal.between(found.ordinal - 1, found.ordinal + 1)))
        .join(TranscriptRow, and_(TranscriptRow.segment_id == SegmentRow.id, TranscriptRow.fingerprint == fingerprint))
        .where(found.id.in_(ids))
    )
    texts = {(run_id, ordinal): text for run_id, ordinal, text in session.execute(statement)}  # neighbours of two come twice
    return {place: read_words(text) for place, text in texts.items()}


def _still_there(session: Session, ids: Iterable[int]) -> set[int]:
    """Return those segments that exist; they stay until this transaction ends."""
    found: set[int] = set()
    for page in _pages(ids):
        found.update(session.scalars(select(SegmentRow.id).where(SegmentRow.id.in_(page)).with_for_update(read=True, key_share=True)))
    return found


def _not_embedded(fingerprint: str) -> ColumnElement[bool]:
    return ~select(VectorRow.segment_id).where(VectorRow.segment_id == SegmentRow.id, VectorRow.fingerprint == fingerprint).exists()


def _select_embedded(fingerprint: str, ids: Sequence[int]) -> Select[UUID, int, int, UUID, Vector, str]:
    """Words come as text: they are read when they are yielded, so that a page of them is never in memory."""
    return (
        select_segments()
        .add_columns(VectorRow.vector, type_coerce(TranscriptRow.words, Text()))
        .join(VectorRow, and_(VectorRow.segment_id == SegmentRow.id, VectorRow.fingerprint == fingerprint))
        .join(TranscriptRow, and_(TranscriptRow.segment_id == SegmentRow.id, TranscriptRow.fingerprint == fingerprint))
        .where(SegmentRow.id.in_(ids))
        .order_by(SegmentRow.id)
    )
