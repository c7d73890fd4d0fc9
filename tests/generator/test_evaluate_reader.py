"""The reader's measures: evidence made of text and of sound is what the reader reads in life."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from generator.reading import shipped_reader
from generator.training.evaluate_reader import Read, Reading, decisions, odds_threshold, quality, read, written_evidence
from generator.training.evaluate_spoken_reader import Hearing, Said, find_moments, lecture_of, read_set, written
from generator.training.evaluate_spoken_reader import quality as spoken_quality
from generator.training.voices import Voice, speak
from retriever.build import build_retriever, build_segmenter
from retriever.config import Cascade, SpeechPauses
from retriever.domain import Span, Word


def made(kind, score, text="blue", golds=("blue",)):
    return Read(kind, golds, Reading(text, score))


def test_quality_counts_answers_and_tells_what_has_none():
    found = [made("answerable", 3.0), made("answerable", 1.0, "red"), made("elsewhere", -2.0), made("nearest", 2.0)]
    numbers = quality(found)
    assert (numbers["em"], numbers["f1"], numbers["auroc_elsewhere"], numbers["auroc_nearest"]) == (0.5, 0.5, 1.0, 0.5)
    assert np.isnan(numbers["auroc_shortened"])


def test_the_threshold_parts_what_can_be_parted():
    found = [made("answerable", score) for score in (1.0, 2.0, 3.0)] + [made("elsewhere", score) for score in (-3.0, -2.0)]
    threshold = odds_threshold(found)
    assert -2.0 < threshold <= 1.0
    numbers = decisions(found, threshold)
    assert (numbers["answered_answerable"], numbers["answered_elsewhere"], numbers["balanced_accuracy"]) == (1.0, 0.0, 1.0)


def test_written_passages_are_read_and_the_right_one_is_found():
    texts = ("bread is made of flour and water", "the heart beats one hundred thousand times every day")
    passages = [tuple(text.split()) for text in texts]
    question = ("how", "many", "times", "does", "the", "heart", "beat", "every", "day")
    assert "one hundred thousand" in read(shipped_reader(), question, written_evidence(passages)).text


def test_an_answer_is_found_wherever_its_words_are_said():
    texts = ("in", "1906", "and", "in", "nineteen", "six")
    said = [Word(text, place * 10, place * 10 + 10) for place, text in enumerate(texts)]
    assert find_moments(said, "1906") == [Span(10, 20), Span(40, 60)]
    assert find_moments(said, "and six") == []
    assert find_moments(said, "?") == []


def test_the_overlap_counts_only_in_the_right_passage(tmp_path):
    rows = {
        "contexts": [{"id": "c0", "title": "t", "text": "x", "audio": ["a.flac"], "said": [["heart", 0, 100], ["fist", 100, 200]]}],
        "questions": [
            {"id": "q", "text": "what size", "context": "c0", "audio": ["q.flac"], "answers": [{"text": "fist", "start": 0}]},
            {"id": "r", "text": "of a passage left out", "context": "c9", "audio": ["q.flac"], "answers": []},
        ],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    contexts, questions = read_set(tmp_path, None)
    assert len(questions) == 1
    right, wrong = (Said("fist", Span(100, 200), lecture_of(name)) for name in ("c0", "c1"))
    assert spoken_quality([(questions[0], right)])["aos"] == 1.0
    assert spoken_quality([(questions[0], wrong)])["aos"] == 0.0
    assert [word.text for one in written(contexts[0]) for word in one.words] == ["heart", "fist"]


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_what_is_kept_of_hearing_is_what_was_heard(tmp_path):
    sound = speak("The heart is a pump. Bread is made of flour and water, and it is baked in the oven.", Voice("flite", "slt"))
    soundfile.write(tmp_path / "a.flac", np.concatenate([np.zeros(8000, np.float32), sound, np.zeros(8000, np.float32)]), 16_000)
    retriever = build_retriever(Cascade(num_workers=1))
    hearing = Hearing(tmp_path / "work", build_segmenter(SpeechPauses()), retriever)
    row = {"id": "c0", "audio": ["a.flac"]}
    first, again = hearing.passage(tmp_path, row), hearing.passage(tmp_path, row)
    retriever.close()
    assert [one.words for one in first] == [one.words for one in again]
    assert {one.fingerprint for one in again} == {retriever.fingerprint}
    assert any(word.text in ("flour", "water", "oven", "bread") for one in again for word in one.words)
