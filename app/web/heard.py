"""One lecture: what was heard in it, segment by segment, each with its sound."""

from uuid import UUID

import streamlit as st

from app.service import SpokenQA
from app.subtitles import clocks
from app.web.cards import play_moment
from app.web.texts import marked, plain
from retriever.domain import clock, join_words
from storage.domain import HeardSegment, LectureInfo
from storage.errors import NotFound

PER_PAGE = 15


def show_heard(qa: SpokenQA, named: str) -> None:
    """Draw a lecture's words. Raises NotFound."""
    if st.button("All lectures", icon=":material/arrow_back:", type="tertiary"):
        del st.query_params["lecture"]
        st.rerun()
    try:
        lecture_id = UUID(named)
    except ValueError as error:
        raise NotFound("there is no such lecture: go back to all lectures") from error
    info = qa.lecture(lecture_id)
    st.title(plain(info.lecture.title), anchor=False)
    st.caption(
        " · ".join(
            [clock(info.lecture.duration_s), f"{info.num_embedded} of {info.num_segments} segments heard", *filter(None, [info.course])]
        )
    )
    heard = qa.heard(lecture_id)
    words = st.text_input("Find words in this lecture", type="search", key="find-words", placeholder="pollen season").casefold().split()
    found = [one for one in heard if all(word in join_words(one.words).casefold() for word in words)]
    if not found:
        st.info("Nothing has been heard yet." if not heard else "These words were not heard in any one segment.")
        return
    st.caption("These are the words as they were heard, with mistakes; the sound is what was said.")
    num_pages = -(-len(found) // PER_PAGE)
    page = st.pagination(num_pages, key=f"segments-{named}") if num_pages > 1 else 1
    for one in found[(page - 1) * PER_PAGE : page * PER_PAGE]:
        _segment(info, one, words)


def _segment(info: LectureInfo, one: HeardSegment, words: list[str]) -> None:
    moment = clocks(one.segment.span)
    text = join_words(one.words)
    with st.container(border=True):
        wanted = [word for word in text.split() if any(sought in word.casefold() for sought in words)]
        st.html(f'<div class="moment"><span class="time">{moment}</span></div><p class="heard">{marked(text, wanted) or "(no words)"}</p>')
        key = f"play-{one.segment.id}"
        if st.session_state.get("playing") == one.segment.id:
            play_moment(info.lecture.id, one.segment.span, info.lecture.title, autoplay=True)
        elif st.button(f"Play {moment}", key=key, icon=":material/play_arrow:"):
            st.session_state["playing"] = one.segment.id
            st.rerun()
