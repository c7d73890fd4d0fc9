import importlib
import importlib.util

import numpy as np
import pytest

from retriever.domain import Samples
from retriever.features import NUM_BANDS, filter_banks, stacked

kaldi = pytest.mark.skipif(importlib.util.find_spec("kaldi_native_fbank") is None, reason="kaldi-native-fbank is not here (extra `dev`)")


def sound(num_samples: int) -> Samples:
    """A voice-like sum of harmonics that rise and fall, with noise."""
    times = np.arange(num_samples) / 16_000
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 3 * times)) / 16_000
    harmonics = sum(np.sin(number * pitch) / number for number in range(1, 30))
    noise = np.random.default_rng(1).normal(0, 1e-3, num_samples)
    return (0.1 * harmonics * (1.2 + np.sin(2 * np.pi * times)) + noise).astype(np.float32)


def by_kaldi(samples: Samples) -> np.ndarray:
    kaldi_native_fbank = importlib.import_module("kaldi_native_fbank")
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges, options.frame_opts.window_type = 0.0, False, "hamming"
    options.mel_opts.num_bins = NUM_BANDS
    peer = kaldi_native_fbank.OnlineFbank(options)
    peer.accept_waveform(16_000, samples * 32_768)
    peer.input_finished()
    return np.array([peer.get_frame(i) for i in range(peer.num_frames_ready)], np.float32).reshape(-1, NUM_BANDS)


@kaldi
@pytest.mark.parametrize("num_samples", [0, 79, 80, 81, 160, 239, 240, 399, 400, 401, 1_000, 41_000, 48_079, 48_080])
def test_the_bands_are_those_of_kaldi_at_every_length(num_samples: int) -> None:
    samples = sound(num_samples)
    expected = by_kaldi(samples)
    found = filter_banks(samples)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)


@kaldi
@pytest.mark.parametrize("samples", [np.zeros(8_000, np.float32), np.full(8_000, 0.5, np.float32), np.ones(500, np.float32)])
def test_a_sound_without_change_is_the_floor_of_kaldi_not_minus_infinity(samples: Samples) -> None:
    found = filter_banks(samples)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, by_kaldi(samples), atol=1e-4)


def test_the_bands_are_those_that_training_computes() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")
    filterbank = pytest.importorskip("retriever.training.filterbank", reason="training's filter banks")
    samples = sound(48_123)
    trained_on = filterbank.filterbank(torch.from_numpy(samples)[None], np.ones(1))[0].numpy()
    np.testing.assert_allclose(filter_banks(samples), trained_on, atol=2e-3)


@pytest.mark.parametrize("num_frames", [*range(1, 20), 100])
def test_frames_are_stacked_as_the_network_was_trained(num_frames: int) -> None:
    torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")
    stack_frames = importlib.import_module("retriever.nets.frontend").stack_frames
    banks = np.random.default_rng(num_frames).normal(size=(num_frames, NUM_BANDS)).astype(np.float32)
    expected, _ = stack_frames(torch.from_numpy(banks)[None], torch.ones(1, num_frames, dtype=torch.bool), 7, 6)
    np.testing.assert_array_equal(stacked(banks), expected[0].numpy())


def test_no_sound_gives_no_frames() -> None:
    assert stacked(filter_banks(np.zeros(0, np.float32))).shape == (0, 560)


def test_a_louder_sound_is_a_shift_of_all_bands() -> None:
    quiet = sound(8_000) * np.float32(0.25)
    np.testing.assert_allclose(filter_banks(quiet * np.float32(4)) - filter_banks(quiet), np.log(16.0), atol=1e-3)
