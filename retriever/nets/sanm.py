"""Blocks of the speech encoder and decoder: attention with an FSMN memory beside it.

Gao et al. 2020, "SAN-M" (arXiv 2006.01713: self-attention plus the memory block of a DFSMN on the values); Gao et al. 2022, "Paraformer"
(arXiv 2206.08317: the parallel decoder); both are used by CLSR (arXiv 2511.09282), equations 1 and 3. Attention, feed-forward and
positions are those of Vaswani et al. 2017, sections 3.2 (equation 1), 3.3 (equation 2) and 3.5.

The order of norms, residuals and dropout, the norm inside the decoder's feed-forward, the positions' exact frequencies and the epsilon of
the norms are taken from FunASR's published Paraformer, whose weights are to be read; no equation of the three papers settles them for us.

Shapes: B utterances, T frames of 60 ms, N tokens, D channels, I channels of the input, H heads, C channels of a head (D = H x C), K taps.
Masks are boolean, True = real. Nothing here is causal: every frame sees the whole utterance.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from retriever.nets.dropout import Dropout


@dataclass(frozen=True, slots=True)
class BlockConfig:
    """The size of one block; the defaults are Paraformer-large's.

    Raises:
        ValueError: the channels cannot be shared out among the heads.
    """

    dimension: int = 512
    num_heads: int = 4
    feed_forward_dimension: int = 2048
    num_taps: int = 11
    dropout: float = 0.1
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.dimension % self.num_heads:
            raise ValueError(f"{self.dimension} channels and {self.num_heads} heads: choose a number of channels that the heads divide")


def sinusoidal_positions(num_frames: int, dimension: int, device: torch.device | None = None) -> Tensor:
    """Return float32 (T, I): sines, then cosines, of positions 1 to T.

    Vaswani et al. 2017, section 3.5, but with frequency i = 10000^(-i / (I / 2 - 1)) and the two halves side by side.

    Raises:
        ValueError: the dimension is odd or under 4.
    """
    if dimension % 2 or dimension < 4:
        raise ValueError(f"positions of {dimension} channels: sines and cosines need an even number of at least 4")
    half = dimension // 2
    frequencies = torch.exp(torch.arange(half, device=device) * (-math.log(10_000) / (half - 1)))
    angles = torch.arange(1, num_frames + 1, device=device)[:, None] * frequencies  # (T, I / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def split_heads(num_heads: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, H, N, C) and twice (B, H, T, C) of (B, N, D) and twice (B, T, D)."""
    pattern = "b n (h c) -> b h n c"
    return rearrange(query, pattern, h=num_heads), rearrange(key, pattern, h=num_heads), rearrange(value, pattern, h=num_heads)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: nn.Module) -> Tensor:
    """Mix values by softmax(query key^T / sqrt C) over the real ones (Vaswani et al. 2017, equation 1).

    Args:
        query: (B, H, N, C).
        key: (B, H, T, C).
        value: (B, H, T, C).
        mask: bool (B, T).
        dropout: applied to the weights.

    Returns:
        (B, N, D), heads side by side.
    """
    # Explicit products, as in the text encoder: quicker backwards on a CPU than the fused kernel, and exported as plain operators.
    weights = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, N, T)
    weights = weights.masked_fill(~mask[:, None, None, :], -1e9)  # not -inf: an utterance without real frames must not give NaN
    mixed: Tensor = dropout(functional.softmax(weights, dim=-1)) @ value
    return rearrange(mixed, "b h n c -> b n (h c)")


class Memory(nn.Module):
    """FSMN memory: every channel filtered over time by K taps of its own, plus the input itself.

    m_t = x_t + sum over k of a_k * x_(t + k - (K - 1) // 2), per channel, 0 outside (the DFSMN memory block of Gao et al. 2020, stride 1).
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.taps = nn.Conv1d(config.dimension, config.dimension, config.num_taps, groups=config.dimension, bias=False)
        self.dropout = Dropout(config.dropout)
        self.padding = ((config.num_taps - 1) // 2, config.num_taps - 1 - (config.num_taps - 1) // 2)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return (B, T, D), 0 in padding, of states (B, T, D) and mask (B, T)."""
        padding = ~mask[:, :, None]
        states = states.masked_fill(padding, 0.0)
        filtered = self.taps(functional.pad(rearrange(states, "b t d -> b d t"), self.padding))
        remembered: Tensor = self.dropout(rearrange(filtered, "b d t -> b t d") + states)
        return remembered.masked_fill(padding, 0.0)


