"""What the end-to-end retriever is trained on: recognition, number of tokens, retrieval, and their weighted sum.

CLSR (arXiv 2511.09282), section on training; the source of each term is beside it.

Shapes: B examples of a batch, N tokens, T frames, V words, D channels, K hypotheses. Masks are boolean, True = real. Each loss is a mean
that padding does not enter, and 0 where nothing is real.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Generator, Tensor
from torch.nn import functional

Direction = Literal["question-to-context", "context-to-question", "both"]


@dataclass(frozen=True, slots=True)
class ContrastiveConfig:
    """The retrieval loss.

    Raises:
        ValueError: the temperature is not above 0.
    """

    temperature: float = 0.02  # not published; CLSR names none, but at 1 (the literal reading) a softmax over cosines is nearly flat
    direction: Direction = "both"  # not published; CLSR's one formula has one direction, its text describes the symmetric form

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError(f"cosines are divided by the temperature, so it must be above 0, got {self.temperature}")


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts.

    Raises:
        ValueError: a weight is negative, or alpha and beta leave less than nothing for recognition.
    """

    alpha: float = 1 / 3  # of the quantity
    beta: float = 1 / 3  # of retrieval; recognition gets the rest
    cross_entropy: float = 1.0  # within recognition; not published; Paraformer has such a factor, CLSR gives no value
    mwer: float = 0.0  # within recognition; not published; named by CLSR, absent from the code of its base
    ctc: float = 0.0  # within recognition; not in CLSR: ours, to make the encoder align early

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta, self.cross_entropy, self.mwer, self.ctc) < 0.0 or self.alpha + self.beta > 1.0:
            raise ValueError(f"weights must not be negative and alpha + beta must not exceed 1, got {self}")


@dataclass(frozen=True, slots=True)
class Terms:
    """The losses of one batch, each a scalar; None where it was not computed."""

    cross_entropy: Tensor | None = None
    quantity: Tensor | None = None
    contrastive: Tensor | None = None
    mwer: Tensor | None = None
    ctc: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """Token sequences drawn for each example."""

    token_ids: Tensor  # int64 (B, K, N), zero in padding
    log_probabilities: Tensor  # (B, K), with gradient


def label_smoothed_cross_entropy(logits: Tensor, targets: Tensor, token_mask: Tensor, smoothing: float = 0.1) -> Tensor:
    """Return the mean over real tokens of the cross entropy with (1 - e) of the target and e / V of every word.

    Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7. Its scale is one token, so long sentences weigh more.

    Args:
        logits: (B, N, V).
        targets: int64 (B, N); padding may hold anything.
        token_mask: bool (B, N).
        smoothing: e.
    """
    summed = functional.cross_entropy(logits[token_mask], targets[token_mask], label_smoothing=smoothing, reduction="sum")
    return summed / token_mask.sum().clamp(min=1)


def quantity_loss(quantity: Tensor, num_target: Tensor) -> Tensor:
    """Return the sum of |N - predicted N| over the batch for each target token (Gao et al. 2022, "Paraformer", the MAE of section 3.2).

    Args:
        quantity: (B,), the unscaled sums of the predictor's weights.
        num_target: int64 (B,).
    """
    return (quantity - num_target).abs().sum() / num_target.sum().clamp(min=1)


def same_context(context_ids: Tensor) -> Tensor:
    """Return which contexts of a batch are one and the same, of ids (B,): bool (B, B), to pass as `also_right`."""
    return context_ids[:, None] == context_ids[None, :]


def info_nce(questions: Tensor, contexts: Tensor, config: ContrastiveConfig, also_right: Tensor | None = None) -> Tensor:
    """Return the mean of -log(exp(S_ii / t) / sum_j exp(S_ij / t)), S the cosine.

    CLSR, equation 5 and its L_NLL; van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", equation 4;
    both directions averaged as in Radford et al. 2021, "CLIP", figure 3.

    Args:
        questions: (B, D).
        contexts: (C, D), C at least B; the i-th question's is the i-th, those from B on are only negatives.
        config: temperature and direction.
        also_right: bool (B, C), contexts that answer the question too and so are no negatives for it; the pair itself always counts.

    Raises:
        ValueError: there are fewer contexts than questions.
    """
    num = questions.shape[0]
    if contexts.shape[0] < num:
        raise ValueError(f"each of the {num} questions needs its own context, got {contexts.shape[0]}; repeat a context that is shared")
    scores = functional.normalize(questions, dim=-1) @ functional.normalize(contexts, dim=-1).T / config.temperature  # (B, C)
    pair = torch.eye(num, contexts.shape[0], dtype=torch.bool, device=scores.device)
    if also_right is not None:
        scores = scores.masked_fill(also_right & ~pair, -torch.inf)  # the pair stays, so no row is empty
    right = torch.arange(num, device=scores.device)
    if config.direction == "question-to-context":
        return functional.cross_entropy(scores, right)
    backward = functional.cross_entropy(scores[:, :num].T, right)
    return backward if config.direction == "context-to-question" else (functional.cross_entropy(scores, right) + backward) / 2


