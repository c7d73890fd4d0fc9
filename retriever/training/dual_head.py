"""Teaches what is fresh of the dual encoder before the rest: what pools and maps, over an encoder that only hears phones so far.

Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", section 3: first the head alone, then
everything. The encoder's states of some thousand passages are computed once, so that a step costs hundredths of a second, and each sound
is told from all passages' words at once.

Shapes: S passages, U frames of 60 ms, C channels of the encoder, D dimensions of a vector.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from retriever.nets.dual_encoder import DualEncoder
from retriever.nets.losses import ContrastiveConfig, info_nce
from retriever.training.frame import Schedule

SAME = 0.99  # cosine from which on two texts are one: that is no negative

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HeadTraining:
    """How to train the head.

    Attributes:
        batch_size: passages of a step.
        frame_dropout: share of frames that are left out, drawn anew each time: few passages are heard often.
    """

    steps: int = 600
    batch_size: int = 48
    warmup_steps: int = 20
    peak_rate: float = 2e-3
    weight_decay: float = 0.05
    frame_dropout: float = 0.2
    temperature: float = 0.05
    alignment_weight: float = 2.0

    @property
    def schedule(self) -> Schedule:
        """A straight rise, then a straight fall to nothing."""
        return Schedule(self.steps, max(1, self.steps - self.warmup_steps), self.warmup_steps, self.peak_rate)


@dataclass(frozen=True, slots=True)
class HeardStates:
    """What the encoder makes of passages, and where the text encoder puts their words."""

    states: Sequence[Tensor]  # float16 (U, C) each
    texts: Tensor  # (S, D)


@torch.no_grad()
def hear(net: DualEncoder, features: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the encoder's states of filter banks (B, T, M) with mask (B, T), each without padding."""
    with torch.autocast(features.device.type, torch.bfloat16):
        states, frame_mask = net.hear(features, mask)
    return [row[real].half() for row, real in zip(states, frame_mask, strict=True)]


def teach_head(net: DualEncoder, heard: HeardStates, training: HeadTraining, seed: int, tell: Callable[[int, float], object]) -> None:
    """Train what pools and maps, in place; the encoder stays as it is.

    Args:
        net: whose states were heard.
        heard: on the network's device.
        training: how.
        seed: of the batches and of the frames left out.
        tell: gets step and loss now and then.
    """
    generator = torch.Generator().manual_seed(seed)
    head = [weight for part in (net.pooling, net.narrow, net.output) for weight in part.parameters()]
    optimiser = torch.optim.AdamW(head, 0.0, (0.9, 0.98), weight_decay=training.weight_decay)
    same = heard.texts @ heard.texts.T > SAME  # (S, S)
    sums = 0.0
    for step in range(training.steps):
        chosen = torch.randperm(len(heard.states), generator=generator)[: training.batch_size]
        rows = [heard.states[row] for row in chosen.tolist()]
        kept = [row[torch.rand(len(row), generator=generator).to(row.device) >= training.frame_dropout] for row in rows]
        states = pad_sequence([one if len(one) else row for one, row in zip(kept, rows, strict=True)], batch_first=True)
        lengths = torch.tensor([len(one) or len(row) for one, row in zip(kept, rows, strict=True)], device=states.device)
        mask = torch.arange(states.shape[1], device=states.device)[None] < lengths[:, None]
        with torch.autocast(states.device.type, torch.bfloat16):
            sounds = net.project(states.float(), mask)
        # The chosen come first, as the loss wants it; all others are negatives.
        order = torch.cat([chosen, torch.tensor([row for row in range(len(heard.states)) if row not in set(chosen.tolist())])]).long()
        texts = heard.texts[order]
        loss = info_nce(sounds, texts, ContrastiveConfig(training.temperature), same[chosen][:, order])
        loss = loss + training.alignment_weight * (1 - functional.cosine_similarity(sounds, texts[: len(chosen)]).mean())
        for group in optimiser.param_groups:
            group["lr"] = training.schedule.rate(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        sums += float(loss.detach())
        if (step + 1) % 50 == 0:
            tell(step + 1, sums / 50)
            sums = 0.0
