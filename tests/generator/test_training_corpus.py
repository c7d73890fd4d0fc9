import gzip
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import soundfile

from generator.training import corpus
from generator.training.corpus import make_lectures, make_strangers, read_sound, split_sentences
from generator.training.voices import LECTURERS, Voice, speak
from retriever.domain import SAMPLE_RATE_HZ

HEART = "The heart is a pump (made of muscle). It beats 100,000 times a day [3]. Dr. Smith counted it."
BREAD = "Bread is made of flour. It bakes for forty minutes."


def test_passages_are_split_where_sentences_end_and_brackets_are_left_out():
    assert split_sentences(HEART)[:2] == ["The heart is a pump .", "It beats 100,000 times a day ."]
    assert split_sentences("   ") == []


def row(number, context, question, answer, title="Body", split="train"):
    answers = [{"text": answer, "start": context.find(answer)}] if answer else []
    return {"id": f"q{number}", "title": title, "context": context, "question": question, "answers": answers, "split": split}


@pytest.fixture
def data(tmp_path, monkeypatch):
    rows = [
        row(0, HEART, "How many times does it beat?", "100,000 times"),
        row(1, HEART, "Who counted the beats there?", "Smith"),
        row(2, BREAD, "How long does bread bake today?", "forty minutes"),
        row(3, BREAD, "What is never asked here?", "flour", split="eval"),
        row(4, "The moon is far away.", "How far away is the moon?", "", title="Sky"),
        row(5, "The sea is deep.", "How deep is the sea there?", "", title="Sea"),
    ]
    (tmp_path / "qa").mkdir()
    (tmp_path / "noise").mkdir()
    for source in ("new_wiki", "openstax_questions"):
        with gzip.open(tmp_path / "qa" / f"{source}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(one) + "\n" for one in (rows if source == "new_wiki" else []))
    sound = io.BytesIO()
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 16_000), SAMPLE_RATE_HZ, format="FLAC")
    with tarfile.open(tmp_path / "noise" / "noise.tar", "w") as tar:
        member = tarfile.TarInfo("noise/hiss.flac")
        member.size = len(sound.getvalue())
        tar.addfile(member, io.BytesIO(sound.getvalue()))
    monkeypatch.setattr(corpus, "_NUM_LECTURES", {"new_wiki": 1})
    monkeypatch.setattr(corpus, "MAX_LECTURE_WORDS", 20)
    return tmp_path


needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


@needs_flite
def test_a_lecture_knows_the_moment_of_each_answer(data):
    (name, lecture), *_ = make_lectures(data, data / "work").items()
    sound = read_sound(data / "work" / f"{name}.flac")
    assert lecture.name == "Body"
    answers = {question.text: lecture.sentences[question.sentence] for question in lecture.questions}
    assert "100,000 times" in answers["How many times does it beat?"].text
    assert "What is never asked here?" not in answers
    for sentence in answers.values():
        inside = sound[sentence.start : sentence.end]
        assert np.sqrt(np.mean(inside**2)) > 0.02
    gaps = [sound[one.end : other.start] for one, other in zip(lecture.sentences, lecture.sentences[1:], strict=False)]
    assert all(len(gap) >= 0.2 * SAMPLE_RATE_HZ and np.abs(gap).max() < 0.01 for gap in gaps)


@needs_flite
def test_a_second_call_makes_nothing_anew(data, monkeypatch):
    first = make_lectures(data, data / "work")
    monkeypatch.setattr(corpus, "speak", lambda *_: pytest.fail("spoken again"))
    assert make_lectures(data, data / "work") == first


@needs_flite
def test_strangers_are_asked_on_articles_of_no_lecture(data):
    strangers = make_strangers(data, data / "work", num=2)
    assert {question.text for question in strangers} == {"How far away is the moon?", "How deep is the sea there?"}
    assert all(question.is_spoken == (data / "work" / "questions" / f"{question.id}.flac").exists() for question in strangers)


@pytest.mark.parametrize("voice", [voice for voice in LECTURERS if voice.is_installed], ids=lambda voice: voice.name)
def test_a_voice_speaks_at_the_rate_and_level_of_the_corpus(voice):
    speech = speak("The heart beats all day long.", voice)
    assert 1.0 < len(speech) / SAMPLE_RATE_HZ < 4.0
    assert np.abs(speech).max() == pytest.approx(0.5, abs=0.01)


@needs_flite
def test_a_voice_that_says_nothing_is_an_error():
    with pytest.raises(RuntimeError, match=r"could not say|said nothing"):
        speak("...", Voice("flite", "no-such-voice-file.flitevox"))
