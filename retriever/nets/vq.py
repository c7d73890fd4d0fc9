"""The vector-quantised adaptor: from a distribution over tokens to the text encoder's embeddings, with a gradient in spite of the choice.

CLSR (arXiv 2511.09282), section on the VQ adaptor (equation 4), after Shih et al. 2023, "SpeechCLIP"; the straight-through gradient is
Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons":

    q = onehot(argmax d),  p = softmax(d / gamma),  E = (q + p - sg(p)) W

The value is that of q W, rows of the table W; the gradient to the logits d is that of p W; the gradient to the table is that of q W.

Shapes: B sounds, N tokens, V words, D channels. Masks are boolean, True = real.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class VqConfig:
    """The adaptor.

    Raises:
        ValueError: gamma is not above 0.
    """

    gamma: float = 0.1  # the softmax's temperature; CLSR, section on the VQ adaptor
    quantised: bool = True  # False passes the expectation p W on: a control, CLSR's row "without VQ" does not say what it feeds

    def __post_init__(self) -> None:
        if not self.gamma > 0.0:
            raise ValueError(f"the adaptor divides by gamma, so it must be above 0, got {self.gamma}")


@dataclass(frozen=True, slots=True)
class Quantised:
    """Text-like embeddings and the tokens chosen."""

    embeddings: Tensor  # (B, N, D), zero in padding
    token_ids: Tensor  # int64 (B, N), zero in padding


class VqAdaptor(nn.Module):
    """Looks the chosen tokens up; has no weights of its own."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, logits: Tensor, token_mask: Tensor, table: Tensor) -> Quantised:
        """Return embeddings of logits (B, N, V) and mask (B, N) from the text encoder's table (V, D)."""
        token_ids = logits.argmax(dim=-1).masked_fill(~token_mask, 0)  # (B, N)
        if self.config.quantised:
            embeddings = functional.embedding(token_ids, table)  # (B, N, D)
            if torch.is_grad_enabled() and logits.requires_grad:
                # The table is detached: its gradient is the one-hot's alone. The difference is exactly 0, so the value stays a row.
                expected = self._expectation(logits, table.detach())
                embeddings = embeddings + (expected - expected.detach())
        else:
            embeddings = self._expectation(logits, table)
        return Quantised(embeddings.masked_fill(~token_mask.unsqueeze(-1), 0.0), token_ids)

    def _expectation(self, logits: Tensor, table: Tensor) -> Tensor:
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))  # dividing by gamma multiplies a 16-bit logit's error
        return functional.softmax(precise / self.config.gamma, dim=-1).to(table.dtype) @ table
