"""What the recogniser hears: log mel filter banks of a sound, stacked to frames of 60 ms, in numpy alone.

The numbers are Kaldi's with a Hamming window and no dither (Povey et al. 2011, "The Kaldi Speech Recognition Toolkit"): 80 triangular bands
from 20 Hz to 8 kHz, windows of 25 ms every 10 ms, mirrored at the ends so that N samples give round(N / 160) frames. Numpy's transform is
four times as fast as the package kaldi-native-fbank, to which the tests hold it. Stacking is that of `retriever.nets.frontend`.

Shapes: N samples, T frames of 10 ms, M bands, U frames of 60 ms, S frames stacked.
"""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.domain import Samples

NUM_BANDS: Final = 80
NUM_STACKED: Final = 7
STRIDE: Final = 6
FRAME_SAMPLES: Final = 960  # of a stacked frame
SHIFT: Final = 160  # samples
WINDOW: Final = 400  # samples
NUM_POINTS: Final = 512  # of the transform
LOW_HZ: Final = 20.0
HIGH_HZ: Final = 8_000.0
PRE_EMPHASIS: Final = np.float32(0.97)
FULL_SCALE: Final = np.float32(32_768.0)
_AT_ONCE: Final = 256  # frames, so that they stay in the processor's cache

Frames = npt.NDArray[np.float32]


def filter_banks(samples: Samples) -> Frames:
    """Return log mel filter banks (T, M), T = (N + 80) // 160, of samples (N,) in [-1, 1]."""
    num_frames = (len(samples) + SHIFT // 2) // SHIFT
    banks = np.empty((num_frames, NUM_BANDS), np.float32)
    if num_frames == 0:
        return banks
    windows = np.lib.stride_tricks.sliding_window_view(_mirrored(samples, num_frames), WINDOW)[::SHIFT]  # (T, 400)
    floor = np.finfo(np.float32).eps
    for start in range(0, num_frames, _AT_ONCE):
        piece = slice(start, min(start + _AT_ONCE, num_frames))
        banks[piece] = np.log(np.maximum(_power(windows[piece]) @ _triangles(), floor))
    return banks


def stacked(banks: Frames) -> Frames:
    """Return every 6th frame with its neighbours, (U, S x M), U = ceil(T / 6), of filter banks (T, M).

    Frame u holds the frames from 6 u - 3 on; before the first stands the first again, after the last the last.
    """
    num_frames = len(banks)
    starts = np.arange(0, num_frames, STRIDE)[:, None]  # (U, 1)
    rows = np.clip(starts + np.arange(NUM_STACKED) - (NUM_STACKED - 1) // 2, 0, num_frames - 1)
    frames: Frames = banks[rows].reshape(len(starts), NUM_STACKED * NUM_BANDS)
    return frames


def _mirrored(samples: Samples, num_frames: int) -> Samples:
    """Return what the windows of all frames cover: at both ends the sound runs back, its last sample twice; scaled to 16 bits."""
    first = SHIFT // 2 - WINDOW // 2
    places = np.arange(first, first + (num_frames - 1) * SHIFT + WINDOW) % (2 * len(samples))
    mirrored: Samples = samples[np.minimum(places, 2 * len(samples) - 1 - places)] * FULL_SCALE
    return mirrored


def _power(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the power of each frequency but the highest (T, 256), of windows (T, 400)."""
    centred = windows - windows.mean(axis=1, keepdims=True)
    before = np.concatenate((centred[:, :1], centred[:, :-1]), axis=1)
    spectrum = np.fft.rfft((centred - PRE_EMPHASIS * before) * _hamming(), NUM_POINTS)[:, :-1]
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)


@cache
def _hamming() -> npt.NDArray[np.float32]:
    return np.hamming(WINDOW).astype(np.float32)


@cache
def _triangles() -> npt.NDArray[np.float32]:
    """Return how much of each frequency goes to each band (256, M)."""
    edges = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), NUM_BANDS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = np.array([_mel(frequency) for frequency in np.arange(NUM_POINTS // 2) * 16_000 / NUM_POINTS])[:, None]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clip(min=0.0)
    return np.asarray(triangles, np.float32)


def _mel(hertz: float) -> float:
    return float(1127.0 * np.log1p(hertz / 700.0))
