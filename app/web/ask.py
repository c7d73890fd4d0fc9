"""The page Ask: a question, spoken or typed, and its answer with the moments of the lectures that it rests on."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit
from uuid import UUID

import streamlit as st

from app.demo import TITLE, DemoQuestion, questions
from app.service import SpokenQA
from app.web.cards import answer_card, errors_shown, fine_print, is_busy
from app.web.live import ask_apart, watch
from app.web.parts import served, warm_up
from app.web.scope import choose_scope
from app.web.texts import plain, to_wav
from app.web.waiting import still_listening, waiting_room
from retriever.domain import Question
from storage.domain import HistoryEntry, LectureInfo
from storage.errors import NotFound

Scope = frozenset[UUID] | None


def show() -> None:
    """Draw the page."""
    qa = served().qa
    st.title("Ask your lectures", anchor=False)
    lectures = qa.lectures()
    if not any(info.num_embedded for info in lectures):
        waiting_room(qa, lectures)
    elif any(is_busy(info.job) for info in lectures):
        still_listening(qa)
    scope = choose_scope(lectures)
    _inputs(qa, scope)
    _answer(qa)
    _tour(qa, lectures, scope)
    warm_up()


def _inputs(qa: SpokenQA, scope: Scope) -> None:
    spoken, typed = st.columns(2)
    with spoken, st.container(border=True, height="stretch"):
        if _microphone_is_possible(st.context.url):
            sound = st.audio_input("Ask out loud", key="spoken", on_change=_note_spoken)
            st.caption("Press the microphone, ask, press again. Up to a minute.")
        else:
            sound = None
            _microphone_hint()
    with typed, st.form("typed", enter_to_submit=True, height="stretch"):
        text = st.text_input("Or type your question", placeholder="What size of room do honey bees want?", key="typed_text")
        sent = st.form_submit_button("Ask", type="primary", icon=":material/search:")
    if sent:
        with errors_shown():
            _ask(qa, Question(text=text.strip(), scope=scope))
    elif sound is not None and st.session_state.pop("spoken_is_new", False):
        with errors_shown():
            _ask_sound(qa, sound.getvalue(), scope)


def _note_spoken() -> None:
    st.session_state["spoken_is_new"] = True


def _ask_sound(qa: SpokenQA, wav: bytes, scope: Scope) -> None:
    with NamedTemporaryFile(suffix=".wav") as file:
        file.write(wav)
        file.flush()
        audio = qa.read_question(Path(file.name))
    _ask(qa, Question(audio=audio, scope=scope))


def _ask(qa: SpokenQA, question: Question) -> None:
    """Ask, then show the answer from the history: the same way as after a refresh of the page."""
    with st.spinner("Looking through the lectures…"):
        ask_apart(qa, question)
    st.query_params["q"] = st.session_state["q"] = str(question.id)
    st.session_state["asked_now"] = True
    st.rerun()


def _answer(qa: SpokenQA) -> None:
    entry = _remembered(qa)
    if entry is None:
        return
    _what_was_asked(qa, entry)
    with errors_shown():
        answer_card(entry, partial(watch, qa, entry.question.id))
        fine_print(entry)


def _remembered(qa: SpokenQA) -> HistoryEntry | None:
    named = st.query_params.get("q") or st.session_state.get("q")  # a visit to another page clears the address
    if not named:
        return None
    try:
        entry = qa.entry(UUID(named))
    except (ValueError, NotFound):
        st.session_state.pop("q", None)
        if "q" in st.query_params:
            st.info("The question in this page's address is not in the history any more.", icon=":material/history:")
        return None
    st.query_params["q"] = st.session_state["q"] = named
    return entry


def _what_was_asked(qa: SpokenQA, entry: HistoryEntry) -> None:
    question = entry.question
    if not entry.has_audio:
        st.markdown(f"You asked: **{plain(question.wording)}**")
        return
    with st.form(f"heard-{question.id}", border=False):
        label = "I heard (correct it and search again)" if question.corrects is None else "Your wording (correct it and search again)"
        left, right = st.columns([4, 1], vertical_alignment="bottom")
        text = left.text_input(
            label, value=question.wording, key=f"wording-{question.id}", placeholder="Nothing was understood: type it here"
        )
        again = right.form_submit_button("Search again", width="stretch")
    if question.corrects is not None and question.heard:
        st.caption(f"I first heard: {plain(question.heard)}")
    with errors_shown():
        st.audio(to_wav(qa.question_audio(question.id)), alt="Your question as you spoke it")
    if again:
        with errors_shown():
            _ask(qa, qa.corrected(question.id, text.strip()))


def _tour(qa: SpokenQA, lectures: Sequence[LectureInfo], scope: Scope) -> None:
    demo = next((info for info in lectures if info.lecture.title == TITLE and info.num_embedded), None)
    if demo is None:
        return
    first_run = "q" not in st.query_params and len(lectures) == 1
    if st.session_state.pop("asked_now", False):
        st.session_state["tour"] = False  # the answer is above: make way for it
    tour = st.expander("Try it with the demo lecture", expanded=first_run, icon=":material/school:", on_change="rerun", key="tour")
    if not tour.open:
        return
    with tour:
        st.caption(
            f"Six questions about “{TITLE}”. Ask one as text, or as the sound of a voice, which is harder: the app has to hear it first."
        )
        halves = st.columns(2)
        for number, question in enumerate(questions(), start=1):
            with halves[(number - 1) % 2]:
                _tour_question(qa, question, number, scope)


def _tour_question(qa: SpokenQA, question: DemoQuestion, number: int, scope: Scope) -> None:
    with st.container(border=True):
        st.markdown(plain(question.text))
        st.audio(question.audio_path.read_bytes(), format="audio/ogg", alt=f"Question {number}, spoken: {question.text}")
        with st.container(horizontal=True):
            as_sound = st.button(f"Ask {number} out loud", key=f"tour-sound-{number}", icon=":material/mic:")
            as_text = st.button(f"Ask {number} as text", key=f"tour-text-{number}", icon=":material/keyboard:")
    with errors_shown():
        if as_sound:
            _ask(qa, Question(audio=qa.read_question(question.audio_path), scope=scope))
        elif as_text:
            _ask(qa, Question(text=question.text, scope=scope))


def _microphone_is_possible(url: str | None) -> bool:
    """Whether browsers give this page the microphone: only over HTTPS or on the same machine."""
    parts = urlsplit(url or "http://localhost")
    name = parts.hostname or ""
    return parts.scheme == "https" or name in ("localhost", "127.0.0.1", "::1") or name.endswith(".localhost")


def _microphone_hint() -> None:
    st.markdown("**Ask out loud**")
    st.caption(
        "Browsers give a page the microphone only over HTTPS or on the same machine. Open this page as http://localhost on the machine it "
        "runs on, or put HTTPS in front of it and its name into the setting web.public_hosts. You can type your question meanwhile."
    )
