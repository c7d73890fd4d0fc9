"""The stacks of the speech encoder and the parallel decoder, in the paper's size and in ours.

Gao et al. 2022, "Paraformer" (arXiv 2206.08317); CLSR (arXiv 2511.09282), equation 1 (encoder) and equation 3 (decoder, without the
output layer W).

Shapes: B utterances, T frames of 60 ms, N tokens, D channels, I channels of the input. Masks are boolean, True = real.
"""

import math
from dataclasses import dataclass, field

from torch import Tensor, nn

from retriever.nets.sanm import BlockConfig, DecoderBlock, EncoderBlock, NormedFeedForward, sinusoidal_positions


@dataclass(frozen=True, slots=True)
class ParaformerConfig:
    """The size of both stacks; the defaults are those of Paraformer-large, CLSR's speech model."""

    input_dimension: int = 560
    num_encoder_blocks: int = 50
    num_decoder_blocks: int = 16
    block: BlockConfig = field(default_factory=BlockConfig)


BASE = ParaformerConfig()
# Not in any paper: the size that fits two CPU cores and the shipped weights' limit.
SMALL = ParaformerConfig(num_encoder_blocks=10, num_decoder_blocks=4, block=BlockConfig(dimension=256, feed_forward_dimension=1024))


class SpeechEncoder(nn.Module):
    """Stacked frames in, states of the same rate out: H^s = SEncoder(X) (CLSR, equation 1)."""

    def __init__(self, config: ParaformerConfig) -> None:
        super().__init__()
        self.config = config
        inputs = [config.input_dimension] + [config.block.dimension] * (config.num_encoder_blocks - 1)
        self.blocks = nn.ModuleList(EncoderBlock(size, config.block) for size in inputs)
        self.norm = nn.LayerNorm(config.block.dimension, eps=config.block.layer_norm_eps)

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return (B, T, D), 0 in padding, of frames (B, T, I) and mask (B, T)."""
        return self.tapped(frames, frame_mask, self.config.num_encoder_blocks)[0]

    def tapped(self, frames: Tensor, frame_mask: Tensor, num_blocks: int) -> tuple[Tensor, Tensor]:
        """Return what `forward` returns, and the states (B, T, D) after the first `num_blocks` blocks, at least 1."""
        positions = sinusoidal_positions(frames.shape[1], self.config.input_dimension, frames.device)
        # The factor is FunASR's: the output's channels, though the input has another number.
        states = frames * math.sqrt(self.config.block.dimension) + positions.to(frames.dtype)
        between = states
        for number, block in enumerate(self.blocks, start=1):
            states = block(states, frame_mask)
            between = states if number == num_blocks else between
        normalised: Tensor = self.norm(states)
        return normalised.masked_fill(~frame_mask[:, :, None], 0.0), between  # the predictor's convolution looks beyond the last frame


class DecoderTail(nn.Module):
    """A last feed-forward that nothing is added to (FunASR's choice)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.feed_forward_norm = nn.LayerNorm(config.dimension, eps=config.layer_norm_eps)
        self.feed_forward = NormedFeedForward(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, N, D) of tokens (B, N, D)."""
        output: Tensor = self.feed_forward(self.feed_forward_norm(tokens))
        return output


class SpeechDecoder(nn.Module):
    """Token vectors in, states for the output layer out, all tokens at once: Decoder(H^s, E^a) (CLSR, equation 3)."""

    def __init__(self, config: ParaformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(DecoderBlock(config.block) for _ in range(config.num_decoder_blocks))
        self.tail = DecoderTail(config.block)
        self.norm = nn.LayerNorm(config.block.dimension, eps=config.block.layer_norm_eps)

    def forward(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return (B, N, D), 0 in padding, of tokens (B, N, D) and the encoder's frames (B, T, D) with their masks."""
        for block in self.blocks:
            tokens = block(tokens, token_mask, frames, frame_mask)
        normalised: Tensor = self.norm(self.tail(tokens))
        return normalised.masked_fill(~token_mask[:, :, None], 0.0)
