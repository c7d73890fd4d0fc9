"""Training's filter banks are Kaldi's, and the warp moves what it should."""

import numpy as np
import pytest
import torch
from kaldi_native_fbank import FbankOptions, OnlineFbank

from retriever.training.filterbank import filterbank, mel_matrix

GENERATOR = np.random.default_rng(5)


def kaldi(samples: np.ndarray, low_hz: float = 20.0) -> np.ndarray:
    options = FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = 80
    options.mel_opts.low_freq = low_hz
    bank = OnlineFbank(options)
    bank.accept_waveform(16_000, (samples * 32_768).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(frame) for frame in range(bank.num_frames_ready)])


@pytest.mark.parametrize("num_samples", [400, 479, 480, 16_000, 16_079, 16_080, 20_123])
def test_unwarped_filter_banks_are_kaldis(num_samples: int) -> None:
    samples = (GENERATOR.standard_normal(num_samples) * 0.1).astype(np.float32)
    expected = kaldi(samples)
    found = filterbank(torch.from_numpy(samples)[None], np.ones(1))[0].numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_silence_is_floored_and_not_infinite() -> None:
    found = filterbank(torch.zeros(1, 1_600), np.ones(1))
    assert torch.equal(found, torch.full_like(found, float(np.log(np.finfo(np.float32).eps))))


def test_a_sounds_filter_bank_does_not_depend_on_its_neighbours() -> None:
    samples = torch.from_numpy((GENERATOR.standard_normal((3, 8_000)) * 0.1).astype(np.float32))
    warps = np.array([0.9, 1.0, 1.14])
    together = filterbank(samples, warps)
    for row in range(3):
        torch.testing.assert_close(filterbank(samples[row : row + 1], warps[row : row + 1])[0], together[row], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("warp", "direction"), [(0.84, 1), (1.16, -1)])
def test_a_tone_moves_against_the_warp(warp: float, direction: int) -> None:
    tone = torch.sin(torch.arange(8_000) / 16_000 * 2 * torch.pi * 2_000)[None]
    unmoved = int(filterbank(tone, np.ones(1)).mean(dim=1).argmax())
    moved = int(filterbank(tone, np.array([warp])).mean(dim=1).argmax())
    assert np.sign(unmoved - moved) == direction


@pytest.mark.parametrize("steps", [41, 50, 59])
def test_every_band_of_every_warp_hears_something(steps: int) -> None:
    # The lowest bands are narrower than a frequency step, as in Kaldi: a band may be weak, but none above them may be deaf.
    assert bool((mel_matrix(steps)[:, 10:].sum(dim=0) > 0).all())
