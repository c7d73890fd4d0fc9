"""A compact BERT that turns sentences into vectors of length 1.

Devlin et al. 2019, "BERT" (the network); Wang et al. 2020, "MiniLM" (the shipped size); Reimers and Gurevych 2019, "Sentence-BERT",
section 3 (the mean over tokens as sentence vector).

Shapes: B sentences, N tokens, D channels, H heads, C channels of a head (D = H x C). Masks are boolean, True = real.
"""

import math
from dataclasses import dataclass

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """The size of the network; the defaults are those of MiniLM-L6-H384."""

    vocabulary_size: int = 30_522
    max_positions: int = 512
    num_token_types: int = 2
    dimension: int = 384
    num_layers: int = 6
    num_heads: int = 12
    feed_forward_dimension: int = 1536
    layer_norm_eps: float = 1e-12


class Embeddings(nn.Module):
    """Token, position and token type, summed and normalised."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocabulary_size, config.dimension)
        self.position = nn.Embedding(config.max_positions, config.dimension)
        self.token_type = nn.Embedding(config.num_token_types, config.dimension)
        self.norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)

    def forward(self, token_ids: Tensor, token_types: Tensor | None) -> Tensor:
        """Return (B, N, D) of token ids and types (B, N); without types, all are of type 0."""
        return self.place(self.token(token_ids), token_types)

    def place(self, tokens: Tensor, token_types: Tensor | None) -> Tensor:
        """Return (B, N, D) of rows of the token table, or what stands for them (B, N, D), and types (B, N)."""
        types = self.token_type.weight[0] if token_types is None else self.token_type(token_types)
        positions = self.position.weight[: tokens.shape[1]]  # (N, D)
        summed: Tensor = tokens + positions + types  # (B, N, D)
        normalised: Tensor = self.norm(summed)
        return normalised


class SelfAttention(nn.Module):
    """Multi-head attention of all tokens to all real tokens."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.dimension, config.dimension)
        self.key = nn.Linear(config.dimension, config.dimension)
        self.value = nn.Linear(config.dimension, config.dimension)
        self.out = nn.Linear(config.dimension, config.dimension)

    def forward(self, states: Tensor, token_mask: Tensor) -> Tensor:
        """Return (B, N, D) of states (B, N, D) and mask (B, N)."""
        query, key, value = (
            rearrange(project(states), "b n (h c) -> b h n c", h=self.num_heads) for project in (self.query, self.key, self.value)
        )
        # Explicit products: on a CPU the fused kernel is slower in the backward pass at this size, and these export to plain operators.
        weights = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, N, N)
        weights = weights.masked_fill(~token_mask[:, None, None, :], -1e9)  # not -inf: a sentence without real tokens must not give NaN
        mixed = functional.softmax(weights, dim=-1) @ value  # (B, H, N, C)
        projected: Tensor = self.out(rearrange(mixed, "b h n c -> b n (h c)"))
        return projected


class Layer(nn.Module):
    """Attention and feed-forward, each with a residual connection normalised afterwards."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)
        self.widen = nn.Linear(config.dimension, config.feed_forward_dimension)
        self.narrow = nn.Linear(config.feed_forward_dimension, config.dimension)
        self.feed_forward_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)

    def forward(self, states: Tensor, token_mask: Tensor) -> Tensor:
        """Return (B, N, D) of states (B, N, D) and mask (B, N)."""
        attended = self.attention_norm(states + self.attention(states, token_mask))
        widened = functional.gelu(self.widen(attended))
        output: Tensor = self.feed_forward_norm(attended + self.narrow(widened))
        return output


class TextEncoder(nn.Module):
    """Sentences in, vectors of length 1 out."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))

    def token_states(self, token_ids: Tensor, token_mask: Tensor, token_types: Tensor | None = None) -> Tensor:
        """Return the last layer's (B, N, D); rows of padding mean nothing.

        Args:
            token_ids: int64 (B, N), N at most `max_positions`.
            token_mask: bool (B, N).
            token_types: int64 (B, N), or None for all 0.
        """
        return self._through(self.embeddings(token_ids, token_types), token_mask)

    def states_of(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """Return the last layer's (B, N, D) of what stands for rows of the token table (B, N, D), all of type 0."""
        return self._through(self.embeddings.place(tokens, None), token_mask)

    def _through(self, states: Tensor, token_mask: Tensor) -> Tensor:
        for layer in self.layers:
            states = layer(states, token_mask)
        return states

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return sentence vectors (B, D) of length 1 and token states (B, N, D)."""
        states = self.token_states(token_ids, token_mask)
        return pool(states, token_mask), states


def pool(states: Tensor, token_mask: Tensor) -> Tensor:
    """Return the mean of the real tokens' states (B, N, D), scaled to length 1: (B, D)."""
    weights = token_mask.unsqueeze(-1).to(states.dtype)  # (B, N, 1)
    mean = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
    return functional.normalize(mean, dim=-1)
