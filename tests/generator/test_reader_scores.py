"""Answers are compared as they are said, moments by the time they share."""

import pytest

from generator.training.reader_scores import audio_overlap, compared, exact_match, word_f1
from retriever.domain import Span


def test_articles_case_and_writing_do_not_count():
    assert exact_match("the 1,200 ships", ["One thousand two hundred ships."]) == 1
    assert exact_match("ship", ["ships"]) == 0
    assert compared("The king's") == ["king"]


def test_f1_is_of_shared_words_and_the_best_gold_counts():
    assert word_f1("blue whale", ["whale", "red fish"]) == pytest.approx(2 / 3)
    assert word_f1("a b b", ["b b b"]) == pytest.approx(4 / 5)  # the article is no word
    assert word_f1("", ["whale"]) == 0
    assert word_f1("the", ["an"]) == 1


def test_moments_overlap_by_shared_over_all_time():
    assert audio_overlap(Span(0, 10), [Span(5, 15)]) == pytest.approx(5 / 15)
    assert audio_overlap(Span(0, 10), [Span(20, 30), Span(0, 10)]) == 1
    assert audio_overlap(None, [Span(0, 1)]) == 0
    assert audio_overlap(Span(0, 10), [Span(10, 20)]) == 0
