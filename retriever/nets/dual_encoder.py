"""A direct dual encoder: speech to a vector without words in between, the control of what the detour over words pays.

The recogniser's speech encoder, each of its states widened, pooled by learnt attention (Lin et al. 2017, "A Structured Self-attentive
Sentence Embedding", section 2.1: several views of one sequence) and mapped to the text encoder's space, where a question in writing or
spoken is compared by the cosine. CLSR's paper (arXiv 2511.09282, table 4) calls its own such control ParaBGE; how that one pools it does
not say.

Shapes: B utterances, T frames of 10 ms, M bands, U frames of 60 ms, C channels of the encoder, H heads, W channels of a head, D dimensions
of a vector. Masks are boolean, True = real, and what is real comes first.
"""

from dataclasses import dataclass, field

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from retriever.nets.frontend import Frontend
from retriever.nets.paraformer import SpeechEncoder
from retriever.nets.recogniser import Recogniser, RecogniserConfig


@dataclass(frozen=True, slots=True)
class DualEncoderConfig:
    """The size.

    Attributes:
        recogniser: whose frontend and speech encoder these are; what classifies phones is not used.
        num_heads: H, views of one utterance.
        hidden_dimension: H x W, of what is pooled.
        dimension: D, that of the text encoder.

    Raises:
        ValueError: the heads do not divide the channels that are pooled.
    """

    recogniser: RecogniserConfig = field(default_factory=RecogniserConfig)
    num_heads: int = 12
    hidden_dimension: int = 768
    dimension: int = 384

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.hidden_dimension % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not share {self.hidden_dimension} channels evenly; give a divisor")


class AttentionPooling(nn.Module):
    """States of an utterance to one vector: each head weighs the frames for channels of its own."""

    def __init__(self, input_dimension: int, config: DualEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attend = nn.Linear(input_dimension, config.num_heads)
        self.widen = nn.Linear(input_dimension, config.hidden_dimension)

    def forward(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Return (B, H x W) of states (B, U, C); 0 for an utterance without a real frame."""
        weights = self.attend(states).float().masked_fill(~frame_mask[:, :, None], -1e9)  # not -inf: no frame must not give NaN
        shares = functional.softmax(weights, dim=1) * frame_mask[:, :, None]  # (B, U, H)
        values = rearrange(functional.gelu(self.widen(states)), "b u (h w) -> b u h w", h=self.num_heads)
        pooled = torch.einsum("buh,buhw->bhw", shares.to(values.dtype), values)
        return rearrange(pooled, "b h w -> b (h w)")


class DualEncoder(nn.Module):
    """Filter banks in, vectors of length 1 in the text encoder's space out."""

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.recogniser.encoder.block.dimension
        self.frontend = Frontend(config.recogniser.frontend)
        self.encoder = SpeechEncoder(config.recogniser.encoder)
        self.pooling = AttentionPooling(channels, config)
        self.narrow = nn.Linear(config.hidden_dimension, config.hidden_dimension)
        self.output = nn.Linear(config.hidden_dimension, config.dimension)

    def begin_with(self, recogniser: Recogniser) -> None:
        """Take the frontend's and the encoder's weights of a recogniser of the same size: what hears phones already."""
        self.frontend.load_state_dict(recogniser.frontend.state_dict())
        self.encoder.load_state_dict(recogniser.encoder.state_dict())

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return (B, D) in float32 of filter banks (B, T, M) with mask (B, T)."""
        return self.project(*self.hear(features, mask))

    def hear(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's states (B, U, C) and their mask (B, U)."""
        frames, frame_mask = self.frontend(features, mask)
        return self.encoder(frames, frame_mask), frame_mask

    def project(self, states: Tensor, frame_mask: Tensor) -> Tensor:
        """Return (B, D) in float32 of states (B, U, C) with mask (B, U)."""
        pooled = self.pooling(states, frame_mask)
        vectors: Tensor = self.output(functional.gelu(self.narrow(pooled)))
        return functional.normalize(vectors.float(), dim=-1)
