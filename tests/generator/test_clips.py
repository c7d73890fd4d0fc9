"""Clips are cut where nobody speaks, joined so that every moment can be found again, and never lose anything unsaid."""

import base64
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from generator.clips import GAP_S, LeftOut, cut_at_pauses, plan_sounds, plan_words, quietest, to_base64, to_wav
from generator.domain import Evidence
from generator.errors import ClipUnavailable, PromptTooLong
from generator.families import named_family
from retriever.domain import SAMPLE_RATE_HZ, Audio, Hit, HitFeatures, Segment, Span, Word, to_samples

LECTURE_ID = UUID("6d1f3f0c-0000-4000-8000-000000000003")
QWEN = named_family("qwen2-audio")
GEMMA = named_family("gemma-3n")
SHORT = replace(QWEN, max_clip_s=10.0)


def noise(seconds: float, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, to_samples(seconds)).astype(np.float32)


def with_pauses(*seconds: float) -> np.ndarray:
    """Noise, with 0.3 s of near silence around each of these moments."""
    samples = noise(30.0)
    for moment in seconds:
        samples[to_samples(moment - 0.15) : to_samples(moment + 0.15)] *= 0.001
    return samples


def heard(samples: np.ndarray, rank: int = 0, title: str = "On bread") -> Evidence:
    start = rank * 100 * SAMPLE_RATE_HZ
    segment = Segment(LECTURE_ID, start, start + len(samples), LECTURE_ID)
    words = (Word("bread", start, start + 100), Word("is", start + 100, start + 200))
    hit = Hit(segment, 1.0, HitFeatures(0.6, 12.0, 0.8, 0.4))
    return Evidence(hit, title, words, (), (), lambda: Audio(samples))


