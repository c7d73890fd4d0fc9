"""Frames for the speech encoder: filter banks stacked to a lower rate and normalised by the mean and spread of the training set.

The speech encoder of CLSR (arXiv 2511.09282, equation 1) is Paraformer's (Gao et al. 2022, arXiv 2206.08317). Stacking 7 frames every 6,
how the edges are filled and the form (x + shift) x scale are FunASR's, so that its published weights see what they were trained on.

Shapes: B utterances, T frames of 10 ms, M bands, S stacked frames, U frames of 60 ms, F = S x M. Masks are boolean, True = real, and real
frames come first.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class FrontendConfig:
    """How frames are stacked; the defaults are Paraformer's: 80 bands, 7 frames every 6."""

    num_bands: int = 80
    num_stacked: int = 7
    stride: int = 6

    @property
    def dimension(self) -> int:
        """Values in a stacked frame."""
        return self.num_bands * self.num_stacked


def stack_frames(features: Tensor, mask: Tensor, num_stacked: int, stride: int) -> tuple[Tensor, Tensor]:
    """Join neighbouring frames and keep every `stride`-th: ceil(length / stride) frames of each utterance.

    Frame u holds the frames u x stride - (S - 1) // 2 onwards; before the first stands the first again, after the last real one the last.

    Args:
        features: (B, T, M).
        mask: bool (B, T).
        num_stacked: S.
        stride: frames of the input to one of the output.

    Returns:
        (B, U, S x M) and bool (B, U), U = ceil(T / stride); rows of padding mean nothing.
    """
    lengths = mask.sum(dim=1)
    num_out = (features.shape[1] + stride - 1) // stride  # rounded up without negative numbers, whose division ONNX rounds the other way
    starts = torch.arange(num_out, device=features.device) * stride  # (U,)
    wanted = starts[:, None] + torch.arange(num_stacked, device=features.device) - (num_stacked - 1) // 2  # (U, S)
    last = (lengths - 1).clamp(min=0)[:, None, None]  # (B, 1, 1)
    index = rearrange(torch.minimum(wanted.clamp(min=0), last), "b u s -> b (u s) 1")
    rows = features.gather(1, index.expand(-1, -1, features.shape[2]))  # (B, U x S, M)
    return rearrange(rows, "b (u s) m -> b u (s m)", s=num_stacked), starts < lengths[:, None]


class Frontend(nn.Module):
    """Filter banks in, stacked and normalised frames out; until `set_cmvn` is called the values pass unchanged."""

    shift: Tensor
    scale: Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("shift", torch.zeros(config.dimension))
        self.register_buffer("scale", torch.ones(config.dimension))

    def set_cmvn(self, shift: Tensor, scale: Tensor) -> None:
        """Take (F,) to add and (F,) to multiply by afterwards: minus the mean, and 1 / standard deviation."""
        self.shift.copy_(shift)
        self.scale.copy_(scale)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames (B, U, F), 0 in padding, and their mask (B, U) of features (B, T, M) and mask (B, T)."""
        stacked, stacked_mask = stack_frames(features, mask, self.config.num_stacked, self.config.stride)
        return self.normalise(stacked, stacked_mask), stacked_mask

    def normalise(self, stacked: Tensor, stacked_mask: Tensor) -> Tensor:
        """Return (B, U, F), 0 in padding, of stacked frames (B, U, F) and their mask (B, U)."""
        return ((stacked + self.shift) * self.scale).masked_fill(~stacked_mask[:, :, None], 0.0)


class CmvnStatistics:
    """Mean and spread of stacked frames, gathered batch by batch over a training set."""

    def __init__(self, dimension: int) -> None:
        self.num_frames = 0
        self._sum = torch.zeros(dimension, dtype=torch.float64)
        self._sum_of_squares = torch.zeros(dimension, dtype=torch.float64)

    def add(self, stacked: Tensor, mask: Tensor) -> None:
        """Count the real frames of (B, U, F) with mask (B, U)."""
        real = stacked[mask].to("cpu", torch.float64)
        self.num_frames += len(real)
        self._sum += real.sum(dim=0)
        self._sum_of_squares += real.square().sum(dim=0)

    def shift_and_scale(self) -> tuple[Tensor, Tensor]:
        """Return minus the mean (F,) and 1 / standard deviation (F,), float32.

        Raises:
            ValueError: no frame was added.
        """
        if self.num_frames == 0:
            raise ValueError("0 frames were added, at least 1 is needed; add the training set's frames first")
        mean = self._sum / self.num_frames
        variance = (self._sum_of_squares / self.num_frames - mean.square()).clamp(min=1e-10)  # a band that never changes stays finite
        return (-mean).float(), variance.rsqrt().float()
