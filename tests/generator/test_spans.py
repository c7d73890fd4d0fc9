from hypothesis import given, settings
from hypothesis import strategies as st

from generator.citations import cite, timeline
from generator.domain import Evidence
from generator.spans import MAX_SPAN_WORDS, candidate_spans
from retriever.domain import Word, to_samples

MAX_ANSWER_S = 20.0


def texts(evidence, max_answer_s=MAX_ANSWER_S):
    return {span.text for span in candidate_spans(evidence, max_answer_s)}


def test_pauses_stand_for_full_stops(make_words, make_evidence):
    words = make_words("a volcano is a mountain with fire. bread is made of flour and water.")
    assert texts([make_evidence(words)]) == {
        "a volcano is a mountain with fire",
        "bread is made of flour and water",
        "a volcano is a mountain with fire bread is made of flour and water",
    }


def test_a_sentence_across_a_cut_is_one_span(make_words, make_evidence):
    words = make_words("good bread rests all night. it goes into a hot oven for forty minutes. then it is eaten warm.")
    evidence = make_evidence(words[:9], after=words[9:])
    assert "it goes into a hot oven for forty minutes" in texts([evidence])
    assert "it goes into a hot oven for forty minutes" in texts([make_evidence(words[9:], before=words[:9])])


def test_a_neighbour_after_a_long_silence_is_another_moment(make_words, make_evidence):
    words = make_words("the heart is a strong pump")
    later = make_words("and it beats for many years", start_s=8.0)
    assert texts([make_evidence(words, after=later)]) == {"the heart is a strong pump"}


def test_words_of_a_neighbour_alone_are_no_span(make_words, make_evidence):
    words = make_words("bread is made of flour and water. the heart is a strong pump.")
    assert "bread is made of flour and water" not in texts([make_evidence(words[7:], before=words[:7])])


def test_speech_without_pauses_is_cut_into_short_spans(make_words, make_evidence):
    words = make_words(" ".join(f"word{number}" for number in range(100)), word_s=0.25)
    spans = candidate_spans([make_evidence(words)], MAX_ANSWER_S)
    assert max(span.last - span.first for span in spans) <= MAX_SPAN_WORDS
    assert {index for span in spans for index in range(span.first, span.last)} == set(range(100))


def test_a_place_that_two_segments_reach_is_one_span_of_the_better_one(make_words, make_evidence):
    words = make_words("the heart is a pump and it beats all day")
    one, other = make_evidence(words[:5], after=words[5:]), make_evidence(words[5:], before=words[:5])
    spans = candidate_spans([other, one], MAX_ANSWER_S)
    assert [(span.rank, span.text) for span in spans] == [(0, "the heart is a pump and it beats all day")]


def test_a_few_words_between_long_silences_are_a_span(make_words, make_evidence):
    assert texts([make_evidence(make_words("any questions"))]) == {"any questions"}


def test_evidence_without_words_has_no_spans(make_words, make_evidence):
    heard = make_evidence(make_words("the heart"))
    silent = Evidence(heard.hit, heard.lecture_title, (), (), (), heard.load_audio)
    assert candidate_spans([silent], MAX_ANSWER_S) == []


@st.composite
def spoken(draw):
    at, words = 0, []
    for number in range(draw(st.integers(3, 80))):
        at += to_samples(draw(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.4, 2.0, 5.0])))
        end = at + to_samples(draw(st.sampled_from([0.05, 0.3, 1.0, 2.0])))
        words.append(Word(f"w{number}", at, end))
        at = end
    cuts = sorted(draw(st.lists(st.integers(0, len(words)), min_size=2, max_size=2)))
    first = min(cuts[0], len(words) - 1)
    return tuple(words), first, min(max(cuts[1], first + 1), first + 4)  # at most 28 s


@settings(max_examples=60, deadline=None)
@given(spoken(), st.sampled_from([3.0, 20.0]))
def test_every_span_can_be_cited_and_none_is_longer_than_asked(make_evidence_of, speech, max_answer_s):
    words, first, last = speech
    evidence = make_evidence_of(words, first, last)
    spans = candidate_spans([evidence], max_answer_s)
    assert spans
    for span in spans:
        heard = timeline(evidence).words[span.first : span.last]
        assert heard[-1].end - heard[0].start <= max(to_samples(max_answer_s), heard[0].end - heard[0].start)
        assert cite(evidence, span.first, span.last).text == span.text
