"""What the pages have in common: one-line errors, playable moments, answers with their evidence, progress of jobs."""

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import streamlit as st

from app.errors import AppError
from app.progress import describe, in_words
from app.subtitles import clocks
from app.web.parts import served
from app.web.texts import marked, plain, to_wav
from generator.domain import Answer, AnswerStatus, Citation
from generator.errors import GeneratorError
from retriever.domain import SAMPLE_RATE_HZ, Segment, Span
from retriever.errors import RetrieverError
from storage.domain import EvidenceRecord, HistoryEntry, Job, LectureInfo
from storage.errors import StorageError

OUR_ERRORS = (AppError, RetrieverError, GeneratorError, StorageError)
NOT_SAID = "The lectures do not seem to answer this."
NUM_CARDS = 3  # shown at once; the others on demand
MIN_SHARED_SAMPLES = SAMPLE_RATE_HZ // 2  # less is the silence around a citation, which may reach into the next segment


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show what goes wrong as a sentence."""
    try:
        yield
    except OUR_ERRORS as error:
        st.error(plain(str(error)), icon=":material/error:")


@st.cache_resource(show_spinner=False, max_entries=32)
def clip_wav(lecture_id: UUID, start: int, end: int) -> bytes:
    """Return exactly this stretch of a lecture as a WAV file. Raises NotFound, SoundMissing."""
    return to_wav(served().qa.clip(lecture_id, Span(start, end)))


def play_moment(lecture_id: UUID, span: Span, title: str, *, autoplay: bool = False) -> None:
    """Draw a player of exactly this stretch of a lecture."""
    with errors_shown():
        sound = clip_wav(lecture_id, span.start, span.end)
        st.audio(sound, format="audio/wav", alt=f"Sound of {title}, {clocks(span)}", autoplay=autoplay)


def answer_card(entry: HistoryEntry, draw_coming: Callable[[], None] | None = None) -> None:
    """Draw what was answered and the moments it rests on.

    Args:
        entry: the question with its answer.
        draw_coming: draws an answer that is still coming; without it, it is drawn as far as it has come.
    """
    answer = entry.answer
    if answer is None:
        st.info("This question has no answer yet: no lecture was searchable when it was asked.", icon=":material/hourglass_empty:")
        return
    if answer.note:
        st.info(plain(answer.note), icon=":material/info:")
    if answer.status is AnswerStatus.STREAMING:
        draw_coming() if draw_coming else coming(answer.text)
    elif answer.status is AnswerStatus.FAILED:
        st.error(plain(answer.text), icon=":material/error:")
    elif answer.supported:
        _quotation(entry, answer.text, answer.citations)
    else:
        st.warning(_not_said(answer.text), icon=":material/search_off:")
    cited = answer.citations if answer.supported else ()
    if entry.evidence and entry.question.wording:  # what is nearest to nothing is of no use
        _evidence_header(answer)
        evidence_cards(entry, cited)


def _evidence_header(answer: Answer) -> None:
    if answer.status is AnswerStatus.STREAMING:
        st.header("Moments found", anchor=False)
        return
    st.header("Where it is said" if answer.supported else "Nearest moments", anchor=False)
    if not answer.supported and answer.status is AnswerStatus.COMPLETE:
        st.caption("These came closest. They probably hold no answer.")


def coming(text: str) -> None:
    """Draw an answer as far as it has come."""
    with st.container(border=True, key="answer"):
        if text:
            st.html(f'<blockquote class="answer">{html.escape(text)} …</blockquote>')
        st.caption("The model server is answering …")


def _not_said(text: str) -> str:
    return f"**{NOT_SAID}**" if text.strip() == NOT_SAID else f"**{NOT_SAID}** {plain(text)}"


def _quotation(entry: HistoryEntry, text: str, citations: tuple[Citation, ...]) -> None:
    with st.container(border=True, key="answer"):
        st.html(f'<blockquote class="answer">{html.escape(text)}</blockquote>')
        if not citations:
            return
        first = citations[0]
        title = entry.title_of(first)
        st.caption(f"heard in **{plain(title)}**, {clocks(first.span)}")
        if _is_deleted(entry, first.segment.lecture_id):
            st.caption("The lecture has been deleted since; its sound is gone.")
            return
        play_moment(first.segment.lecture_id, first.span, title)
        for around in citations[1:2]:
            if _holds(around, first):  # the answer was a few words: also play what is said around it
                st.caption(f"in context: {plain(around.text)}")
                play_moment(around.segment.lecture_id, around.span, title)


def evidence_cards(entry: HistoryEntry, cited: tuple[Citation, ...]) -> None:
    """Draw the moments found: those that the answer rests on, in its order, or else the nearest; the others on demand."""
    records = by_citation(entry.evidence, cited)
    num_shown = sum(_is_cited(record, cited) for record in records) or NUM_CARDS
    for rank, record in enumerate(records[:num_shown], start=1):
        evidence_card(record, cited, rank)
    rest = records[num_shown:]
    if not rest:
        return
    more = st.expander(
        f"{len(rest)} more moments" if len(rest) > 1 else "One more moment", on_change="rerun", key=f"more-{entry.question.id}"
    )
    if more.open:
        with more:
            for rank, record in enumerate(rest, start=num_shown + 1):
                evidence_card(record, cited, rank)


def by_citation(evidence: Sequence[EvidenceRecord], cited: Sequence[Citation]) -> Sequence[EvidenceRecord]:
    """Return evidence with that first which holds the first citation, and so on; what is not cited follows as it was found."""

    def place(record: EvidenceRecord) -> tuple[int, bool]:
        segment = record.hit.segment
        first = next((i for i, citation in enumerate(cited) if _lies_in(citation, segment)), len(cited))
        return first, first < len(cited) and cited[first].segment.id != segment.id

    return sorted(evidence, key=place)


def _is_cited(record: EvidenceRecord, cited: Sequence[Citation]) -> bool:
    return any(_lies_in(citation, record.hit.segment) for citation in cited)


def evidence_card(record: EvidenceRecord, cited: tuple[Citation, ...], rank: int) -> None:
    """Draw one moment: where it is, what was heard, its sound."""
    segment = record.hit.segment
    with st.container(border=True):
        st.html(
            f'<div class="moment"><span class="rank">{rank}</span> <strong>{html.escape(record.lecture_title)}</strong> '
            f'<span class="time">{clocks(segment.span)}</span></div>'
            f'<p class="heard">{marked(record.text, [c.text for c in cited if _lies_in(c, segment)])}</p>'
        )
        if record.lecture_deleted:
            st.caption("This lecture has been deleted since; its sound is gone.")
        else:
            play_moment(segment.lecture_id, segment.span, record.lecture_title)


def fine_print(entry: HistoryEntry) -> None:
    """Draw which models answered and how long it took."""
    if entry.answer is None or entry.answer.status is AnswerStatus.STREAMING:
        return
    times = ", ".join(f"{name} {ms:.0f} ms" for name, ms in entry.timings_ms.items() if name != "total")
    total = entry.timings_ms.get("total", 0.0)
    model = plain(entry.answer.model)
    found_by = plain(entry.retriever[:12])
    st.caption(f"Answered in {total / 1000:.2f} s ({times}) by {model}; searched by {found_by}; confidence {entry.answer.confidence:.0%}.")


def job_progress(info: LectureInfo, worker_alive: bool) -> None:
    """Draw how far the work on a lecture is, with the time left."""
    job = info.job
    if job is None or job.state.is_over:
        return
    now = describe(job, info.lecture, datetime.now(UTC), worker_alive=worker_alive)
    left = f", about {in_words(now.eta_s)} left" if now.eta_s is not None else ""
    st.progress(now.fraction or 0.0, text=f"{now.text}{left}")


def is_busy(job: Job | None) -> bool:
    """Whether work on a lecture waits or runs."""
    return job is not None and not job.state.is_over


def worker_warning() -> None:
    """Say so if nobody works on the lectures that wait, and what to do."""
    st.warning(
        "Nothing is listening to the lectures at the moment: the worker is not running. It is started with the app by `askaloud run`; "
        "if you started the page by itself, start `askaloud worker` beside it. Work that waits then goes on by itself.",
        icon=":material/warning:",
    )


def _lies_in(citation: Citation, segment: Segment) -> bool:
    if citation.segment.lecture_id != segment.lecture_id:
        return False
    shared = min(citation.span.end, segment.end) - max(citation.span.start, segment.start)
    return shared >= min(MIN_SHARED_SAMPLES, citation.span.num_samples)


def _holds(outer: Citation, inner: Citation) -> bool:
    same_lecture = outer.segment.lecture_id == inner.segment.lecture_id
    return same_lecture and outer.span.start <= inner.span.start and inner.span.end <= outer.span.end


def _is_deleted(entry: HistoryEntry, lecture_id: UUID) -> bool:
    return any(e.lecture_deleted for e in entry.evidence if e.hit.segment.lecture_id == lecture_id)
