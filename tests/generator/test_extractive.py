import json
from dataclasses import replace
from uuid import uuid4

import pytest

from generator.build import build_generator
from generator.citations import overlaps
from generator.config import Extractive
from retriever.domain import HitFeatures, Question, to_samples

STRONG = HitFeatures(cosine=0.7, lexical=15.0, coverage=0.95, margin=0.5)
LECTURE = (
    "good bread is made of flour water salt and time. the baker prepares it in the evening and lets it rest all night. "
    "in the morning it goes into a very hot oven for forty minutes. then it cools on a rack. "
)


@pytest.fixture(scope="module")
def generator():
    return build_generator(Extractive(), "cascade")


@pytest.mark.parametrize("cut", [25, 30, 34])
def test_an_answer_across_a_cut_is_found_and_cited_whole(generator, make_words, make_evidence, cut):
    words = make_words(LECTURE)
    before = make_evidence(words[:cut], after=words[cut:], features=STRONG)
    after = make_evidence(words[cut:], before=words[:cut], features=STRONG)
    for evidence in ([before], [after], [before, after], [after, before]):
        answer = generator.answer(Question(text="How many minutes is bread in the hot oven?"), evidence)
        assert answer.supported
        assert "goes into a very hot oven for forty minutes" in answer.text
        cited = answer.citations[0]
        assert cited.span.start <= words[26].start
        assert cited.span.end >= words[35].end
        assert cited.segment in [one.segment for one in evidence]


def test_without_the_neighbour_the_answer_would_be_cut(generator, make_words, make_evidence):
    words = make_words(LECTURE)
    answer = generator.answer(Question(text="How many minutes is bread in the hot oven?"), [make_evidence(words[:33], features=STRONG)])
    assert "forty minutes" not in answer.text


def test_two_segments_that_reach_the_same_moment_are_cited_once(generator, make_words, make_evidence):
    words = make_words(LECTURE)
    evidence = [make_evidence(words[:33], after=words[33:], features=STRONG), make_evidence(words[33:], before=words[:33], features=STRONG)]
    citations = generator.answer(Question(text="How many minutes is bread in the hot oven?"), evidence).citations
    assert not any(overlaps(one, other) for index, one in enumerate(citations) for other in citations[:index])


@pytest.mark.parametrize("max_citations", [1, 2])
def test_as_many_moments_are_cited_as_asked_for_at_most(make_words, make_evidence, max_citations):
    generator = build_generator(Extractive(max_citations=max_citations), "cascade")
    evidence = [make_evidence(make_words(LECTURE), lecture_id=uuid4(), features=STRONG) for _ in range(4)]
    answer = generator.answer(Question(text="How many minutes is bread in the hot oven?"), evidence)
    assert len(answer.citations) == max_citations
    assert len({citation.segment for citation in answer.citations}) == max_citations


def test_no_moment_is_longer_than_asked_for(make_words, make_evidence):
    generator = build_generator(Extractive(max_answer_s=5.0), "cascade")
    answer = generator.answer(Question(text="What is good bread made of?"), [make_evidence(make_words(LECTURE), features=STRONG)])
    moments = answer.citations + answer.nearest
    assert moments
    assert all(moment.span.num_samples <= to_samples(5.0 + 0.3) for moment in moments)


def test_the_answer_is_a_quotation_of_the_first_moment(generator, make_words, make_evidence):
    answer = generator.answer(Question(text="What is good bread made of?"), [make_evidence(make_words(LECTURE), features=STRONG)])
    assert answer.supported
    heard = answer.citations[0].text
    assert answer.text == f"“{heard[0].upper()}{heard[1:]}”"


def test_settings_name_the_configuration_and_the_calibration(generator, make_words, make_evidence):
    answer = generator.answer(Question(text="What is good bread made of?"), [make_evidence(make_words(LECTURE))])
    settings = json.loads(answer.settings)
    assert settings["max_citations"] == 3
    assert settings["calibration"]
    assert answer.model == "extractive"


def test_a_question_longer_than_the_lecture_is_answered(generator, make_words, make_evidence):
    question = Question(text="What is good bread made of? " * 200)
    assert generator.answer(question, [make_evidence(make_words(LECTURE), features=STRONG)]).text


def test_more_evidence_than_is_read_changes_nothing(generator, make_words, make_evidence):
    evidence = [make_evidence(make_words(LECTURE), lecture_id=uuid4(), features=STRONG) for _ in range(5)]
    more = [*evidence, *(replace(one, words=make_words("bread bread bread made of flour")) for one in evidence)]
    question = Question(text="What is good bread made of?")
    assert generator.answer(question, evidence) == generator.answer(question, more)
