"""Continuous integrate-and-fire: from one state a frame to one embedding a token, without attention and without recursion.

Dong and Xu 2020, "CIF: Continuous Integrate-and-Fire for End-to-End Speech Recognition", section 3 (the mechanism, the scaling in training,
the tail); Gao et al. 2022, "Paraformer", section 3.2 (as predictor of a parallel decoder); CLSR (arXiv 2511.09282), equations 2 and 6.

Shapes: B sounds, T frames, N tokens, D channels. Masks are boolean, True = real.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class CifConfig:
    """The predictor; the defaults are those of Paraformer-large."""

    dimension: int = 512
    frames_before: int = 1  # that the convolution sees
    frames_after: int = 1
    threshold: float = 1.0  # CLSR's beta of equation 6: a token fires each time that so much weight has gathered
    tail_threshold: float = (
        0.45  # weight added after the last real frame, without a target only: a last word is seldom finished by its frames
    )


@dataclass(frozen=True, slots=True)
class Fired:
    """What was gathered from a batch of sounds."""

    embeddings: Tensor  # (B, N, D), zero in padding
    mask: Tensor  # bool (B, N)
    weights: Tensor  # (B, T) as integrated, so scaled where a target was given; zero in padding
    num_tokens: Tensor  # int64 (B,)
    fire_frames: Tensor  # int64 (B, N): the frame that finished the token; the sound's length where the tail finished it; -1 in padding
    quantity: Tensor  # (B,) tokens predicted before any scaling or tail, for the quantity loss


class CifPredictor(nn.Module):
    """Weights each frame and gathers the frames of a token."""

    def __init__(self, config: CifConfig) -> None:
        super().__init__()
        self.config = config
        self.conv = nn.Conv1d(config.dimension, config.dimension, config.frames_before + 1 + config.frames_after)
        self.output = nn.Linear(config.dimension, 1)

    def weigh(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Return the weight in [0, 1] of each frame (B, T), zero in padding (equation 6, with Paraformer's ReLU and sigmoid)."""
        real = states.masked_fill(~frame_mask.unsqueeze(-1), 0.0)  # the convolution must not see padding
        context = functional.pad(rearrange(real, "b t d -> b d t"), (self.config.frames_before, self.config.frames_after))
        hidden = functional.relu(self.conv(context))
        logits = self.output(rearrange(hidden, "b d t -> b t d")).squeeze(-1)  # (B, T)
        weights = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))  # a running sum in 16 bits loses whole tokens
        return weights.masked_fill(~frame_mask, 0.0)

    def forward(self, states: Tensor, frame_mask: Tensor, num_target: Tensor | None = None, given: Tensor | None = None) -> Fired:
        """Fire tokens from states (B, T, D) and mask (B, T), T at least 1.

        Args:
            states: the encoder's output (B, T, D).
            frame_mask: bool (B, T), the real frames first.
            num_target: int64 (B,), in training: weights are scaled so that exactly so many tokens fire. None: as many as the weights
                and the tail make, rounded down. A sound without real frames cannot be scaled; its tokens are zero.
            given: (B, T), in training: weights to gather with instead of the predicted, for sounds whose row has any above 0; so the
                decoder learns where tokens are known to be before the predictor knows it.
        """
        threshold = self.config.threshold
        weights = self.weigh(states, frame_mask)
        total = weights.sum(dim=1)  # (B,)
        if num_target is None:
            num_tokens = torch.floor((total + self.config.tail_threshold * frame_mask.any(dim=1)) / threshold).long()
        else:
            num_tokens = num_target
            scale = num_target * threshold / total.clamp(min=torch.finfo(total.dtype).tiny)
            weights = weights * scale.unsqueeze(-1)
            if given is not None:
                weights = torch.where(given.any(dim=1, keepdim=True), given, weights)
        width = int(num_tokens.max())
        token_mask = torch.arange(width, device=states.device) < num_tokens.unsqueeze(-1)  # (B, N)
        shares = share(weights, width, threshold) * token_mask.unsqueeze(-1)  # (B, N, T)
        real = states.masked_fill(~frame_mask.unsqueeze(-1), 0.0)
        frames = fire_frames(weights, frame_mask, width, threshold)  # (B, N)
        if num_target is not None:  # no tail here: the last frame finishes the last token, whatever the sum was rounded to
            frames = torch.minimum(frames, frame_mask.sum(dim=1, keepdim=True) - 1)
        return Fired(
            embeddings=shares.to(states.dtype) @ real,  # the tail's own state is zero and adds nothing
            mask=token_mask,
            weights=weights,
            num_tokens=num_tokens,
            fire_frames=frames.masked_fill(~token_mask, -1),
            quantity=total / threshold,
        )


def share(weights: Tensor, num_tokens: int, threshold: float) -> Tensor:
    """Return how much of each frame's weight (B, T) goes to each of the first `num_tokens` tokens: (B, N, T).

    On the line of gathered weight, frame t lies between the sums before and after it and token n between n and n + 1 thresholds; what a
    token gets of a frame is the length of their overlap. So what is over at a firing goes to the next token, and a frame heavier than one
    threshold fires more than once.
    """
    after = weights.cumsum(dim=1).unsqueeze(1)  # (B, 1, T)
    before = after - weights.unsqueeze(1)
    start = threshold * torch.arange(num_tokens, device=weights.device, dtype=weights.dtype)[:, None]  # (N, 1)
    return (torch.minimum(after, start + threshold) - torch.maximum(before, start)).clamp(min=0.0)


def fire_frames(weights: Tensor, frame_mask: Tensor, num_tokens: int, threshold: float) -> Tensor:
    """Return the frame at which each token's weight is complete, or the number of real frames where it never is: int64 (B, N)."""
    ends = threshold * torch.arange(1, num_tokens + 1, device=weights.device, dtype=weights.dtype)[:, None]  # (N, 1)
    unfinished = (weights.cumsum(dim=1).unsqueeze(1) < ends) & frame_mask.unsqueeze(1)  # (B, N, T)
    return unfinished.sum(dim=-1)
