"""Segments of sound that is not kept have all of their sound."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from app.listening import cut_segments
from retriever.audio import read_audio
from retriever.config import AudioLimits, SpeechPauses
from retriever.domain import SAMPLE_RATE_HZ, Samples
from retriever.segmentation import PauseSegmenter


def in_blocks(sound: Samples) -> Iterator[Samples]:
    for start in range(0, len(sound), SAMPLE_RATE_HZ):
        yield sound[start : start + SAMPLE_RATE_HZ]


def test_speech_before_and_after_minutes_of_silence_is_cut_whole(short_lecture: Path) -> None:
    speech = read_audio(short_lecture, AudioLimits(), 120.0).samples[: 12 * SAMPLE_RATE_HZ]
    sound = np.concatenate([speech, np.zeros(240 * SAMPLE_RATE_HZ, np.float32), speech])
    segments = list(cut_segments(in_blocks(sound), PauseSegmenter(SpeechPauses())))
    assert len(segments) == 2
    for one in segments:
        np.testing.assert_array_equal(one.audio.samples, sound[one.segment.start : one.segment.end])
