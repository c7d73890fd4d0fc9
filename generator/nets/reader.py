"""Marks the words of a passage that answer a question, or none.

Devlin et al. 2019, "BERT", section 4.2 (start and end of the span, no answer at [CLS]); Clark and Gardner 2018, "Simple and Effective
Multi-Paragraph Reading Comprehension", section 3.2 (passages must be comparable). Every score is a difference to that of [CLS], so "no
answer" scores 0 in every passage: the log-odds of passages read apart can be compared and normalised together.

Shapes: B windows, N tokens, D channels.
"""

import torch
from torch import Tensor, nn

from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig

LONGEST_TOKENS = 64  # of a span that the joint loss weighs; answers have at most 30 words
FORBIDDEN = -1e4  # score of a token that cannot be a start or an end; finite, and representable in half precision


class Reader(nn.Module):
    """A text encoder with a start and an end score for each token."""

    def __init__(self, config: TextEncoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = TextEncoder(config)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(config.dimension, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, token_ids: Tensor, token_mask: Tensor, token_types: Tensor) -> Tensor:
        """Return (B, N, 2): log-odds of each token as start and as end against "no answer"; 0 at [CLS], padding means nothing.

        Args:
            token_ids: int64 (B, N), `[CLS] question [SEP] passage [SEP]`.
            token_mask: bool (B, N), True = real.
            token_types: int64 (B, N), 0 for the question, 1 for the passage.
        """
        return self.score_rows(self.encoder.embeddings.token(token_ids), token_mask, token_types)

    def score_rows(self, rows: Tensor, token_mask: Tensor, token_types: Tensor) -> Tensor:
        """Return the same of rows (B, N, D) of the token table, which at run time is the text encoder's."""
        embeddings = self.encoder.embeddings
        states: Tensor = embeddings.norm(rows + embeddings.position.weight[: rows.shape[1]] + embeddings.token_type(token_types))
        for layer in self.encoder.layers:
            states = layer(states, token_mask)
        scores: Tensor = self.head(self.dropout(states))  # (B, N, 2)
        return scores - scores[:, :1]


def span_loss(scores: Tensor, allowed: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each window: (B,).

    The negative log of the share that the targets have of all allowed tokens and "no answer", for start and end apart. Several targets
    share (Clark and Gardner 2018, section 3.2: the sum over all places where the answer stands); without targets, "no answer" is wanted.

    Args:
        scores: (B, N, 2).
        allowed: bool (B, N, 2), tokens that may be a start, an end.
        targets: bool (B, N, 2), a subset of the allowed.
    """
    kept = scores.float().masked_fill(~allowed, FORBIDDEN)
    none = torch.zeros_like(kept[:, :1])
    total = torch.cat([none, kept], dim=1).logsumexp(dim=1)  # (B, 2)
    right = kept.masked_fill(~targets, FORBIDDEN).logsumexp(dim=1)
    right = torch.where(targets.any(dim=1), right, none[:, 0])
    return (total - right).sum(dim=1)


def joint_loss(scores: Tensor, allowed: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each window over whole spans: (B,).

    The negative log of the share that the target span has of all spans and "no answer" (Fajcik et al. 2021, "Rethinking the Objectives of
    Extractive Question Answering", section 2): starts and ends that do not belong together, as of two names in a list, are told apart.

    Args:
        scores: (B, N, 2).
        allowed: bool (B, N, 2), tokens that may be a start, an end.
        targets: bool (B, N, 2), at most one start and one end of each window.
    """
    length = scores.shape[1]
    near = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu().tril(LONGEST_TOKENS - 1)  # (N, N), start before end
    pairs = allowed[:, :, None, 0] & allowed[:, None, :, 1] & near
    spans = (scores[:, :, None, 0] + scores[:, None, :, 1]).float().masked_fill(~pairs, FORBIDDEN).flatten(1)  # (B, N x N)
    total = torch.cat([torch.zeros_like(spans[:, :1]), spans], dim=1).logsumexp(dim=1)
    right = scores.float().masked_fill(~targets, 0.0).sum(dim=(1, 2))  # without targets 0, the score of "no answer"
    return (total - right).clamp(min=0)  # a target that is longer than any span weighed teaches nothing
