"""What the reader marks becomes a moment of whole words; segments compete on one scale."""

from dataclasses import replace
from itertools import pairwise
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generator.citations import PAD_S, check_citations, timeline
from generator.reader import (
    CONTEXT_WORDS,
    MAX_ANSWER_WORDS,
    WORD_COST,
    ReaderRanker,
    allowed_spans,
    context_of,
    passage_of,
    reader_moments,
    telling,
)
from generator.reading import WordScores
from generator.span_scores import NEVER
from retriever.domain import HitFeatures, to_samples

BY_SCORE = (1.0, 0.0, 0.0, 0.0, 0.0)


class Marker:
    """Marks words by rule: the log-odds that a table gives each word, as start and as end; reads in windows of `size` words."""

    name = "marker"

    def __init__(self, starts, ends, size=1000, max_tokens=256):
        self.starts, self.ends, self.size, self.max_tokens = starts, ends, size, max_tokens

    def num_tokens(self, words):
        return len(words)

    def read(self, question, passage):
        scored, first = [], 0
        while True:
            part = passage[first : first + self.size]
            edges = (np.array([table.get(word, -9.0) for word in part], np.float32) for table in (self.starts, self.ends))
            scored.append(WordScores(first, *edges))
            if first + self.size >= len(passage):
                return scored
            first += self.size // 2


def rank(net, evidence, max_answer_s=20.0, question="what is it"):
    return ReaderRanker(net, BY_SCORE).rank(question, evidence, max_answer_s)


def test_the_answer_is_exactly_the_marked_words_and_their_time(make_words, make_evidence):
    words = make_words("the heart beats 100,000 times every day. it never sleeps.")
    evidence = [make_evidence(words)]
    ranked = rank(Marker({"one": 5.0}, {"times": 4.0}), evidence)  # the number is three words when it is said
    assert ranked[0].place.text == "100,000 times"
    assert ranked[0].features.score == pytest.approx(9.0 - 3 * WORD_COST)  # four words are said
    exact = reader_moments(evidence, ranked, 3, 20.0)[0]
    assert exact.text == "100,000 times"
    assert words[2].end <= exact.span.start <= words[3].start
    assert words[4].end <= exact.span.end <= words[5].start
    check_citations([exact], evidence)


@pytest.mark.parametrize(("gained", "best"), [(0.15, "beta"), (0.25, "alpha long beta")])
def test_a_longer_answer_must_earn_its_words(make_words, make_evidence, gained, best):
    evidence = [make_evidence(make_words("zero alpha long beta last"))]
    ranked = rank(Marker({"alpha": 2.0 + gained, "beta": 2.0}, {"beta": 3.0}), evidence)
    assert ranked[0].place.text == best


def test_the_second_moment_is_the_stretch_between_pauses_around_the_answer(make_words, make_evidence):
    words = make_words("first we rest. the heart beats fast today. it never sleeps.")
    evidence = [make_evidence(words)]
    ranked = rank(Marker({"beats": 5.0}, {"fast": 4.0}), evidence)
    exact, around = reader_moments(evidence, ranked, 3, 20.0)[:2]
    assert exact.text == "beats fast"
    assert around.text == "the heart beats fast today"
    assert around.span.start <= exact.span.start
    assert exact.span.end <= around.span.end
    assert around.span.end - words[7].end <= to_samples(PAD_S)
    assert reader_moments(evidence, ranked, 1, 20.0) == (exact,)


def test_the_best_of_all_segments_wins_whatever_its_rank(make_words, make_evidence):
    lectures = [UUID(int=number) for number in (5, 6)]
    evidence = [
        make_evidence(make_words(text), lecture_id=lecture)
        for text, lecture in zip(["one weak word here", "one strong word here"], lectures, strict=True)
    ]
    ranked = rank(Marker({"weak": 1.0, "strong": 3.0}, {"weak": 1.0, "strong": 3.0}), evidence)
    assert (ranked[0].place.rank, ranked[0].place.text) == (1, "strong")
    assert (
        ReaderRanker(Marker({"weak": 1.0, "strong": 3.0}, {"weak": 1.0, "strong": 3.0}), (1.0, 0.0, 0.0, 0.0, -9.0))
        .rank("what", evidence, 20.0)[0]
        .place.rank
        == 0
    )


def test_a_span_that_two_neighbouring_segments_reach_is_given_once(make_words, make_evidence_of):
    words = make_words("alpha beta gamma delta epsilon zeta")
    evidence = [make_evidence_of(words, 0, 3), make_evidence_of(words, 3, 6)]
    ranked = rank(Marker({"gamma": 5.0}, {"delta": 5.0}), evidence)
    both = [span for span in ranked if span.place.text == "gamma delta"]
    assert len(both) == 1
    assert both[0].place.rank == 0


