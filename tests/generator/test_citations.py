from uuid import uuid4

import pytest

from generator.citations import PAD_S, check_citations, cite, cite_segment, overlaps
from generator.domain import Citation
from generator.errors import CitationOutOfEvidence
from retriever.domain import SAMPLE_RATE_HZ, Segment, Span, to_samples


def test_a_citation_is_whole_words_with_a_breath_of_the_silence_around(make_words, make_evidence):
    words = make_words("nothing here. the heart beats. nothing there.")
    citation = cite(make_evidence(words), 2, 5)
    assert citation.text == "the heart beats"
    assert citation.span == Span(words[2].start - to_samples(PAD_S), words[4].end + to_samples(PAD_S))


def test_a_citation_never_takes_a_part_of_the_next_word_or_of_what_lies_beyond_the_segment(make_words, make_evidence):
    words = make_words("the heart beats and beats")
    evidence = make_evidence(words)
    assert cite(evidence, 1, 3).span == Span(words[1].start, words[2].end)
    assert cite(evidence, 0, 5).span == evidence.segment.span


def test_a_citation_may_reach_into_the_neighbours(make_words, make_evidence):
    everything = make_words("the heart beats one hundred thousand times")
    evidence = make_evidence(everything[2:4], everything[:2], everything[4:])
    citation = cite(evidence, 0, 7)
    assert citation.text == "the heart beats one hundred thousand times"
    assert citation.segment == evidence.segment
    check_citations([citation], [evidence])


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (3, 3), (0, 2), (4, 6), (5, 99)])
def test_words_that_are_not_of_the_segment_are_refused(make_words, make_evidence, first, last):
    everything = make_words("a b c d e f")
    with pytest.raises(CitationOutOfEvidence, match="at least one of its own"):
        cite(make_evidence(everything[2:4], everything[:2], everything[4:]), first, last)


def test_a_citation_of_a_segment_that_was_not_given_is_refused(make_words, make_evidence):
    evidence = make_evidence(make_words("the heart beats"))
    foreign = Segment(uuid4(), evidence.segment.start, evidence.segment.end, evidence.segment.run_id)
    with pytest.raises(CitationOutOfEvidence, match="not among the 1"):
        check_citations([Citation(foreign, foreign.span, "the heart beats")], [evidence])


@pytest.mark.parametrize("span", [Span(0, 20 * SAMPLE_RATE_HZ), Span(19 * SAMPLE_RATE_HZ, 20 * SAMPLE_RATE_HZ)])
def test_a_moment_beyond_the_evidence_is_refused(make_words, make_evidence, span):
    evidence = make_evidence(make_words("the heart beats"))
    with pytest.raises(CitationOutOfEvidence, match="cite within it"):
        check_citations([Citation(evidence.segment, span, "")], [evidence])


def test_a_moment_that_lies_in_a_neighbour_only_is_refused(make_words, make_evidence):
    everything = make_words("the heart. beats well. and long.")
    evidence = make_evidence(everything[2:4], everything[:2], everything[4:])
    with pytest.raises(CitationOutOfEvidence):
        check_citations([Citation(evidence.segment, Span(everything[4].start, everything[5].end), "and long")], [evidence])


def test_a_whole_segment_is_a_moment_also_when_nothing_was_heard_in_it(make_words, make_evidence):
    evidence = make_evidence(make_words("the heart beats"))
    assert cite_segment(evidence) == Citation(evidence.segment, evidence.segment.span, "the heart beats")
    check_citations([cite_segment(evidence)], [evidence])


def test_citations_overlap_only_in_the_same_lecture(make_words, make_evidence):
    words = make_words("the heart beats")
    one, other = make_evidence(words), make_evidence(words, lecture_id=uuid4())
    assert overlaps(cite(one, 0, 2), cite(one, 1, 3))
    assert not overlaps(cite(one, 0, 1), cite(one, 1, 2))
    assert not overlaps(cite(one, 0, 3), cite(other, 0, 3))
