import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pocketsphinx import Decoder

from app import demo
from app.demo import make
from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, to_samples

FIXTURES = Path(__file__).resolve().parents[1] / "data"
ANSWERED = [question for question in demo.questions() if question.answer is not None]


def decode(path: Path) -> Samples:
    """The sound at 16 kHz; Opus decodes to 48 kHz, of which every third sample is enough for speech that was 16 kHz before."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    assert samples.ndim == 1
    assert rate_hz % SAMPLE_RATE_HZ == 0
    return np.ascontiguousarray(samples[:: rate_hz // SAMPLE_RATE_HZ])


def level(samples: Samples) -> float:
    return float(np.sqrt(np.mean(samples**2)))


@pytest.fixture(scope="module")
def lecture() -> Samples:
    return decode(demo.lecture_path())


@pytest.fixture  # a new one for each test: it adapts to what it hears
def decoder() -> Decoder:
    return Decoder(loglevel="FATAL")


def hear(decoder: Decoder, samples: Samples) -> list[str]:
    pcm = make.to_pcm(Audio(np.clip(samples, -1.0, 1.0)))
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr.split() if hypothesis else []


def words_of(text: str) -> list[str]:
    return text.lower().translate(str.maketrans("", "", ",.?!")).split()


def share_heard(said: str, heard: list[str]) -> float:
    return float(np.mean([word in heard for word in words_of(said)]))


def test_the_lecture_lasts_eight_to_twelve_minutes(lecture: Samples) -> None:
    assert 8 * 60 <= len(lecture) / SAMPLE_RATE_HZ <= 12 * 60


def test_lecture_and_questions_are_small_enough_to_travel_with_the_package() -> None:
    paths = [demo.lecture_path(), *(question.audio_path for question in demo.questions())]
    assert sum(path.stat().st_size for path in paths) < 3_000_000


def test_six_questions_are_offered_and_the_last_one_has_no_answer() -> None:
    assert [question.answer is None for question in demo.questions()] == [False] * 5 + [True]
    assert len({question.text for question in demo.questions()}) == 6
    assert len({question.audio_path for question in demo.questions()}) == 6


def test_an_answer_is_said_once_and_a_question_without_answer_names_no_place() -> None:
    for question in demo.questions():
        if question.answer is None:
            assert (question.start_s, question.end_s) == (None, None)
        else:
            assert demo.transcript().count(question.answer) == 1


def test_two_speakers_take_turns() -> None:
    speakers = [paragraph.speaker for paragraph in make.read_script(demo.transcript())]
    assert set(speakers) == {"LECTURER", "STUDENT"}
    assert speakers.count("STUDENT") >= 5
    assert len({make.VOICES[speaker] for speaker in (*speakers, "ASKER")}) == 3


def test_every_word_of_lecture_and_questions_is_in_the_dictionary_of_the_recogniser(decoder: Decoder) -> None:
    said = [sentence for paragraph in make.read_script(demo.transcript()) for sentence in paragraph.sentences]
    words = {word for text in (*said, *(question.text for question in demo.questions())) for word in words_of(text)}
    assert {word for word in words if decoder.lookup_word(word) is None} == set()


@pytest.mark.parametrize("question", ANSWERED, ids=lambda question: question.audio_path.stem)
def test_an_answer_is_heard_where_it_is_said_to_be(question: demo.DemoQuestion, lecture: Samples, decoder: Decoder) -> None:
    assert question.answer is not None
    assert question.start_s is not None
    assert question.end_s is not None
    assert 0.0 < question.start_s < question.end_s <= len(lecture) / SAMPLE_RATE_HZ
    start, end = to_samples(question.start_s), to_samples(question.end_s)
    before = lecture[start - to_samples(0.3) : start - to_samples(0.05)]
    assert level(before) < 0.02 < level(lecture[start:end])  # the span begins after a pause
    margin = to_samples(0.2)
    assert share_heard(question.answer, hear(decoder, lecture[start - margin : end + margin])) >= 0.8


@pytest.mark.parametrize("question", demo.questions(), ids=lambda question: question.audio_path.stem)
def test_a_spoken_question_is_heard_nearly_as_it_is_written(question: demo.DemoQuestion, decoder: Decoder) -> None:
    samples = decode(question.audio_path)
    assert 1.5 <= len(samples) / SAMPLE_RATE_HZ <= 6.0
    assert share_heard(question.text, hear(decoder, samples)) >= 0.75


def test_importing_the_demo_loads_no_sound_library() -> None:
    code = "import sys, app.demo; print(sorted({'numpy', 'av', 'soundfile', 'pocketsphinx', 'app.demo.make'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_a_script_with_an_unknown_speaker_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with one of LECTURER"):
        make.read_script("LECTURER: Good morning.\n\nROBOT: Good evening.")


def test_a_script_is_cut_into_sentences() -> None:
    (paragraph,) = make.read_script("STUDENT: Is it so? Yes, it is.\n")
    assert paragraph == make.Paragraph("STUDENT", ("Is it so?", "Yes, it is."))


def test_synthesis_is_repeatable_and_places_each_sentence(tmp_path: Path) -> None:
    for program in ("flite", "ffmpeg"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    script = make.read_script("LECTURER: The sun is hot. The moon is cold.\nSTUDENT: The sea is wide.")
    talk = make.tell(script)
    (first, second), (third,) = talk.paragraphs
    assert second.span.start - first.span.end == to_samples(make.SENTENCE_PAUSE_S)
    assert third.span.start - second.span.end == to_samples(make.PARAGRAPH_PAUSE_S)
    assert not talk.samples[first.span.end : second.span.start].any()
    assert make.find_answer(talk, "moon is cold") == second.span
    with pytest.raises(ValueError, match="it is in 2"):
        make.find_answer(talk, "The s")
    for name in ("one.opus", "two.opus"):
        make.write_opus(tmp_path / name, Audio(make.tell(script).samples))
    assert (tmp_path / "one.opus").read_bytes() == (tmp_path / "two.opus").read_bytes()


def test_a_missing_program_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="apt install flite"):
        make.speak("Hello.", "rms")


def test_the_short_lecture_has_five_paragraphs_with_pauses_between() -> None:
    samples = decode(FIXTURES / "short_lecture.opus")
    record = json.loads((FIXTURES / "short_lecture.json").read_text(encoding="utf-8"))
    assert abs(len(samples) - record["num_samples"]) <= to_samples(0.05)
    paragraphs = record["paragraphs"]
    assert len(paragraphs) == 5
    for paragraph, following in itertools.pairwise(paragraphs):
        end, start = to_samples(paragraph["end_s"]), to_samples(following["start_s"])
        assert start - end == pytest.approx(SAMPLE_RATE_HZ, abs=320)
        assert level(samples[end + 800 : start - 800]) < 0.01
        assert level(samples[start : start + SAMPLE_RATE_HZ]) > 0.05


@pytest.mark.parametrize(
    ("name", "words"), [("short_question.wav", {"human", "heart", "beat"}), ("off_topic_question.wav", {"largest", "planet", "solar"})]
)
def test_a_spoken_fixture_is_heard(name: str, words: set[str], decoder: Decoder) -> None:
    with soundfile.SoundFile(FIXTURES / name) as sound:
        assert (sound.samplerate, sound.channels, sound.subtype) == (SAMPLE_RATE_HZ, 1, "PCM_16")
    assert words <= set(hear(decoder, decode(FIXTURES / name)))
