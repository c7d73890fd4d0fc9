import csv
import io
import json
import re
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.export import HeardFormat, HistoryFormat, export_heard, export_history
from app.subtitles import LINE_CHARS, MAX_CUE_MS, MAX_LINES, cues, to_srt, to_txt, to_vtt
from generator.domain import Answer, AnswerStatus, Citation
from retriever.domain import SAMPLE_RATE_HZ, Audio, Hit, HitFeatures, Question, Segment, Span, Word
from storage.domain import EvidenceRecord, HeardSegment, HistoryEntry

LECTURE, RUN = UUID(int=1), UUID(int=2)
SRT_TIMES = re.compile(r"(\d\d):(\d\d):(\d\d),(\d\d\d) --> (\d\d):(\d\d):(\d\d),(\d\d\d)")


def heard(*words: Word, start_s: float = 0.0, end_s: float = 30.0) -> HeardSegment:
    return HeardSegment(Segment(LECTURE, int(start_s * SAMPLE_RATE_HZ), int(end_s * SAMPLE_RATE_HZ), RUN), words)


def spoken(text: str, start_s: float = 0.0, word_s: float = 0.4) -> tuple[Word, ...]:
    times = [int((start_s + i * word_s) * SAMPLE_RATE_HZ) for i in range(len(text.split()) + 1)]
    return tuple(Word(word, times[i], times[i + 1]) for i, word in enumerate(text.split()))


def entry(
    question: str, answer: str = "about forty minutes", *, title: str = "Bread", deleted: bool = False, supported: bool = True
) -> HistoryEntry:
    segment = Segment(LECTURE, 16_000, 32_000, RUN)
    cited = (Citation(segment, Span(20_000, 30_000), answer),)
    made = Answer(answer, cited if supported else (), supported, 0.8, "extractive", "{}", nearest=() if supported else cited)
    record = EvidenceRecord(Hit(segment, 0.5, HitFeatures(0.4, 7.0, 0.9, 0.2)), title, "what was heard", deleted)
    return HistoryEntry(
        Question(text=question, heard="what was hurt"),
        True,
        datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
        made,
        (record,),
        "cascade-1",
        {"total": 12.34},
    )


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


# The history


def test_the_history_as_csv_has_a_row_for_each_question_with_answer_and_moment() -> None:
    first, second = rows(export_history([entry("How long?"), entry('How hot?\n"Very", they say')], HistoryFormat.CSV))
    assert first["question"] == "How long?"
    assert first["heard"] == "what was hurt"
    assert first["answer"] == "about forty minutes"
    assert first["moments"] == "Bread, 00:01–00:01: about forty minutes"
    assert first["total_ms"] == "12.3"
    assert second["question"] == 'How hot?\n"Very", they say'


