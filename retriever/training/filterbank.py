"""Mel filter banks by the batch, with vocal-tract-length perturbation: what training hears.

The numbers are Kaldi's (`retriever.features` computes them one sound at a time without torch): 25 ms Hamming windows every 10 ms, 80
triangular bands from 20 Hz to 8 kHz on the mel scale, log of the power. The warp of the frequency axis is the piecewise linear one of Lee
and Rose 1998 in Kaldi's form; Jaitly and Hinton 2013, "Vocal Tract Length Perturbation (VTLP) improves speech recognition", draw it at
random for each utterance.

Shapes: B sounds, N samples, T frames of 10 ms, F frequencies, M bands.
"""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

SAMPLE_RATE_HZ: Final = 16_000
WINDOW: Final = 400  # samples
SHIFT: Final = 160  # samples
NUM_POINTS: Final = 512  # of the transform
NUM_BANDS: Final = 80
LOW_HZ: Final = 20.0
HIGH_HZ: Final = 8_000.0
WARP_LOW_HZ: Final = 100.0  # below and above these, the warp bends so that the ends of the axis stay
WARP_HIGH_HZ: Final = 7_500.0
PRE_EMPHASIS: Final = 0.97
FULL_SCALE: Final = 32_768.0
WARP_STEPS: Final = 50  # warps are rounded to 1/50, so that few matrices are kept


def filterbank(samples: Tensor, warps: npt.NDArray[np.float64]) -> Tensor:
    """Return log filter banks float32 (B, T, M), T = (N + 80) // 160.

    Args:
        samples: float32 (B, N) in [-1, 1], N at least 400.
        warps: (B,); 1 leaves the voice as it is, above 1 shortens the vocal tract.
    """
    num_frames = (samples.shape[1] + SHIFT // 2) // SHIFT
    before = WINDOW // 2 - SHIFT // 2
    after = max(0, (num_frames - 1) * SHIFT + WINDOW - before - samples.shape[1])
    # Kaldi mirrors at the ends including the last sample itself, which no mode of `pad` does.
    mirrored = torch.cat((samples[:, :before].flip(1), samples, samples[:, samples.shape[1] - after :].flip(1)), dim=1)
    frames = mirrored.unfold(1, WINDOW, SHIFT)[:, :num_frames] * FULL_SCALE  # (B, T, 400)
    frames = frames - frames.mean(dim=2, keepdim=True)
    previous = functional.pad(frames, (1, 0), mode="replicate")[..., :-1]
    windowed = (frames - PRE_EMPHASIS * previous) * torch.hamming_window(WINDOW, periodic=False, device=samples.device)
    spectrum = torch.view_as_real(torch.fft.rfft(windowed, NUM_POINTS))[..., :-1, :]  # (B, T, F, 2): Kaldi leaves the highest out
    power = spectrum.square().sum(dim=-1)  # (B, T, F)
    banks = torch.stack([mel_matrix(round(float(warp) * WARP_STEPS)) for warp in warps]).to(samples.device)  # (B, F, M)
    return torch.clamp(power @ banks, min=torch.finfo(torch.float32).eps).log()


@cache
def mel_matrix(warp_steps: int) -> Tensor:
    """Return the triangles (F, M) for a warp of `warp_steps` / 50."""
    warp = warp_steps / WARP_STEPS
    edges_mel = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), NUM_BANDS + 2)
    edges = _mel(_warped(_hertz(edges_mel), warp))  # (M + 2,)
    bins = _mel(np.arange(NUM_POINTS // 2) * SAMPLE_RATE_HZ / NUM_POINTS)[:, None]  # (F, 1)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(min=0.0)
    return torch.from_numpy(triangles.astype(np.float32))


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    hertz: npt.NDArray[np.float64] = 700.0 * np.expm1(mel / 1127.0)
    return hertz


def _warped(hertz: npt.NDArray[np.float64], warp: float) -> npt.NDArray[np.float64]:
    """Return where each frequency goes: f / warp in the middle, straight lines to the ends of the axis outside."""
    low = WARP_LOW_HZ * max(1.0, warp)
    high = WARP_HIGH_HZ * min(1.0, warp)
    return np.interp(hertz, [LOW_HZ, low, high, HIGH_HZ], [LOW_HZ, low / warp, high / warp, HIGH_HZ])
