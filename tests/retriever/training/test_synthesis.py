"""Speech made to order, by the engines that are installed."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.domain import SAMPLE_RATE_HZ
from retriever.pronunciations import PHONES
from retriever.training import _espeak, _festival, _flite
from retriever.training.speech_shards import SILENCE
from retriever.training.synthesis import (
    Engine,
    Manner,
    Speech,
    SynthesiserMissing,
    Unspeakable,
    Voice,
    check_voices,
    choose_delivery,
    speak,
    speak_each,
)

TEXT = "the heart is a pump, and it never rests, said doctor fox."


def is_there(engine: Engine, *names: str) -> bool:
    try:
        check_voices(engine, names)
    except SynthesiserMissing:
        return False
    return True


needs_flite = pytest.mark.skipif(not is_there("flite"), reason="flite is not installed")
needs_espeak = pytest.mark.skipif(not is_there("espeak"), reason="espeak-ng is not installed")
needs_festival = pytest.mark.skipif(not is_there("festival", "kal"), reason="Festival's kal is not installed")


def assert_phones_fit(speech: Speech) -> None:
    assert speech.phones is not None
    ends = [phone.end for phone in speech.phones]
    assert ends[-1] == speech.audio.num_samples
    assert ends == sorted(ends)
    assert ends[0] > 0
    assert {phone.name for phone in speech.phones} <= {*PHONES, SILENCE}


def loudness(speech: Speech, name: str) -> float:
    """Return the root mean square of the samples in all phones of a name."""
    assert speech.phones is not None
    starts = [0, *(phone.end for phone in speech.phones)]
    parts = [speech.audio.samples[start : phone.end] for start, phone in zip(starts, speech.phones, strict=False) if phone.name == name]
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))


@needs_flite
@pytest.mark.parametrize("name", _flite.VOICE_LIBRARIES)
def test_flite_tells_when_each_phone_ends_and_silence_is_silent(name: str) -> None:
    speech = speak(Voice("flite", name), TEXT)
    assert_phones_fit(speech)
    assert speech.phones is not None
    heard = [phone.name for phone in speech.phones if phone.name != SILENCE]
    assert heard[2:6] == ["hh", "aa", "r", "t"]
    assert speech.phones[0].name == speech.phones[-1].name == SILENCE
    assert loudness(speech, SILENCE) < 0.1 * loudness(speech, "aa")
    speech_end = float(np.flatnonzero(np.abs(speech.audio.samples) > 0.03 * np.abs(speech.audio.samples).max())[-1])
    assert speech.phones[-2].end == pytest.approx(speech_end, abs=0.06 * SAMPLE_RATE_HZ)


@needs_flite
@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(list(_flite.VOICE_LIBRARIES)),
    st.lists(st.sampled_from(["water", "on", "nineteen", "fox's", "d", "a", "quickly,", "school,", "of"]), min_size=1, max_size=5).map(
        " ".join
    ),
    st.floats(0.8, 1.25),
    st.floats(0.75, 1.33),
)
def test_flites_phones_end_with_the_sound_at_any_speed_and_pitch(name: str, text: str, stretch: float, pitch: float) -> None:
    assert_phones_fit(speak(Voice("flite", name), text.strip(","), Manner(stretch, pitch)))


def pitch_hz(speech: Speech) -> float:
    """Return the median fundamental frequency between 60 and 400 Hz by autocorrelation of loud frames."""
    found = []
    samples = speech.audio.samples.astype(np.float64)
    for start in range(0, len(samples) - 1024, 512):
        frame = samples[start : start + 1024]
        power = np.correlate(frame, frame, "full")[1023:]
        lag = int(power[40:266].argmax()) + 40
        if power[0] > 5.0 and power[lag] > 0.5 * power[0]:
            found.append(SAMPLE_RATE_HZ / lag)
    return float(np.median(found))


@needs_flite
@pytest.mark.parametrize("name", ["slt", "kal16"])
def test_flite_speaks_slower_and_higher_by_the_factors_asked_for(name: str) -> None:
    plain, other = speak(Voice("flite", name), TEXT), speak(Voice("flite", name), TEXT, Manner(1.25, 1.2))
    assert other.audio.num_samples == pytest.approx(1.25 * plain.audio.num_samples, rel=0.03)
    assert pitch_hz(other) == pytest.approx(1.2 * pitch_hz(plain), rel=0.06)


@needs_espeak
def test_espeak_has_every_accent_and_speaker_that_is_drawn() -> None:
    texts = ["water"]
    for accent in _espeak.ACCENTS:
        assert speak_each(Voice("espeak", f"{accent}+m1"), texts)[0] is not None
    sounds = {speak(Voice("espeak", f"us+{speaker}"), "water").audio.samples.tobytes() for speaker in _espeak.SPEAKERS}
    assert len(sounds) > 0.9 * len(_espeak.SPEAKERS)  # a speaker that is not there would sound like the neutral one


@needs_espeak
def test_espeak_speaks_at_16_khz_slower_when_stretched_and_higher_when_asked() -> None:
    voice = Voice("espeak", "gb+f3")
    first, slow = speak(voice, TEXT), speak(voice, TEXT, Manner(1.25))
    assert slow.audio.num_samples > 1.1 * first.audio.num_samples
    assert first.phones is None
    assert 2.0 < first.audio.duration_s < 6.0
    assert pitch_hz(speak(voice, TEXT, Manner(pitch=1.3))) > 1.1 * pitch_hz(speak(voice, TEXT, Manner(pitch=0.8)))


def test_resampling_keeps_a_tone_and_drops_what_16_khz_cannot_hold() -> None:
    times = np.arange(22_050) / 22_050
    kept, lost = (np.sin(2 * np.pi * hz * times).astype(np.float32) for hz in (1_000, 9_500))
    tone = _espeak.resample((kept / 2 + lost / 2).astype(np.float32), 22_050)
    assert len(tone) == SAMPLE_RATE_HZ
    wanted = np.sin(2 * np.pi * 1_000 * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ) / 2
    assert np.abs(tone - wanted)[500:-500].max() < 0.01


@needs_festival
def test_festival_says_several_lines_with_phones_in_one_go() -> None:
    first, second = speak_each(Voice("festival", "kal"), ["the heart is a pump.", "fox's water"])
    assert first is not None
    assert second is not None
    assert_phones_fit(first)
    assert_phones_fit(second)
    assert first.phones is not None
    assert [phone.name for phone in first.phones if phone.name != SILENCE][2:6] == ["hh", "aa", "r", "t"]


@needs_flite
@pytest.mark.parametrize("text", ["", 'a") (quit', "Heart", "12 hens", "naïve"])
def test_only_plain_words_reach_an_engine(text: str) -> None:
    with pytest.raises(Unspeakable, match="lower case"):
        speak(Voice("flite", "slt"), text)


def test_a_missing_engine_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: str) -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(_flite, "load_voice", absent)
    monkeypatch.setattr(_espeak, "load", absent)
    monkeypatch.setattr(_festival, "VOICE_FOLDERS", ())
    with pytest.raises(SynthesiserMissing, match="apt install flite"):
        speak(Voice("flite", "slt"), "water")
    with pytest.raises(SynthesiserMissing, match="apt install libespeak-ng1"):
        speak(Voice("espeak", "us+m1"), "water")
    with pytest.raises(SynthesiserMissing, match="festvox-us-slt-hts"):
        speak(Voice("festival", "hts"), "water")


def test_a_delivery_is_drawn_from_the_seed_and_never_from_the_voices_kept_for_reports() -> None:
    for engine in ("flite", "espeak"):
        rng = random.Random(3)
        drawn = [choose_delivery(engine, rng) for _ in range(200)]
        assert drawn == [choose_delivery(engine, again) for again in [random.Random(3)] for _ in range(200)]
        assert all(0.8 <= manner.stretch <= 1.25 and 0.75 <= manner.pitch <= 1.33 for _, manner in drawn)
        assert len({voice for voice, _ in drawn}) >= 4
    with pytest.raises(ValueError, match="kept for reports"):
        choose_delivery("festival", random.Random(0))