@pytest.mark.parametrize("question", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =HYPERLINK(1)"])
def test_no_cell_of_the_csv_can_be_taken_for_a_formula(question: str) -> None:
    (row,) = rows(export_history([entry(question, answer=question, title=question)], HistoryFormat.CSV))
    for cell in row.values():
        assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert row["question"] == f"'{question}"


def test_a_question_without_an_answer_is_exported_in_every_format() -> None:
    asked = HistoryEntry(Question(text="Why?"), False, datetime(2026, 1, 1, tzinfo=UTC), None, (), "cascade-1", {})
    assert rows(export_history([asked], HistoryFormat.CSV))[0]["answer"] == ""
    assert json.loads(export_history([asked], HistoryFormat.JSON))["entries"][0]["answer"] is None
    assert "No answer." in export_history([asked], HistoryFormat.MARKDOWN)


def test_the_history_as_json_says_what_was_asked_answered_and_found() -> None:
    (one,) = json.loads(export_history([entry("How long?")], HistoryFormat.JSON))["entries"]
    assert one["question"]["text"] == "How long?"
    assert one["question"]["heard"] == "what was hurt"
    assert one["question"]["spoken"] is True
    assert one["answer"]["supported"] is True
    assert one["citations"] == [
        {"lecture_id": str(LECTURE), "title": "Bread", "start_s": 1.25, "end_s": 1.875, "text": "about forty minutes"},
    ]
    assert one["evidence"][0]["segment_id"] == Segment(LECTURE, 16_000, 32_000, RUN).id
    assert one["asked_at"] == "2026-03-04T05:06:00+00:00"


def test_every_export_says_when_a_cited_lecture_was_deleted() -> None:
    gone = [entry("How long?", deleted=True)]
    assert rows(export_history(gone, HistoryFormat.CSV))[0]["moments"].startswith("Bread (deleted), 00:01")
    assert json.loads(export_history(gone, HistoryFormat.JSON))["entries"][0]["evidence"][0]["lecture_deleted"] is True
    assert "Bread (deleted), 00:01" in export_history(gone, HistoryFormat.MARKDOWN)


def test_markdown_shows_what_was_said_and_obeys_none_of_it() -> None:
    text = export_history(
        [entry("# <script>alert(1)</script> [x](http://example.org) *a*", answer="1. one\n\n## two")], HistoryFormat.MARKDOWN
    )
    assert "<script>" not in text
    assert "[x](" not in text
    assert r"\# &lt;script\>" in text
    assert r"1\. one \#\# two" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [text.splitlines()[2]]


def test_markdown_offers_the_nearest_moments_as_such() -> None:
    text = export_history([entry("Why?", supported=False)], HistoryFormat.MARKDOWN)
    assert "Nearest moments:" in text
    assert "\nMoments:" not in text


def test_a_failed_answer_is_marked() -> None:
    failed = Answer("the model is gone", (), False, 0.0, "none", "{}", status=AnswerStatus.FAILED)
    asked = HistoryEntry(Question(text="Why?"), False, datetime(2026, 1, 1, tzinfo=UTC), failed, (), "cascade-1", {})
    assert "**Failed:** the model is gone" in export_history([asked], HistoryFormat.MARKDOWN)
    assert rows(export_history([asked], HistoryFormat.CSV))[0]["status"] == "failed"


def test_a_spoken_question_that_was_not_understood_is_exported() -> None:
    silent = Question(audio=Audio(np.zeros(1600, np.float32)), heard="")
    asked = HistoryEntry(silent, True, datetime(2026, 1, 1, tzinfo=UTC), None, (), "cascade-1", {})
    assert "## (nothing was understood)" in export_history([asked], HistoryFormat.MARKDOWN)


# What was heard


def test_a_long_sentence_becomes_cues_that_can_be_read() -> None:
    text = "in the morning it goes into a very hot oven for forty minutes and then the baker takes it out again and sells it to the people"
    made = cues([heard(*spoken(text))])
    assert " ".join(" ".join(cue.lines) for cue in made) == text
    assert len(made) > 1
    for cue in made:
        assert len(cue.lines) <= MAX_LINES
        assert all(len(line) <= LINE_CHARS for line in cue.lines)
        assert cue.end_ms - cue.start_ms <= MAX_CUE_MS


def test_a_cue_begins_and_ends_with_its_words() -> None:
    (cue,) = cues([heard(*spoken("good bread is made of flour", start_s=12.0))])
    assert (cue.start_ms, cue.end_ms) == (12_000, 14_400)


def test_a_cue_does_not_reach_across_a_silence() -> None:
    first, second = cues([heard(*spoken("before"), *spoken("after", start_s=10.0))])
    assert first.lines == ("before",)
    assert second.start_ms == 10_000


def test_speechless_sound_gives_empty_exports() -> None:
    for nothing in ([], [heard()]):
        assert to_srt(nothing) == ""
        assert to_vtt(nothing) == "WEBVTT\n"
        assert to_txt(nothing) == ""
    assert json.loads(export_heard([], HeardFormat.JSON)) == {"segments": []}


def test_srt_is_numbered_and_says_what_was_heard() -> None:
    text = to_srt([heard(*spoken("the heart is a pump"), *spoken("it beats", start_s=3661.5), end_s=30)])
    assert text == "1\n00:00:00,000 --> 00:00:02,000\nthe heart is a pump\n\n2\n01:01:01,500 --> 01:01:02,500\nit beats\n"


def test_vtt_shows_signs_that_would_be_markup() -> None:
    text = to_vtt([heard(*spoken("a <b> & c"))])
    assert "a &lt;b&gt; &amp; c" in text
    assert "00:00:00.000 --> 00:00:01.600" in text


def test_text_has_a_line_for_each_segment_that_says_something() -> None:
    text = to_txt([heard(*spoken("one two")), heard(start_s=30, end_s=40), heard(*spoken("three", start_s=65), start_s=65, end_s=70)])
    assert text == "[00:00] one two\n[01:05] three\n"


words = st.builds(
    lambda text, start, length: Word(text, start, start + length),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=120),
    st.integers(0, 20 * SAMPLE_RATE_HZ),
    st.integers(0, 12 * SAMPLE_RATE_HZ),
)


@given(st.lists(words, max_size=40).map(lambda many: sorted(many, key=lambda w: w.start)))
def test_whatever_is_heard_the_subtitles_are_valid(many: list[Word]) -> None:
    segments = [heard(*many)]
    made = cues(segments)
    for cue, following in zip(made, [*made[1:], None], strict=False):
        assert 0 <= cue.start_ms < cue.end_ms <= cue.start_ms + MAX_CUE_MS
        assert following is None or cue.end_ms <= following.start_ms
        assert 1 <= len(cue.lines) <= MAX_LINES
        assert all(0 < len(line) <= LINE_CHARS and line.strip() for line in cue.lines)
    assert "".join("".join(cue.lines) for cue in made).replace(" ", "") == "".join("".join(word.text.split()) for word in many)
    blocks = to_srt(segments).split("\n\n") if made else []
    assert [block.split("\n")[0] for block in blocks] == [str(i + 1) for i in range(len(made))]
    assert all(SRT_TIMES.fullmatch(block.split("\n")[1]) for block in blocks)
    assert to_srt(segments).count("-->") == len(made)
    assert to_vtt(segments).count("-->") == len(made)


def test_ids_in_exports_can_be_found_again() -> None:
    asked = entry("How long?")
    assert rows(export_history([asked], HistoryFormat.CSV))[0]["id"] == str(asked.question.id)
