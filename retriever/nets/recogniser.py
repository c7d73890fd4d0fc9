"""The small recogniser: a speech encoder with a CTC classifier over phones, twice for each of its frames.

Gao et al. 2020, "SAN-M" (the encoder; CLSR, arXiv 2511.09282, equation 1); Graves et al. 2006, "Connectionist Temporal Classification"
(the output). Two outputs from each frame of 60 ms, because fast speech has more than one phone in it and CTC needs a frame for each.

Shapes: B utterances, T frames of 10 ms, M bands, U frames of 60 ms, F values of a stacked frame, D channels, O outputs of a frame, P phones
and blank (blank = 0). Masks are boolean, True = real, and real frames come first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional

from retriever.nets.frontend import Frontend, FrontendConfig
from retriever.nets.paraformer import ParaformerConfig, SpeechEncoder
from retriever.nets.sanm import BlockConfig


def _small_encoder() -> ParaformerConfig:
    return ParaformerConfig(num_encoder_blocks=8, num_decoder_blocks=0, block=BlockConfig(dimension=256, feed_forward_dimension=1024))


@dataclass(frozen=True, slots=True)
class RecogniserConfig:
    """The size of the recogniser; the defaults are those of the shipped one.

    Attributes:
        encoder: its decoder blocks are not used.
        num_phones: without blank.
        outputs_per_frame: O.
        tap_block: after which block, counted from 1, a classifier for single frames reads: a second place for the gradient to come in,
            where phones with their times are known.

    Raises:
        ValueError: the encoder does not take what the frontend gives, or has no such block.
    """

    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    encoder: ParaformerConfig = field(default_factory=_small_encoder)
    num_phones: int = 39
    outputs_per_frame: int = 2
    tap_block: int = 4

    def __post_init__(self) -> None:
        if self.frontend.dimension != self.encoder.input_dimension:
            raise ValueError(
                f"the frontend gives {self.frontend.dimension} values a frame, the encoder takes {self.encoder.input_dimension}"
            )
        if not 1 <= self.tap_block <= self.encoder.num_encoder_blocks:
            raise ValueError(f"the tap reads after block 1 to {self.encoder.num_encoder_blocks}, got {self.tap_block}")


def read_config(record: Mapping[str, Any]) -> RecogniserConfig:
    """Return the configuration that `dataclasses.asdict` wrote.

    Raises:
        TypeError: a name is not one of the configuration's.
    """
    rest = dict(record)
    frontend, encoder = FrontendConfig(**rest.pop("frontend")), dict(rest.pop("encoder"))
    block = BlockConfig(**encoder.pop("block"))
    return RecogniserConfig(frontend, ParaformerConfig(**encoder, block=block), **rest)


@dataclass(frozen=True, slots=True)
class RecogniserOutput:
    """What the recogniser says of a batch; rows of padding mean nothing."""

    log_probs: Tensor  # (B, O x U, P), CTC's, at 30 ms
    mask: Tensor  # bool (B, O x U)
    states: Tensor  # (B, U, D) of the encoder, 0 in padding
    tap_logits: Tensor  # (B, O x U, P) of the tap


class Recogniser(nn.Module):
    """Filter banks in, log-probabilities of phones out."""

    def __init__(self, config: RecogniserConfig) -> None:
        super().__init__()
        self.config = config
        block = config.encoder.block
        num_classes = config.outputs_per_frame * (config.num_phones + 1)
        self.frontend = Frontend(config.frontend)
        self.encoder = SpeechEncoder(config.encoder)
        self.ctc = nn.Linear(block.dimension, num_classes)
        self.tap_norm = nn.LayerNorm(block.dimension, eps=block.layer_norm_eps)
        self.tap = nn.Linear(block.dimension, num_classes)

    def forward(self, features: Tensor, mask: Tensor) -> RecogniserOutput:
        """Listen to filter banks (B, T, M) with mask (B, T)."""
        return self._listen(*self.frontend(features, mask))

    def from_stacked(self, frames: Tensor, frame_mask: Tensor) -> RecogniserOutput:
        """Listen to stacked frames (B, U, F), not yet normalised, with mask (B, U); what the exported network does."""
        return self._listen(self.frontend.normalise(frames, frame_mask), frame_mask)

    def _listen(self, frames: Tensor, frame_mask: Tensor) -> RecogniserOutput:
        states, tapped = self.encoder.tapped(frames, frame_mask, self.config.tap_block)
        return RecogniserOutput(
            log_probs=functional.log_softmax(self._classes(self.ctc(states)), dim=-1),
            mask=repeat(frame_mask, "b u -> b (u o)", o=self.config.outputs_per_frame),
            states=states,
            tap_logits=self._classes(self.tap(self.tap_norm(tapped))),
        )

    def _classes(self, outputs: Tensor) -> Tensor:
        return rearrange(outputs, "b u (o p) -> b (u o) p", o=self.config.outputs_per_frame)
