"""The glancing sampler: in training, some acoustic embeddings are replaced by those of the true tokens, the more the worse round one was.

Qian et al. 2021, "Glancing Transformer for Non-Autoregressive Neural Machine Translation", section 3; Gao et al. 2022, "Paraformer",
section 3.3; CLSR (arXiv 2511.09282), Algorithm 1. CLSR's prose replaces the wrong tokens; its algorithm, followed here, lets the errors set
only the number and draws the positions uniformly from all real tokens.

Shapes: B sounds, N tokens, D channels, V words. Masks are boolean, True = real.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """How much is shown.

    Raises:
        ValueError: the ratio is not in [0, 1].
    """

    ratio: float = 0.75  # lambda; not published for CLSR; 0.75 is what its authors' two earlier systems on the same base used

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f"the sampler's ratio is a share of the errors, from 0 to 1, got {self.ratio}")


@dataclass(frozen=True, slots=True)
class Glanced:
    """The decoder's input of round two."""

    embeddings: Tensor  # (B, N, D), zero in padding
    replaced: Tensor  # bool (B, N)
    num_errors: Tensor  # int64 (B,) of round one


class GlancingSampler(nn.Module):
    """Mixes acoustic embeddings with rows of the output layer; has no weights of its own."""

    def __init__(self, config: SamplerConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, acoustic: Tensor, predicted: Tensor, targets: Tensor, token_mask: Tensor, rows: Tensor, generator: Generator
    ) -> Glanced:
        """Mix the embeddings for round two.

        Args:
            acoustic: the predictor's embeddings (B, N, D).
            predicted: int64 (B, N), the best tokens of round one, which the caller runs without gradient.
            targets: int64 (B, N); padding may hold anything.
            token_mask: bool (B, N).
            rows: the weight (V, D) of the output layer, as CLSR trains no input embedding; it gets a gradient here.
            generator: where the positions are drawn from, on the device of `acoustic`.
        """
        num_errors = ((predicted != targets) & token_mask).sum(dim=1)  # (B,)
        # The small number mends products such as 0.29 x 100 = 28.999..., whose floor would be one less than Algorithm 1's.
        num_replaced = torch.floor(self.config.ratio * num_errors.double() + 1e-9).long()
        draws = torch.rand(token_mask.shape, generator=generator, device=acoustic.device).masked_fill(~token_mask, math.inf)
        order = draws.argsort(dim=1)  # (B, N): a random permutation of the real positions, then padding
        replaced = order < num_replaced.unsqueeze(-1)
        true_rows = rows[targets.masked_fill(~replaced, 0)].to(acoustic.dtype)  # (B, N, D)
        mixed = torch.where(replaced.unsqueeze(-1), true_rows, acoustic)
        return Glanced(mixed.masked_fill(~token_mask.unsqueeze(-1), 0.0), replaced, num_errors)