class SelfAttention(nn.Module):
    """SAN-M: multi-head self-attention plus the memory of its values (Gao et al. 2020)."""

    def __init__(self, input_dimension: int, config: BlockConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query_key_value = nn.Linear(input_dimension, 3 * config.dimension)
        self.out = nn.Linear(config.dimension, config.dimension)
        self.memory = Memory(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return (B, T, D) of states (B, T, I) and mask (B, T)."""
        query, key, value = self.query_key_value(states).chunk(3, dim=-1)
        attended: Tensor = self.out(attend(*split_heads(self.num_heads, query, key, value), mask, self.dropout))
        remembered: Tensor = self.memory(value, mask)
        return attended + remembered


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to speech frames."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.dimension, config.dimension)
        self.key_value = nn.Linear(config.dimension, 2 * config.dimension)
        self.out = nn.Linear(config.dimension, config.dimension)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return (B, N, D) of tokens (B, N, D), frames (B, T, D) and their mask (B, T)."""
        key, value = self.key_value(frames).chunk(2, dim=-1)
        heads = split_heads(self.num_heads, self.query(tokens), key, value)
        attended: Tensor = self.out(attend(*heads, frame_mask, self.dropout))
        return attended


class FeedForward(nn.Module):
    """max(0, x W1 + b1) W2 + b2 (Vaswani et al. 2017, equation 2)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.dimension, config.feed_forward_dimension)
        self.narrow = nn.Linear(config.feed_forward_dimension, config.dimension)
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, T, D) of states (B, T, D)."""
        output: Tensor = self.narrow(self.dropout(functional.relu(self.widen(states))))
        return output


class NormedFeedForward(nn.Module):
    """The decoder's feed-forward: the wide layer is normalised, and the second product has no bias (FunASR's choice)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.dimension, config.feed_forward_dimension)
        self.norm = nn.LayerNorm(config.feed_forward_dimension, eps=config.layer_norm_eps)
        self.narrow = nn.Linear(config.feed_forward_dimension, config.dimension, bias=False)
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Return (B, N, D) of states (B, N, D)."""
        output: Tensor = self.narrow(self.norm(self.dropout(functional.relu(self.widen(states)))))
        return output


class EncoderBlock(nn.Module):
    """SAN-M and feed-forward, each normalised before and added to its input.

    A block that changes the number of channels (the first: I to D) adds nothing to its attention, as there is nothing of the same size.
    """

    def __init__(self, input_dimension: int, config: BlockConfig) -> None:
        super().__init__()
        self.adds_input = input_dimension == config.dimension
        self.attention_norm = nn.LayerNorm(input_dimension, eps=config.layer_norm_eps)
        self.attention = SelfAttention(input_dimension, config)
        self.feed_forward_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return (B, T, D) of states (B, T, I) and mask (B, T); rows of padding mean nothing."""
        attended: Tensor = self.dropout(self.attention(self.attention_norm(states), mask))
        if self.adds_input:
            attended = states + attended
        widened: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(attended)))
        return attended + widened


class DecoderBlock(nn.Module):
    """Feed-forward, memory, attention to the speech; no self-attention, no positions (Gao et al. 2022; the order is FunASR's).

    The block's input is added after the memory, so that feed-forward and memory are one step; then the attention is added.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.feed_forward_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)
        self.feed_forward = NormedFeedForward(config)
        self.memory_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)
        self.memory = Memory(config)
        self.attention_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)
        self.attention = CrossAttention(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return (B, N, D) of tokens (B, N, D) and frames (B, T, D) with their masks; rows of padding mean nothing."""
        remembered = self.memory(self.memory_norm(self.feed_forward(self.feed_forward_norm(tokens))), token_mask)
        remembered = tokens + self.dropout(remembered)
        attended: Tensor = remembered + self.dropout(self.attention(self.attention_norm(remembered), frames, frame_mask))
        return attended
