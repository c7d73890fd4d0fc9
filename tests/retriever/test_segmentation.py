"""Laws of segmentation: on made-up speech probabilities, where the truth is known exactly, and on synthesised speech."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever import judging, segmentation
from retriever.audio import read_audio
from retriever.config import AudioLimits, FixedWindows, SpeechPauses
from retriever.domain import SAMPLE_RATE_HZ, Samples, Span, to_samples
from retriever.errors import InvalidSegment, SegmentationFailed
from retriever.packing import FAR_APART, FRAME_SAMPLES, Frame, pack_speech
from retriever.segmentation import PauseSegmenter, WindowSegmenter

CONFIG = SpeechPauses()
MAX = to_samples(CONFIG.max_segment_s)
MIN = to_samples(CONFIG.min_segment_s)
TARGET = to_samples(CONFIG.target_segment_s)
PAD = to_samples(CONFIG.pad_ms / 1000)
MIN_PAUSE_FRAMES = 4  # 100 ms, rounded up to frames of 32 ms


def frames_of(lengths: list[tuple[int, int]]) -> list[Frame]:
    """Return frames of alternating speech of uneven loudness and silence, given as numbers of frames."""
    speech, silence = [Frame(0.9, 0.001 * (1 + i * 7919 % 101)) for i in range(101)], Frame(0.05, 0.0)
    return [frame for spoken, quiet in lengths for frame in [speech[i % 101] for i in range(spoken)] + [silence] * quiet]


def in_seconds(*lengths: tuple[float, float]) -> list[Frame]:
    per_second = SAMPLE_RATE_HZ / FRAME_SAMPLES
    return frames_of([(round(spoken * per_second), round(quiet * per_second)) for spoken, quiet in lengths])


def runs_of(frames: list[Frame]) -> list[Span]:
    """Return the runs of speech between pauses, unpadded: the slow reference."""
    spoken = [i for i, frame in enumerate(frames) if frame.probability >= CONFIG.threshold]
    runs: list[list[int]] = []
    for i in spoken:
        if runs and i - runs[-1][1] < MIN_PAUSE_FRAMES:
            runs[-1][1] = i + 1
        else:
            runs.append([i, i + 1])
    return [Span(start * FRAME_SAMPLES, end * FRAME_SAMPLES) for start, end in runs]


def pack(frames: list[Frame]) -> list[Span]:
    return list(pack_speech(frames, CONFIG))


alternations = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 40), st.integers(1, 400), st.integers(900, 3000)),
        st.one_of(st.integers(1, 12), st.integers(1, 60), st.integers(100, 1500)),
    ),
    max_size=40,
)


@given(alternations)
def test_no_speech_is_dropped(lengths: list[tuple[int, int]]) -> None:
    frames = frames_of(lengths)
    covered = np.zeros(len(frames) * FRAME_SAMPLES, bool)
    for span in pack(frames):
        covered[span.start : span.end] = True
    for i, frame in enumerate(frames):
        if frame.probability >= CONFIG.threshold:
            assert covered[i * FRAME_SAMPLES : (i + 1) * FRAME_SAMPLES].all()


@given(alternations)
def test_spans_are_in_order_apart_within_the_sound_and_at_most_30_s(lengths: list[tuple[int, int]]) -> None:
    frames = frames_of(lengths)
    spans = pack(frames)
    assert all(span.num_samples <= MAX for span in spans)
    assert all(before.end <= after.start for before, after in itertools.pairwise(spans))
    assert not spans or (spans[0].start >= 0 and spans[-1].end <= len(frames) * FRAME_SAMPLES)


@given(alternations)
def test_speech_that_fits_into_a_segment_is_never_cut(lengths: list[tuple[int, int]]) -> None:
    frames = frames_of(lengths)
    edges = {edge for span in pack(frames) for edge in (span.start, span.end)}
    for run in runs_of(frames):
        if run.num_samples + 2 * PAD <= MAX:
            assert not any(run.start < edge < run.end for edge in edges)


@given(alternations)
def test_speech_that_has_to_be_cut_leaves_no_short_pieces(lengths: list[tuple[int, int]]) -> None:
    frames = frames_of(lengths)
    spans = pack(frames)
    for run in runs_of(frames):
        if run.num_samples > MAX:
            inside = [span for span in spans if span.start < run.end and run.start < span.end]
            assert len(inside) >= 2
            assert all(span.num_samples >= MIN for span in inside[1:-1])
            assert inside[-1].end - max(inside[-1].start, run.start) >= MIN


@given(alternations)
def test_a_short_segment_stands_alone_only_where_it_fits_nowhere(lengths: list[tuple[int, int]]) -> None:
    for before, after in itertools.pairwise(pack(frames_of(lengths))):
        if min(before.num_samples, after.num_samples) < MIN:
            assert after.end - before.start > MAX


@given(alternations)
def test_no_more_silence_than_the_padding_surrounds_speech(lengths: list[tuple[int, int]]) -> None:
    frames = frames_of(lengths)
    runs = runs_of(frames)
    starts, ends = [run.start for run in runs], [run.end for run in runs]
    for span in pack(frames):
        first = min(run.end for run in runs if run.end > span.start)
        last = max(run.start for run in runs if run.start < span.end)
        assert span.start >= starts[ends.index(first)] - PAD
        assert span.end <= ends[starts.index(last)] + PAD


@given(st.integers(160, 900), st.integers(-(-FAR_APART // FRAME_SAMPLES) + 10, 2000), st.integers(160, 900))
def test_stretches_of_speech_far_apart_never_share_a_segment(first: int, silence: int, second: int) -> None:
    spans = pack(frames_of([(first, silence), (second, 0)]))
    assert len(spans) == 2


@given(st.integers(-1, 30), st.integers(0, 300))
def test_a_segment_ends_at_the_longest_pause_within_reach(which: int, seed: int) -> None:
    """Sentences of 1 s with pauses of 0.2 s; one pause after 15 to 29 s is longer."""
    before_target, fitting = 13, 24  # sentences in 15 s and 30 s
    longest = before_target + which % (fitting - before_target)
    lengths = [(31, 20 if i == longest - 1 else 6) for i in range(60)]
    first = pack(frames_of(lengths))[0]
    end = runs_of(frames_of(lengths))[longest - 1].end
    assert first.end == end + PAD


def test_a_rest_too_short_to_stand_alone_is_not_left_over() -> None:
    spans = pack(in_seconds((10, 0.3), (10, 0.3), (8, 1.0), (3, 0)))  # 32.6 s; the longest pause would leave 3 s
    assert [span.num_samples >= MIN for span in spans] == [True, True]


def test_a_short_remark_between_silences_joins_its_neighbour() -> None:
    spans = pack(in_seconds((16, 6), (2, 8), (20, 0)))
    assert len(spans) == 2
    assert spans[0].num_samples > to_samples(16 + 6 + 2)


def test_a_short_pause_is_shared_by_the_segments_beside_it() -> None:
    first, second = pack(frames_of([(500, 6), (500, 0)]))
    assert first.end == second.start == 503 * FRAME_SAMPLES


def test_speech_without_pauses_is_cut_where_it_is_least_likely() -> None:
    frames = [Frame(0.9, 0.01) for _ in range(1500)]
    frames[700] = Frame(0.6, 0.01)
    first, second = pack(frames)
    assert first.end == second.start == 700 * FRAME_SAMPLES + FRAME_SAMPLES // 2


def test_equally_likely_speech_is_cut_where_it_is_quietest() -> None:
    frames = [Frame(0.99, 0.01) for _ in range(1500)]
    frames[650] = Frame(0.98, 0.0001)
    first, second = pack(frames)
    assert first.end == second.start == 650 * FRAME_SAMPLES + FRAME_SAMPLES // 2


def test_a_dip_above_the_lower_threshold_is_no_pause() -> None:
    frames = [Frame(0.9, 0.01)] * 200 + [Frame(0.4, 0.01)] * 20 + [Frame(0.9, 0.01)] * 800 + [Frame(0.05, 0.0)] * 20
    assert pack(frames)[0].num_samples > 220 * FRAME_SAMPLES


@pytest.mark.parametrize(("silence_frames", "num_spans"), [(0, 200), (8, 200), (12_000, 10)])
def test_segments_come_while_the_sound_goes_on(silence_frames: int, num_spans: int) -> None:
    """Endless speech, without pauses, with short ones and with ones of minutes: memory and delay stay bounded."""
    consumed = 0

    def endless() -> Iterator[Frame]:
        nonlocal consumed
        for frame in itertools.cycle(frames_of([(90, silence_frames)])):
            consumed += 1
            yield frame

    for span in itertools.islice(pack_speech(endless(), CONFIG), num_spans):
        assert consumed * FRAME_SAMPLES - span.end < 75 * SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory, speak: Callable[..., Path]) -> list[Samples]:
    """Twelve spoken sentences of 3 to 6 s, without silence around them."""
    folder = tmp_path_factory.mktemp("speech")
    sounds = []
    for i, place in enumerate(["river", "harbour", "forest", "village", "valley", "island"] * 2):
        text = f"On day {i + 1} the travellers reached the {place}, where they rested and counted what was left of their bread."
        path = speak(text, folder / f"{i}.wav", "en-gb", 140 + 5 * i)
        samples = read_audio(path, AudioLimits(), 20).samples
        loud = np.flatnonzero(np.abs(samples) > 0.01)
        sounds.append(samples[loud[0] : loud[-1] + 1])
    return sounds


def lecture_of(sentences: list[Samples], long_pauses: set[int]) -> tuple[Samples, list[int]]:
    """Join sentences with pauses of 0.4 s, and of 1.5 s after those named; return the sound and where the long pauses lie."""
    parts: list[Samples] = []
    places = []
    for i, sentence in enumerate(sentences):
        parts.append(sentence)
        pause = 1.5 if i in long_pauses else 0.4
        if i in long_pauses:
            places.append(sum(map(len, parts)) + to_samples(pause) // 2)
        parts.append(np.zeros(to_samples(pause), np.float32))
    return np.concatenate(parts), places


def test_spoken_sentences_are_cut_at_the_long_pauses_and_nowhere_in_a_word(sentences: list[Samples]) -> None:
    sound, places = lecture_of(sentences, {3, 7})
    spans = list(PauseSegmenter(CONFIG).spans([sound]))
    edges = [0, *places, len(sound)]
    assert len(spans) == 3
    for span, (before, after) in zip(spans, itertools.pairwise(edges), strict=True):
        assert before <= span.start < span.end <= after
        assert MIN < span.num_samples <= MAX
    outside = np.ones(len(sound), bool)
    for span in spans:
        outside[span.start : span.end] = False
    assert np.sum(np.square(sound[outside])) < 0.001 * np.sum(np.square(sound))


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_spans_do_not_depend_on_how_the_sound_is_divided_into_blocks(sentences: list[Samples], data: st.DataObject) -> None:
    sound, _ = lecture_of(sentences[:10], {2})
    cuts = data.draw(st.lists(st.integers(0, len(sound)), max_size=30).map(sorted))
    blocks = np.split(sound, cuts)
    assert list(PauseSegmenter(CONFIG).spans(blocks)) == list(PauseSegmenter(CONFIG).spans([sound]))
    assert list(WindowSegmenter(FixedWindows(window_s=7)).spans(blocks)) == list(WindowSegmenter(FixedWindows(window_s=7)).spans([sound]))


def test_a_word_in_the_last_partial_frame_is_kept(sentences: list[Samples]) -> None:
    sound = sentences[0][: len(sentences[0]) // 2 // FRAME_SAMPLES * FRAME_SAMPLES + 100]
    assert list(PauseSegmenter(CONFIG).spans([sound]))[-1].end == len(sound)


def test_one_segmenter_hears_each_sound_afresh(sentences: list[Samples]) -> None:
    segmenter = PauseSegmenter(CONFIG)
    first = list(segmenter.spans([sentences[0]]))
    assert list(segmenter.spans([sentences[1]]))
    assert list(segmenter.spans([sentences[0]])) == first


@pytest.mark.parametrize("kind", ["nothing", "silence", "tone", "noise", "clicks"])
def test_sound_without_speech_has_no_segments(kind: str) -> None:
    random = np.random.default_rng(1)
    time = np.arange(20 * SAMPLE_RATE_HZ)
    sounds = {
        "nothing": np.zeros(0),
        "silence": np.zeros(len(time)),
        "tone": 0.3 * np.sin(time * 0.2),
        "noise": random.normal(0, 0.1, len(time)).clip(-1, 1),
        "clicks": 0.9 * (random.random(len(time)) > 0.9999),
    }
    assert list(PauseSegmenter(CONFIG).spans([sounds[kind].astype(np.float32)])) == []


@given(st.lists(st.integers(0, 50_000), max_size=12), st.floats(0.05, 30))
@settings(deadline=None)
def test_windows_cover_a_sound_whole(lengths: list[int], window_s: float) -> None:
    blocks = [np.full(length, 0.1, np.float32) for length in lengths]
    spans = list(WindowSegmenter(FixedWindows(window_s=window_s)).spans(blocks))
    assert sum(span.num_samples for span in spans) == sum(lengths)
    assert [span.start for span in spans] == [i * to_samples(window_s) for i in range(len(spans))]


def test_a_window_is_skipped_only_if_all_of_it_is_digital_silence() -> None:
    sound = np.zeros(40 * SAMPLE_RATE_HZ, np.float32)
    sound[25 * SAMPLE_RATE_HZ : 25 * SAMPLE_RATE_HZ + 800] = 0.002  # 50 ms at -54 dBFS
    spans = list(WindowSegmenter(FixedWindows(window_s=10)).spans([sound]))
    assert spans == [Span(20 * SAMPLE_RATE_HZ, 30 * SAMPLE_RATE_HZ)]


@pytest.mark.parametrize(
    "config",
    [
        SpeechPauses(max_segment_s=31),
        SpeechPauses(min_segment_s=0),
        SpeechPauses(min_segment_s=16, target_segment_s=15),
        SpeechPauses(min_segment_s=14, target_segment_s=15, max_segment_s=20),
    ],
)
def test_lengths_that_contradict_each_other_are_refused(config: SpeechPauses) -> None:
    with pytest.raises(InvalidSegment, match="correct the segmentation settings"):
        PauseSegmenter(config)


@pytest.mark.parametrize("window_s", [0, -1, 30.1])
def test_a_window_of_no_length_or_over_30_s_is_refused(window_s: float) -> None:
    with pytest.raises(InvalidSegment, match="at most 30 s"):
        WindowSegmenter(FixedWindows(window_s=window_s))


def test_settings_are_the_configuration_as_json() -> None:
    assert json.loads(PauseSegmenter(CONFIG).settings)["target_segment_s"] == 15
    assert json.loads(WindowSegmenter(FixedWindows(window_s=12)).settings) == {"kind": "windows", "window_s": 12}


def test_the_speech_model_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value in (None, "3"):
        monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
        if value is not None:
            monkeypatch.setenv("OMP_THREAD_LIMIT", value)
        list(PauseSegmenter(CONFIG).spans([np.zeros(600, np.float32)]))
        assert os.environ.get("OMP_THREAD_LIMIT") == value


def test_a_long_sound_is_judged_by_a_process_of_its_own_exactly_as_here(sentences: list[Samples], monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.resize(np.concatenate(sentences), segmentation.APART_SAMPLES + 1_000)
    blocks = [sound[place : place + 16_000] for place in range(0, len(sound), 16_000)]
    apart = list(segmentation._judge(blocks))
    monkeypatch.setattr(segmentation, "APART_SAMPLES", len(sound) + 1)
    monkeypatch.setattr(segmentation, "_Judge", None)
    assert list(segmentation._judge(blocks)) == apart
    assert sum(frame.num_samples for frame in apart) == len(sound)


def test_where_the_judging_process_dies_the_error_says_so_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text("import sys; sys.stdin.buffer.read(100_000); sys.exit(3)")
    monkeypatch.setattr(judging, "__file__", str(dying))
    blocks = (np.zeros(SAMPLE_RATE_HZ, np.float32) for _ in range(100))
    before = psutil.Process().children()
    with pytest.raises(SegmentationFailed, match="exit status"):
        list(PauseSegmenter(CONFIG).spans(blocks))
    assert psutil.Process().children() == before


def test_who_wants_no_more_spans_leaves_no_process(sentences: list[Samples]) -> None:
    sound = np.resize(np.concatenate(sentences), 2 * segmentation.APART_SAMPLES)
    before = psutil.Process().children()
    spans = PauseSegmenter(CONFIG).spans(sound[place : place + 16_000] for place in range(0, len(sound), 16_000))
    next(spans)
    assert len(psutil.Process().children()) == len(before) + 1
    del spans
    assert psutil.Process().children() == before