def seconds_of(ranges: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(start / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for start, end in ranges]


# Cutting


def test_a_sound_that_fits_is_not_cut() -> None:
    assert cut_at_pauses(noise(30.0), to_samples(30.0)) == [(0, to_samples(30.0))]


def test_a_sound_is_cut_in_its_pauses() -> None:
    cuts = [end for _, end in seconds_of(cut_at_pauses(with_pauses(3.0, 9.0, 17.5, 25.0), to_samples(10.0)))[:-1]]
    assert cuts == pytest.approx([9.0, 17.5, 25.0], abs=0.15)


LONG = noise(60.0)


@given(st.floats(0.0, 60.0), st.floats(1.5, 30.0))
def test_ranges_are_the_whole_sound_in_order_and_none_is_too_long(length_s: float, max_s: float) -> None:
    samples = LONG[: to_samples(length_s)]
    ranges = cut_at_pauses(samples, to_samples(max_s))
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(samples)
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert all(end - start <= to_samples(max_s) for start, end in ranges)


def test_the_quietest_moment_is_found_in_silence_as_well() -> None:
    assert quietest(np.zeros(16_000, np.float32)) > 8_000  # the last of equals: parts as long as can be
    assert quietest(np.zeros(3, np.float32)) == 1


# Several sounds


def test_each_moment_is_a_clip_with_its_whole_sound() -> None:
    evidence = [heard(noise(20.0), 0), heard(noise(30.0), 1)]
    sending = plan_sounds(None, evidence, QWEN, 5)
    assert [(clip.number, clip.span) for clip in sending.clips] == [(1, evidence[0].segment.span), (2, evidence[1].segment.span)]
    assert sending.left_out == ()
    assert sending.joined is None
    np.testing.assert_array_equal(sending.clips[1].audio.samples, evidence[1].load_audio().samples)


def test_a_moment_longer_than_the_model_takes_goes_out_whole_in_parts() -> None:
    one = heard(noise(28.0), 1)
    sending = plan_sounds(None, [one], SHORT, 5)
    assert len(sending.clips) >= 3
    assert [clip.number for clip in sending.clips] == list(range(1, len(sending.clips) + 1))
    assert all(clip.audio.duration_s <= 10.0 for clip in sending.clips)
    assert sending.clips[0].span.start == one.segment.start
    assert sending.clips[-1].span.end == one.segment.end
    np.testing.assert_array_equal(np.concatenate([clip.audio.samples for clip in sending.clips]), one.load_audio().samples)


def test_what_is_more_than_the_model_hears_at_once_is_listed_with_the_reason() -> None:
    evidence = [heard(noise(8.0), rank) for rank in range(6)]
    sending = plan_sounds(Audio(noise(3.0)), evidence, replace(QWEN, max_clips=4), 5)
    assert len(sending.clips) == 3  # the question is a sound too
    assert len(sending.question) == 1
    assert {(one.span, one.reason) for one in sending.left_out} == {
        (evidence[5].segment.span, "the setting max_clips sends 5 at most"),
        (evidence[3].segment.span, "Qwen2-Audio hears 4 sounds at once"),
        (evidence[4].segment.span, "Qwen2-Audio hears 4 sounds at once"),
    }


def test_a_long_question_goes_out_in_parts() -> None:
    question = noise(55.0)
    sending = plan_sounds(Audio(question), [heard(noise(8.0))], QWEN, 5)
    assert all(part.duration_s <= 30.0 for part in sending.question)
    np.testing.assert_array_equal(np.concatenate([part.samples for part in sending.question]), question)


def test_a_question_that_leaves_no_room_for_clips_is_refused_with_a_way_out() -> None:
    with pytest.raises(PromptTooLong, match="type it"):
        plan_sounds(Audio(noise(55.0)), [heard(noise(8.0))], replace(QWEN, max_clips=2), 5)
    with pytest.raises(PromptTooLong, match=r"28 s and Gemma 3n hears 30 s in all"):
        plan_sounds(Audio(noise(27.5)), [heard(noise(8.0))], GEMMA, 5)


def test_a_very_short_sound_is_made_long_enough_to_be_heard() -> None:
    sending = plan_sounds(Audio(noise(0.01)), [heard(noise(0.02))], QWEN, 5)
    assert sending.clips[0].audio.duration_s == sending.question[0].duration_s == 0.5
    assert sending.clips[0].span == Span(0, 320)  # it is cited as it is


def test_a_sound_that_cannot_be_read_is_left_out_and_the_others_go() -> None:
    def gone() -> Audio:
        raise ClipUnavailable("the file is gone; add the lecture again")

    lost = replace(heard(noise(8.0), 0, "Lost"), load_audio=gone)
    sending = plan_sounds(None, [lost, heard(noise(8.0), 1)], QWEN, 5)
    assert [clip.span.start for clip in sending.clips] == [100 * SAMPLE_RATE_HZ]
    assert sending.left_out == (LeftOut("Lost", lost.segment.span, "its sound cannot be read: the file is gone; add the lecture again"),)
    assert str(sending.left_out[0]).startswith("“Lost” 00:00–00:08 (")


# One sound


def test_single_sound_models_get_all_clips_joined_and_every_second_leads_back() -> None:
    evidence = [heard(noise(8.0, seed), seed) for seed in range(3)]
    sending = plan_sounds(Audio(noise(2.0, 9)), evidence, GEMMA, 5)
    assert sending.joined is not None
    assert sending.joined.duration_s == pytest.approx(2.0 + 3 * 8.0 + 3 * GAP_S)
    assert sending.question == ()  # it is in the joined sound
    for place, clip in zip(sending.places, sending.clips, strict=True):
        np.testing.assert_array_equal(sending.joined.samples[place.start : place.end], clip.evidence.load_audio().samples)
    found = [sending.clip_at(second) for second in (1.0, 3.0, 12.0, 25.0, 40.0)]
    assert [clip.number if clip else None for clip in found] == [None, 1, 2, 3, None]


def test_what_does_not_fit_into_one_sound_is_cut_at_a_pause_and_the_rest_is_listed() -> None:
    evidence = [heard(noise(18.0), 0), heard(with_pauses(9.0), 1), heard(noise(8.0), 2)]
    sending = plan_sounds(None, evidence, GEMMA, 5)
    assert sending.joined is not None
    assert sending.joined.duration_s <= 30.0
    cut = sending.clips[1].span
    assert (cut.end - cut.start) / SAMPLE_RATE_HZ == pytest.approx(9.0, abs=0.15)
    assert sending.left_out[0].span == Span(cut.end, evidence[1].segment.end)
    assert sending.left_out[-1].span == evidence[2].segment.span or len(sending.clips) == 3
    sent = {clip.evidence.segment: clip.span.num_samples for clip in sending.clips}
    lost = sum(one.span.num_samples for one in sending.left_out)
    assert sum(sent.values()) + lost == sum(one.segment.span.num_samples for one in evidence)  # nothing is lost unsaid


# Words and bytes


def test_words_are_sent_of_moments_in_which_some_were_heard() -> None:
    spoken, silent = heard(noise(8.0), 0), replace(heard(noise(8.0), 1), words=())
    sending = plan_words([spoken, silent], 5)
    assert [clip.audio for clip in sending.clips] == [None]
    assert [one.reason for one in sending.left_out] == ["no words were heard in it"]


@given(st.lists(st.floats(-1.0, 1.0, width=32), max_size=200))
def test_wav_files_are_read_back_by_others_to_16_bits(samples: list[float]) -> None:
    audio = Audio(np.array(samples, np.float32))
    read, rate = soundfile.read(io.BytesIO(to_wav(audio)), dtype="int16")
    assert rate == SAMPLE_RATE_HZ
    np.testing.assert_allclose(read / 32767.0, audio.samples, atol=1 / 32767)
    assert base64.b64decode(to_base64(audio)) == to_wav(audio)


def test_real_speech_is_cut_between_words(speak, tmp_path: Path) -> None:
    sentences = (
        "The heart beats every day. It pushes blood through the arteries. Bread is made of flour. The baker prepares it in the evening."
    )
    path = speak(sentences, tmp_path / "speech.wav")
    samples, rate = soundfile.read(path, dtype="float32")
    speech = np.interp(np.arange(0, len(samples), rate / SAMPLE_RATE_HZ), np.arange(len(samples)), samples).astype(np.float32)
    loudness = np.sqrt(np.mean(np.square(speech)))
    ranges = cut_at_pauses(speech, to_samples(4.0))
    assert len(ranges) > 1
    for _, cut in ranges[:-1]:
        around = speech[cut - 800 : cut + 800]
        assert np.sqrt(np.mean(np.square(around))) < 0.1 * loudness
