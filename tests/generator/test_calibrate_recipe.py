"""The calibration recipe at toy size: four short lectures whose words are written instead of heard; all the rest is the real thing."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from generator.build import ShippedEncoder
from generator.calibration import FEATURES, FORMAT, load_calibration
from generator.reading import shipped_reader
from generator.training.calibrate import (
    IndexSearch,
    RememberingEncoder,
    RememberingNet,
    calibrate,
    extractive_way,
    reader_way,
    reliability,
)
from generator.training.corpus import DevelopmentLecture, LectureQuestion, SpokenSentence
from generator.training.examples import ExampleMaker, overlap
from generator.training.hearing import lecture_id
from retriever.build import build_fusion, build_retriever
from retriever.config import Cascade
from retriever.domain import EmbeddedSegment, EncodedQuestion, Question, Segment, Span, Word, join_words, to_samples

TEXTS = {
    "heart": (
        ["The heart is a pump of muscle.", "It beats one hundred thousand times every day.", "Valves keep the blood from flowing back."],
        [("What kind of organ is the heart?", 0), ("How many times does the heart beat every day?", 1), ("What do the valves do?", 2)],
    ),
    "bread": (
        ["Bread is made of flour and water.", "It bakes in the oven for forty minutes.", "Yeast makes the dough rise overnight."],
        [("What is bread made of?", 0), ("How long does bread bake in the oven?", 1), ("What makes the dough rise?", 2)],
    ),
    "railway": (
        ["The first railway carried coal to the harbor.", "Steam engines burned coal all day.", "Later the trains took passengers."],
        [("What did the first railway carry?", 0), ("What did the engines burn?", 1), ("Who took the trains later?", 2)],
    ),
    "violin": (
        ["A violin has four strings of steel.", "The bow is made of horse hair.", "Old violins from Italy cost millions."],
        [("How many strings has a violin?", 0), ("What is the bow made of?", 1), ("Where do the old violins come from?", 2)],
    ),
}
STRANGERS = ["Which planet is the largest?", "Who signed the treaty of peace?", "How do bees find their hive?", "What is a prime number?"]
SENTENCE = to_samples(4.0)


@dataclass(frozen=True)
class WrittenEars:
    """Hears what is written: each sentence takes four seconds and is a segment."""

    encoder: ShippedEncoder
    fingerprint: str

    def hear_lecture(self, name: str, lecture: DevelopmentLecture) -> list[EmbeddedSegment]:
        number, segments = lecture_id(lecture), []
        for sentence in lecture.sentences:
            tokens = sentence.text.strip(".").lower().split()
            step = (sentence.end - sentence.start) // len(tokens)
            words = tuple(
                Word(token, sentence.start + place * step, sentence.start + (place + 1) * step) for place, token in enumerate(tokens)
            )
            vector = self.encoder.encode([join_words(words)])[0]
            segments.append(EmbeddedSegment(Segment(number, sentence.start, sentence.end, number), vector, words, self.fingerprint))
        return segments

    def hear_question(self, question: LectureQuestion, is_spoken: bool) -> tuple[Question, EncodedQuestion]:
        asked = Question(text=question.text)
        return asked, EncodedQuestion(self.encoder.encode([question.text])[0], question.text, question.text if is_spoken else None)


def write_lecture(number: int, name: str) -> DevelopmentLecture:
    texts, questions = TEXTS[name]
    sentences = tuple(
        SpokenSentence(text, place, place * (SENTENCE + 8000), place * (SENTENCE + 8000) + SENTENCE) for place, text in enumerate(texts)
    )
    asked = tuple(LectureQuestion(f"{name}-{place}", text, place, is_spoken=True) for text, place in questions)
    return DevelopmentLecture(name, "written", number % 2, sentences, asked)


@pytest.fixture(scope="module")
def maker():
    retriever = build_retriever(Cascade())
    lectures = {name: write_lecture(number, name) for number, name in enumerate(TEXTS)}
    strangers = [LectureQuestion(f"stranger-{number}", text, -1, is_spoken=True) for number, text in enumerate(STRANGERS)]
    ears = WrittenEars(ShippedEncoder(), retriever.fingerprint)
    return ExampleMaker(lectures, strangers, ears, IndexSearch(retriever, build_fusion(Cascade())))


WAYS = {
    "extractive": lambda: extractive_way(RememberingEncoder(ShippedEncoder())),
    "reader": lambda: reader_way(RememberingNet(shipped_reader())),
}


@pytest.mark.parametrize("kind", sorted(WAYS))
def test_the_record_can_be_loaded_and_tells_answerable_questions_from_strangers(maker, tmp_path, kind):
    record = calibrate(maker, "debug", WAYS[kind]())
    path = tmp_path / f"support-cascade-{kind}.json"
    whole = {"format": FORMAT, "retriever_kind": "cascade", "generator_kind": kind, "languages": {"en": record}}
    path.write_text(json.dumps(whole), encoding="utf-8")
    calibration = load_calibration("cascade", kind, "en", tmp_path)
    assert calibration.name == "debug"
    for mode in ("typed", "spoken"):
        quality = record[mode]["quality"]
        assert quality["auroc_against_strangers"] > 0.9
        assert quality["answer_in_evidence"] == 1.0
        weights = dict(zip(FEATURES[kind][1], calibration.model(mode).weights, strict=True))
        assert all(weight >= 0 for name, weight in weights.items() if name != "num_words")


def test_where_the_passage_was_taken_out_the_evidence_does_not_hold_its_sentence(maker):
    answers = {text: TEXTS[name][0][place].strip(".").lower() for name in TEXTS for text, place in TEXTS[name][1]}
    seen = set()
    for example in maker.make("typed"):
        seen.add(example.kind)
        heard = " ".join(join_words(one.before + one.words + one.after) for one in example.evidence)
        if example.kind != "stranger":
            assert (answers[example.question.wording] in heard) == (example.kind == "answerable")
            assert example.is_found == (example.kind == "answerable")
    assert seen == {"answerable", "stranger", "removed"}


def test_each_half_searches_its_own_lectures_only(maker):
    for example in maker.make("typed"):
        lectures = {evidence.segment.lecture_id for evidence in example.evidence}
        assert lectures <= {lecture_id(lecture) for lecture in maker.lectures.values() if lecture.half == example.half}


def test_overlap_is_symmetric_and_zero_where_spans_only_touch():
    assert overlap(Span(0, 10), Span(10, 20)) == 0
    assert overlap(Span(0, 10), Span(4, 6)) == overlap(Span(4, 6), Span(0, 10)) == 2


def test_the_reliability_table_compares_confidence_with_truth():
    table = reliability(np.array([0.05, 0.95, 0.93, 0.15]), np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 3.0, 1.0, 1.0]))
    assert table == [[0.05, 0.0, 1], [0.15, 1.0, 1], [0.945, 0.75, 2]]
