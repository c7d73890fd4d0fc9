"""The page History: every question with its sound, what was heard, the answer, its evidence, the model and the times."""

from datetime import date, datetime, time, timedelta
from functools import partial
from uuid import UUID

import streamlit as st

from app.export import HistoryFormat, export_history
from app.service import SpokenQA
from app.web.cards import answer_card, errors_shown, fine_print
from app.web.live import ask_apart
from app.web.parts import served
from app.web.texts import local, plain, to_wav, zone_of
from generator.domain import Answer, AnswerStatus
from storage.domain import HistoryEntry, HistoryQuery

PER_PAGE = 10
ANY = "Any"
MIME = {HistoryFormat.CSV: "text/csv", HistoryFormat.JSON: "application/json", HistoryFormat.MARKDOWN: "text/markdown"}


def show() -> None:
    """Draw the page."""
    qa = served().qa
    st.title("History", anchor=False)
    query = _filters(qa)
    num_pages = max(1, -(-qa.history(query, limit=1).total // PER_PAGE))
    page = min(st.session_state.get("history-page", 1), num_pages)
    found = qa.history(query, PER_PAGE, (page - 1) * PER_PAGE)
    if not found.total:
        st.info("No question matches." if query != HistoryQuery() else "Nothing has been asked yet.", icon=":material/history:")
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{found.total} questions**" if found.total > 1 else "**One question**")
        with st.popover("Export these", icon=":material/download:"):
            _export(qa, query)
    for entry in found.entries:
        _entry(qa, entry)
    if num_pages > 1:
        st.pagination(num_pages, key="history-page")


def _filters(qa: SpokenQA) -> HistoryQuery:
    words = st.text_input("Search questions and answers", type="search", key="history-words", persist_state="session")
    with st.expander("Filters", icon=":material/filter_list:"):
        first, second = st.columns(2)
        titles = {info.lecture.id: info.lecture.title for info in qa.lectures()}
        lecture: UUID | None = first.selectbox(
            "Lecture", list(titles), index=None, format_func=lambda one: titles.get(one, ""), placeholder=ANY, key="history-lecture"
        )
        answered = second.selectbox("Answer", [ANY, "In the lectures", "Not in the lectures"], key="history-answer")
        spoken = first.selectbox("Asked", [ANY, "Spoken", "Typed"], key="history-spoken")
        days = second.date_input("Days", value=[], key="history-days")
    since, until = _moments(days)
    return HistoryQuery(
        words=words.strip(),
        lecture_id=lecture,
        supported={"In the lectures": True, "Not in the lectures": False}.get(answered),
        spoken={"Spoken": True, "Typed": False}.get(spoken),
        since=since,
        until=until,
    )


def _moments(days: object) -> tuple[datetime | None, datetime | None]:
    """Return the beginning of the first day and the end of the last, where the reader is."""
    chosen = [day for day in days if isinstance(day, date)] if isinstance(days, tuple) else []
    if not chosen:
        return None, None
    zone = zone_of(st.context.timezone)
    since, until = (datetime.combine(day, time(), zone) for day in (chosen[0], chosen[-1] + timedelta(days=1)))
    return since, until


def _entry(qa: SpokenQA, entry: HistoryEntry) -> None:
    answer = entry.answer
    sign = ":material/mic:" if entry.has_audio else ":material/keyboard:"
    verdict = _verdict(answer)
    asked_at = local(entry.asked_at, st.context.timezone)
    label = f"**{plain(entry.question.wording) or '(nothing was understood)'}**  \n{asked_at:%Y-%m-%d %H:%M} · {verdict}"
    card = st.expander(label, icon=sign, on_change="rerun", key=f"entry-{entry.question.id}")
    if card.open:
        with card:
            _opened(qa, entry)


def _verdict(answer: Answer | None) -> str:
    if answer is None:
        return "no answer"
    if answer.status is not AnswerStatus.COMPLETE:
        return "being answered" if answer.status is AnswerStatus.STREAMING else "failed"
    found = "in the lectures" if answer.supported else "not in the lectures"
    return f"{found} · with a note" if answer.note else found


def _opened(qa: SpokenQA, entry: HistoryEntry) -> None:
    question = entry.question
    if entry.has_audio:
        with errors_shown():
            st.audio(to_wav(qa.question_audio(question.id)), alt=f"The question as it was spoken: {question.wording}")
        if question.text:
            st.caption(f"Typed instead of what was heard: {plain(question.heard or 'nothing')}")
    with errors_shown():
        answer_card(entry)
        fine_print(entry)
    with st.container(horizontal=True):
        if st.button("Show on the page Ask", key=f"show-{question.id}", icon=":material/open_in_new:"):
            _go_to(question.id)
        if st.button("Ask again", key=f"again-{question.id}", icon=":material/replay:"):
            with errors_shown(), st.spinner("Looking through the lectures…"):
                again = qa.repeated(question.id)
                ask_apart(qa, again)
                _go_to(again.id)
        if st.button("Delete", key=f"forget-{question.id}", icon=":material/delete:"):
            forget(str(question.id))


def _go_to(question_id: UUID) -> None:
    st.switch_page(st.session_state["pages"]["ask"], query_params={"q": str(question_id)})


@st.dialog("Delete this question?")
def forget(question_id: str) -> None:
    """Ask whether it is meant."""
    qa = served().qa
    st.markdown("The question will be deleted with its sound and its answer. This cannot be undone.")
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary", icon=":material/delete:"):
            with errors_shown():
                qa.forget(UUID(question_id))
                st.rerun()
        if st.button("Keep it"):
            st.rerun()


def _export(qa: SpokenQA, query: HistoryQuery) -> None:
    for kind in HistoryFormat:
        st.download_button(
            f"Download {'Markdown' if kind is HistoryFormat.MARKDOWN else kind.name}",
            data=partial(_exported, qa, query, kind),  # made on the click
            file_name=f"askaloud-history.{kind.value}",
            mime=MIME[kind],
            on_click="ignore",
            width="stretch",
            key=f"download-{kind.value}",
        )


def _exported(qa: SpokenQA, query: HistoryQuery, kind: HistoryFormat) -> bytes:
    return export_history(list(qa.whole_history(query)), kind).encode()