def sample_hypotheses(logits: Tensor, token_mask: Tensor, num_hypotheses: int, generator: Generator) -> Hypotheses:
    """Draw K token sequences from logits (B, N, V) and mask (B, N), each position on its own, as a parallel decoder's output says.

    Paraformer masks its best tokens at random instead; with what ratio, CLSR does not say.
    """
    log_probabilities = functional.log_softmax(logits, dim=-1)
    flat = rearrange(log_probabilities.detach().exp(), "b n v -> (b n) v")
    drawn = torch.multinomial(flat, num_hypotheses, replacement=True, generator=generator)
    drawn = rearrange(drawn, "(b n) k -> b n k", n=token_mask.shape[1])
    chosen = log_probabilities.gather(-1, drawn) * token_mask.unsqueeze(-1)
    return Hypotheses((drawn * token_mask.unsqueeze(-1)).transpose(1, 2), chosen.sum(dim=1))


def mwer_loss(log_probabilities: Tensor, word_errors: Tensor, hypothesis_mask: Tensor) -> Tensor:
    """Return the mean over examples of sum_k P_k (W_k - mean W), P renormalised over the K hypotheses.

    Prabhavalkar et al. 2018, "Minimum Word Error Rate Training for Attention-based Sequence-to-Sequence Models", the loss over an N-best
    list; with sampled hypotheses in Gao et al. 2022, "Paraformer", section 3.4.

    Args:
        log_probabilities: of whole sequences (B, K).
        word_errors: their edit distances to what was said (B, K), without gradient.
        hypothesis_mask: bool (B, K).
    """
    # Not -inf: an example without hypotheses must not give NaN; the factor below takes its shares away.
    shares = functional.softmax(log_probabilities.masked_fill(~hypothesis_mask, -1e9), dim=-1) * hypothesis_mask
    real = word_errors.to(shares.dtype).masked_fill(~hypothesis_mask, 0.0)
    mean = real.sum(dim=-1, keepdim=True) / hypothesis_mask.sum(dim=-1, keepdim=True).clamp(min=1)
    examples = hypothesis_mask.any(dim=-1).sum().clamp(min=1)
    return (shares * (real - mean)).sum() / examples


def ctc_fits(frame_mask: Tensor, targets: Tensor, token_mask: Tensor) -> Tensor:
    """Return whether each example has a frame for each token and one between equal neighbours, else CTC has no path: bool (B,)."""
    equal = (targets[:, 1:] == targets[:, :-1]) & token_mask[:, 1:]
    return frame_mask.sum(dim=1) >= token_mask.sum(dim=1) + equal.sum(dim=1)


def ctc_loss(logits: Tensor, frame_mask: Tensor, targets: Tensor, token_mask: Tensor, blank: int = 0) -> Tensor:
    """Return the CTC loss for each target token of the examples that have a path (Graves et al. 2006, section 4).

    An example that `ctc_fits` refuses has probability 0 and would make the sum infinite: it counts neither above nor below the line.

    Args:
        logits: of the encoder (B, T, V).
        frame_mask: bool (B, T), the real frames first.
        targets: int64 (B, N) without blanks; padding may hold anything.
        token_mask: bool (B, N), the real tokens first.
        blank: its class.
    """
    log_probabilities = functional.log_softmax(logits, dim=-1).transpose(0, 1)  # (T, B, V)
    num_frames, num_tokens = frame_mask.sum(dim=1), token_mask.sum(dim=1)
    known = targets.masked_fill(~token_mask, 0)
    each = functional.ctc_loss(log_probabilities, known, num_frames, num_tokens, blank, reduction="none", zero_infinity=True)  # (B,)
    fits = ctc_fits(frame_mask, targets, token_mask)
    return each.masked_fill(~fits, 0.0).sum() / (num_tokens * fits).sum().clamp(min=1)


def total_loss(terms: Terms, weights: LossWeights) -> Tensor:
    """Return (1 - alpha - beta) recognition + alpha quantity + beta retrieval (CLSR, L_total).

    Raises:
        ValueError: a term has a weight above 0 but was not computed.
    """
    rest = 1.0 - weights.alpha - weights.beta
    parts = {
        "cross_entropy": (rest * weights.cross_entropy, terms.cross_entropy),
        "mwer": (rest * weights.mwer, terms.mwer),
        "ctc": (rest * weights.ctc, terms.ctc),
        "quantity": (weights.alpha, terms.quantity),
        "contrastive": (weights.beta, terms.contrastive),
    }
    total = torch.zeros((), device=next((term.device for _, term in parts.values() if term is not None), None))
    for name, (weight, term) in parts.items():
        if term is not None:
            total = total + weight * term
        elif weight > 0.0:
            raise ValueError(f"the loss {name} weighs {weight:g} but was not computed; compute it or set its weight to 0")
    return total