def test_reading_in_windows_finds_what_reading_at_once_finds(make_words, make_evidence):
    words = make_words(" ".join(f"w{chr(97 + number // 10)}{chr(97 + number % 10)}" for number in range(60)))
    tables = {"wdb": 6.0, "wda": 3.0}, {"wdc": 5.0}
    one, other = (rank(Marker(*tables, size=size), [make_evidence(words)])[0] for size in (1000, 16))
    assert (one.place.first, one.place.last, one.features.score) == (other.place.first, other.place.last, other.features.score)


def test_an_answer_never_bridges_a_long_silence_nor_lasts_too_long(make_words, make_evidence):
    words = (*make_words("alpha beta"), *make_words("gamma delta epsilon", start_s=9.0))
    evidence = [make_evidence(words)]
    net = Marker({"beta": 5.0, "gamma": 1.0}, {"gamma": 5.0, "epsilon": 4.0})
    assert rank(net, evidence)[0].place.text == "gamma"
    assert all("beta gamma" not in span.place.text for span in rank(net, evidence))
    short = [span.place.text for span in rank(net, evidence, max_answer_s=0.5)]
    assert all(len(text.split()) == 1 for text in short)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the fixtures are plain functions
@given(st.data())
def test_allowed_spans_are_those_that_the_rule_allows_one_by_one(make_words, make_evidence_of, data):
    count = data.draw(st.integers(1, 12))
    words = make_words(
        " ".join("w" + ("." if data.draw(st.booleans()) else "") for _ in range(count)), pause_s=data.draw(st.sampled_from([0.5, 3.5]))
    )
    first = data.draw(st.integers(0, count - 1))
    line = timeline(make_evidence_of(words, first, data.draw(st.integers(first + 1, count))))
    longest = data.draw(st.integers(1, 8))
    allowed = allowed_spans(line, range(count), longest, 1.3)
    for start in range(count):
        for size in range(1, longest + 1):
            last = start + size
            if last > count:
                continue  # span_scores forbids it
            inside = words[start:last]
            own = last > line.first and start < line.last
            short = size == 1 or inside[-1].end - inside[0].start <= to_samples(1.3)
            whole = all(other.start - one.end < to_samples(3.0) for one, other in pairwise(inside))
            assert allowed[start, size - 1] == (own and short and whole)


def test_words_that_are_not_said_take_no_place(make_words, make_evidence):
    words = make_words("the -- heart u.s. beats")
    passage = passage_of(timeline(make_evidence(words)))
    assert passage.words == ("the", "heart", "u", "s", "beats")
    assert passage.places == (0, 2, 3, 3, 4)


def test_a_question_without_words_or_with_too_many_finds_nothing(make_words, make_evidence):
    evidence = [make_evidence(make_words("alpha beta"))]
    net = Marker({"alpha": 5.0}, {"alpha": 5.0}, max_tokens=20)
    assert rank(net, evidence, question="??") == []
    assert rank(net, evidence, question="why " * 11) == []
    assert rank(net, evidence, question="why " * 10)
    assert rank(net, [replace(evidence[0], words=())]) == []


def test_the_context_is_short_and_holds_the_answer(make_words, make_evidence):
    line = timeline(make_evidence(make_words("word " * 90, word_s=0.2)))
    first, last = context_of(line, 50, 52, 20.0)
    assert first <= 50
    assert last >= 52
    assert last - first == CONTEXT_WORDS
    first, last = context_of(line, 50, 52, 2.0)
    assert (line.words[last - 1].end - line.words[first].start) <= to_samples(2.0)
    assert context_of(line, 0, 90, 5.0) == (0, 90)


def test_an_answer_of_grammar_alone_takes_words_until_one_tells_something(make_words, make_evidence):
    line = timeline(make_evidence(make_words("a violin has for strings and is held up by them for you as it is")))
    said = [word.text for word in line.words]

    def told(answer):
        first, last = telling(line, said.index(answer), said.index(answer) + 1)
        return " ".join(said[first:last])

    assert told("for") == "for strings"
    assert told("violin") == "violin"
    assert told("by") == "held up by"  # nothing follows within four words that is more than grammar
    assert told("you") == "you"  # nor anything before


def test_what_decides_is_taken_from_the_best_span_and_the_hits(make_words, make_evidence):
    features = HitFeatures(cosine=0.5, lexical=9.0, coverage=0.7, margin=0.2)
    evidence = [make_evidence(make_words("alpha beta"), features=features)]
    ranker = ReaderRanker(Marker({"alpha": 2.0}, {"beta": 3.0}), BY_SCORE)
    support = ranker.support("does alpha beat gamma", evidence, ranker.rank("does alpha beat gamma", evidence, 20.0))
    assert support.score == pytest.approx(5.0 - WORD_COST)
    assert (support.cosine, support.hit_coverage, support.num_words) == (0.5, 0.7, 3.0)
    assert support.total >= support.score
    assert support.lexical == 3.0
    assert NEVER < -1000 < MAX_ANSWER_WORDS
