"""The chooser of lectures to look in: all, those of a course, or some."""

from collections.abc import Sequence
from uuid import UUID

import streamlit as st

from storage.domain import LectureInfo

ALL = "All lectures"
SOME = "Lectures I choose"
COURSE = "Course: "


def choose_scope(lectures: Sequence[LectureInfo]) -> frozenset[UUID] | None:
    """Draw the chooser; return the lectures chosen, None for all."""
    courses = sorted({info.course for info in lectures if info.course})
    if len(lectures) < 2:
        return None
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    where = left.selectbox("Look in", [ALL, *(COURSE + course for course in courses), SOME], key="scope", persist_state="session")
    if where == SOME:
        titles = {info.lecture.id: info.lecture.title for info in lectures}
        chosen = right.multiselect(
            "Lectures",
            list(titles),
            format_func=lambda one: titles.get(one, ""),
            placeholder="None chosen yet: all are searched",
            key="scope_lectures",
            persist_state="session",
        )
        return frozenset(chosen) or None
    if where.startswith(COURSE):
        return frozenset(info.lecture.id for info in lectures if info.course == where.removeprefix(COURSE))
    return None
