"""Speaking, noise and kept work."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CommandMisused, DataSetUnusable
from app.evaluation.cache import LineCache
from app.evaluation.festival import SENTENCE_GAP_S, VOICES, speak, speakable, split_sentences
from app.evaluation.sets.loading import load_set
from app.evaluation.sounds import Noise, add_noise, noise_files, read_sound
from app.evaluation.speak import chosen, make, read_written
from app.evaluation.systems import Source, parse_systems
from app.settings import Settings
from retriever.domain import SAMPLE_RATE_HZ, Audio, to_samples

PASSAGE = "In 1906 the bees built 12 combs. Dr. Ann Lee counted them twice!"


def has_voice(voice: str) -> bool:
    if shutil.which("festival") is None:
        return False
    listed = subprocess.run(["festival", "--pipe"], input="(print (voice.list))", capture_output=True, text=True, check=False)
    return VOICES[voice].removeprefix("voice_") in listed.stdout


needs_festival = pytest.mark.skipif(not has_voice("kal"), reason="festival with the voice kal_diphone is not installed")


@given(st.text(max_size=200))
def test_whatever_is_written_becomes_plain_ascii_without_quotes(text: str) -> None:
    plain = speakable(text)
    assert plain.isascii()
    assert not set(plain) & set('"\\')
    assert " ".join(split_sentences(plain)).split() == [w for piece in split_sentences(plain) for w in piece.split()]


def test_accents_dashes_and_fractions_are_said() -> None:
    assert speakable("Bre\u017enev \u2013 \u201c5\u00bd\u201d") == "Breznev , 5 1/2"


def test_titles_and_initials_end_no_sentence() -> None:
    assert split_sentences(PASSAGE) == ["In 1906 the bees built 12 combs.", "Dr. Ann Lee counted them twice!"]


@needs_festival
def test_every_word_that_is_said_has_its_place() -> None:
    spoken = speak(PASSAGE, "kal")
    words = [word.text for word in spoken.words]
    assert words[:8] == ["in", "nineteen", "o", "six", "the", "bees", "built", "twelve"]
    assert all(one.end <= other.start for one, other in zip(spoken.words, spoken.words[1:], strict=False))
    assert spoken.words[-1].end <= spoken.audio.num_samples
    assert len(spoken.sentences) == 2
    gap = spoken.audio.samples[spoken.sentences[1] - to_samples(SENTENCE_GAP_S) : spoken.sentences[1]]
    assert not gap.any()
    for word in spoken.words:  # where a word is said it is louder than the gap
        assert np.abs(spoken.audio.samples[word.start : word.end]).max() > 0.01


@needs_festival
def test_a_spoken_set_is_made_once_and_read_by_its_loader(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{n}",
            "title": "Bees",
            "context": PASSAGE,
            "question": f"Who counted comb {n}?",
            "answers": [{"text": "Ann", "start": 37}],
        }
        for n in range(3)
    ]
    (tmp_path / "written.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = chosen(read_written(tmp_path / "written.jsonl"), 2, seed=0)
    assert len(asked) == 2
    assert chosen(read_written(tmp_path / "written.jsonl"), 2, seed=0) == asked
    made = make(asked, tmp_path / "set", "kal")
    found = load_set(str(tmp_path / "set"))
    assert len(found.contexts) == 1
    assert found.has_sound
    assert found.has_spoken_questions
    assert found.contexts[0].said[1].text == "nineteen"
    assert made.seconds == pytest.approx(sum(read_sound(one.sounds).duration_s for one in (*found.contexts, *found.questions)), abs=0.01)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "set" / "audio").iterdir()}
    make(asked, tmp_path / "set", "kal")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set" / "audio").iterdir()} == before


def test_an_unknown_voice_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataSetUnusable, match="slt-hts"):
        speak("Bees.", "nobody")


def tone(num_samples: int = SAMPLE_RATE_HZ) -> Audio:
    return Audio((0.3 * np.sin(np.arange(num_samples) * 0.1)).astype(np.float32))


@given(st.floats(-5, 40), st.text(min_size=1, max_size=5))
def test_noise_has_the_power_that_was_asked_for(snr_db: float, key: str) -> None:
    audio = tone()
    noisy = add_noise(audio, Noise(snr_db), key).samples.astype(np.float64)
    scale = float(np.dot(noisy, audio.samples) / np.dot(audio.samples, audio.samples))  # of the sound within the mixture
    noise = noisy - scale * audio.samples
    found = 10 * np.log10(np.mean((scale * audio.samples) ** 2) / np.mean(noise**2))
    assert found == pytest.approx(snr_db, abs=0.7)  # noise and tone are not quite orthogonal
    assert np.abs(noisy).max() <= 1.0


def test_the_same_key_gives_the_same_noise_and_another_gives_other() -> None:
    audio = tone()
    first, again, other = (add_noise(audio, Noise(10.0), key).samples for key in ("a", "a", "b"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert add_noise(audio, Noise(), "a") is audio


def test_recorded_noise_is_repeated_where_it_is_short(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hum.flac", (0.1 * np.sin(np.arange(1_000))).astype(np.float32), SAMPLE_RATE_HZ)
    noise = Noise(0.0, noise_files(tmp_path))
    added = add_noise(tone(), noise, "a").samples - tone().samples
    assert np.allclose(added[:2_000][:1_000], added[1_000:2_000], atol=1e-3)
    with pytest.raises(DataSetUnusable, match="no FLAC"):
        noise_files(tmp_path / "hum.flac")


def test_files_of_one_context_are_put_together_with_pauses(tmp_path: Path) -> None:
    for name, rate_hz in (("a", SAMPLE_RATE_HZ), ("b", 24_000)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(rate_hz, 0.25, np.float32), rate_hz)
    together = read_sound((tmp_path / "a.wav", tmp_path / "b.wav"))
    assert together.duration_s == pytest.approx(2.3, abs=0.01)
    assert not together.samples[SAMPLE_RATE_HZ + 100 : to_samples(1.29)].any()


def test_kept_work_survives_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "work.jsonl"
    cache = LineCache(path)
    cache.add({"id": "a", "value": 1})
    cache.add({"id": "b", "value": 2})
    path.write_bytes(path.read_bytes()[:-5])
    again = LineCache(path)
    assert "a" in again
    assert "b" not in again
    again.add({"id": "b", "value": 3})
    assert [row["value"] for row in LineCache(path)] == [1, 3]


def test_systems_are_named_by_kind_weights_and_source(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    text, whole, cascade, named = parse_systems("text, text-whole,cascade,narrow=cascade+num_candidates=7@said", settings)
    assert (text.source, whole.source, cascade.source) == (Source.SAID, Source.TEXT, Source.SOUND)
    assert text.retriever == settings.retriever
    assert (named.name, named.source, named.retriever.num_candidates) == ("narrow", Source.SAID, 7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("", "different names"),
        ("cascade,cascade", "different names"),
        ("a=b=c", "no system"),
        ("cascade+kind=7", "no number"),
        ("cascade+num_workers=many", "give a number"),
        ("cascade:absent-folder", "no folder"),
    ],
)
def test_a_system_that_makes_no_sense_is_refused(wrong: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CommandMisused, match=message):
        parse_systems(wrong, Settings(home=tmp_path))


def test_other_weights_for_a_kind_that_has_none_are_refused(tmp_path: Path) -> None:
    (system,) = parse_systems(f"mine=cascade:{tmp_path}", Settings(home=tmp_path))
    with pytest.raises(CommandMisused, match="ships with it"):
        system.build()
