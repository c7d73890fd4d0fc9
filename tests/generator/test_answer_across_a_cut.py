"""A sentence of a synthesised lecture, cut in the middle, recognised on both sides, and still found whole."""

import json
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from generator.build import build_generator
from generator.config import Extractive
from generator.domain import Evidence
from retriever.audio import read_audio
from retriever.config import AudioLimits
from retriever.domain import Audio, Hit, HitFeatures, Question, Segment, to_samples
from retriever.recognition import RecogniserProcess

MADE_UP = UUID("6d1f3f0c-0000-4000-8000-000000000003")
DATA = Path(__file__).parents[1] / "data"
FEATURES = HitFeatures(cosine=0.5, lexical=8.0, coverage=0.8, margin=0.3)
BREAD = 1  # the paragraph


@pytest.fixture(scope="module")
def lecture():
    return read_audio(DATA / "short_lecture.opus", AudioLimits(), 120.0)


@pytest.fixture(scope="module")
def recogniser():
    with closing(RecogniserProcess()) as process:
        yield process


def test_a_sentence_that_was_cut_in_its_middle_is_found_and_cited_whole(lecture, recogniser):
    paragraph = json.loads((DATA / "short_lecture.json").read_text(encoding="utf-8"))["paragraphs"][BREAD]
    start, end = to_samples(paragraph["start_s"]), to_samples(paragraph["end_s"])

    def listen(first, last):
        return recogniser.words(Audio(lecture.samples[first:last].copy()), offset=first)

    whole = {word.text: word for word in listen(start, end)}
    assert {"morning", "oven", "forty", "minutes"} <= set(whole), "the recogniser misheard the sentence; choose another"
    cut = whole["oven"].start  # in "… it goes into a very hot | oven for forty minutes"
    first, second = Segment(MADE_UP, start, cut, MADE_UP), Segment(MADE_UP, cut, end, MADE_UP)
    heard = {first: listen(start, cut), second: listen(cut, end)}
    found = Evidence(Hit(first, 1.0, FEATURES), "Bread", heard[first], (), heard[second], lambda: lecture)

    answer = build_generator(Extractive(), "cascade").answer(
        Question(text="How many minutes does it go into the hot oven in the morning?"), [found]
    )

    assert answer.supported
    assert "morning" in answer.text
    assert "forty minutes" in answer.text
    moment = answer.citations[0]
    assert moment.segment == first
    assert moment.span.start < whole["morning"].start < cut < whole["minutes"].start < moment.span.end
