"""A step of training the published form: the network, its losses, and what the retrieval loss needs.

Shapes: B utterances or pairs, U frames of 60 ms, O outputs of a frame, P phones and blank, N tokens, D channels of the text encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from retriever.clsr import as_said
from retriever.features import FRAME_SAMPLES
from retriever.nets.clsr import CifWordPieces, ClsrConfig, WordPieceClsr, Written, pooled
from retriever.nets.losses import (
    ContrastiveConfig,
    LossWeights,
    Terms,
    info_nce,
    label_smoothed_cross_entropy,
    quantity_loss,
    same_context,
    total_loss,
)
from retriever.nets.recogniser import Recogniser
from retriever.training.frame import RATE_FACTOR, Trainer
from retriever.training.joint_batches import Speaker, padded
from retriever.training.phone_times import Spans, phone_spans
from retriever.training.published_targets import Targets, WordRows, even_weights
from retriever.training.spoken_pairs import PairBatches
from retriever.training.utterances import OUTPUT, Batch


@dataclass(frozen=True, slots=True)
class PublishedTraining:
    """What is learnt, and how.

    Attributes:
        frozen_steps: at the beginning, in which the speech encoder does not learn.
        reuse: how often the rest learns from the states of one batch in those steps, each time with other tokens shown.
        encoder_factor: of the rate, for the speech encoder.
        aligned_steps: at the beginning, in which tokens are gathered by their true ends, as CTC finds them, not by the predicted ones.
        alignment_weight: of the predictor's distance to the true ends; ours.
        ctc_weight: of CTC over phones within the recogniser's part; ours.
        quantity_weight: alpha of the paper.
        retrieval_weight: beta of the paper; recognition gets what both leave.
    """

    frozen_steps: int = 200
    aligned_steps: int = 0
    reuse: int = 3
    encoder_factor: float = 0.3
    smoothing: float = 0.1
    alignment_weight: float = 1.0
    ctc_weight: float = 0.3
    quantity_weight: float = 0.3
    retrieval_weight: float = 0.0
    temperature: float = 0.05
    seed: int = 0

    @property
    def weights(self) -> LossWeights:
        """Of the losses of speech alone."""
        return LossWeights(alpha=self.quantity_weight, beta=0.0, ctc=self.ctc_weight)

    @property
    def pair_weights(self) -> LossWeights:
        """Of the losses of spoken pairs."""
        return LossWeights(alpha=self.quantity_weight * (1 - self.retrieval_weight), beta=self.retrieval_weight)


class WordPieceLearner(WordPieceClsr):
    """The published form with the recogniser's output for phones, which only training uses."""

    def __init__(self, config: ClsrConfig, source: CifWordPieces, recogniser: Recogniser) -> None:
        """Begin with what the recogniser hears."""
        super().__init__(config, source)
        self.frontend.load_state_dict(recogniser.frontend.state_dict())
        self.encoder.load_state_dict(recogniser.encoder.state_dict())
        self.outputs_per_frame = recogniser.config.outputs_per_frame
        self.ctc = nn.Linear(recogniser.ctc.in_features, recogniser.ctc.out_features)
        self.ctc.load_state_dict(recogniser.ctc.state_dict())

    def phone_log_probs(self, states: Tensor) -> Tensor:
        """Return (B, O x U, P) of states (B, U, D)."""
        return functional.log_softmax(rearrange(self.ctc(states), "b u (o p) -> b (u o) p", o=self.outputs_per_frame).float(), dim=-1)

    def rate_groups(self, encoder_factor: float) -> list[dict[str, object]]:
        """Return the weights that are trained, those that begin trained with a slower rate."""
        begun = [*self.encoder.parameters(), *self.ctc.parameters()]
        new = [weight for part in (self.predictor, self.decoder, self.output) for weight in part.parameters()]
        return [{"params": begun, RATE_FACTOR: encoder_factor}, {"params": new}]


class SpokenPairs:
    """Contexts spoken for a step, and their questions as the text encoder reads them."""

    def __init__(self, pairs: PairBatches, speaker: Speaker, tokenizer: Tokenizer) -> None:
        self.pairs, self.speaker, self._tokenizer = pairs, speaker, tokenizer

    @torch.no_grad()
    def questions(self, net: WordPieceClsr, questions: Sequence[str], device: torch.device) -> Tensor:
        """Return (B, D) of questions."""
        ids, mask = (tensor.to(device) for tensor in padded([self._tokenizer.encode(as_said(one)).ids for one in questions]))
        return pooled(net.text_encoder.token_states(ids, mask), mask, net.config.pooling)


class Stage:
    """Takes steps."""

    def __init__(self, net: WordPieceLearner, trainer: Trainer, rows: WordRows, training: PublishedTraining) -> None:
        self.net, self.trainer, self.rows, self.training = net, trainer, rows, training

    def learn(self, batch: Batch, spoken: SpokenPairs | None) -> dict[str, float]:
        """Take one step and return its losses."""
        step, device = self.trainer.step, self.trainer.device
        frozen = step < self.training.frozen_steps
        self.trainer.prepare()
        with torch.autocast(device.type, torch.bfloat16), torch.set_grad_enabled(not frozen):
            states, frame_mask = self.net.listen(batch.features.to(device), batch.mask.to(device))
        targets = self.rows.of_utterances(batch.said, self._phone_spans(states, frame_mask, batch))
        true_weights = even_weights(targets, frame_mask.cpu(), FRAME_SAMPLES).to(device)
        targets = targets.to(device)
        told: dict[str, float] = {}
        for turn in range(self.training.reuse if frozen else 1):
            given = true_weights if step < self.training.aligned_steps else None
            _, terms = self._write(states, frame_mask, targets, turn, given)
            aligned = alignment_loss(self.net.predictor.weigh(states.float(), frame_mask), true_weights, targets)
            if not frozen:
                terms["ctc"] = self._ctc(states, frame_mask, batch)
            weights = replace(self.training.weights, ctc=0.0) if frozen else self.training.weights
            (total_loss(Terms(**terms), weights) + self.training.alignment_weight * aligned).backward()  # type: ignore[no-untyped-call]
            told = {**{name: term.item() for name, term in terms.items()}, "alignment": aligned.item()}
            if spoken is not None:
                told |= self._learn_pairs(spoken)
            self.trainer.apply()
        self.trainer.advance(batch.duration_s)
        return told

    def _learn_pairs(self, spoken: SpokenPairs) -> dict[str, float]:
        """Add the gradients of a batch of spoken pairs."""
        step, device = self.trainer.step, self.trainer.device
        heard = spoken.speaker.batch(spoken.pairs.draw(step), step)
        targets = self.rows.of_texts(heard.contexts).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            states, frame_mask = self.net.listen(heard.features.to(device), heard.mask.to(device))
        written, terms = self._write(states, frame_mask, targets, self.training.reuse, None)
        vectors = self.net.read(replace(written, logits=written.logits.float())).vectors
        questions = spoken.questions(self.net, heard.questions, device)
        numbers = {context: number for number, context in enumerate(heard.contexts)}
        same = same_context(torch.tensor([numbers[context] for context in heard.contexts], device=device))
        terms["contrastive"] = info_nce(questions, vectors, ContrastiveConfig(self.training.temperature), same)
        total_loss(Terms(**terms), self.training.pair_weights).backward()  # type: ignore[no-untyped-call]
        nearest = (questions @ vectors.detach().T).argmax(dim=1)
        recall = (nearest == torch.arange(len(questions), device=device)).float().mean().item()
        return {**{f"pairs' {name}": term.item() for name, term in terms.items()}, "recall": recall}

    @torch.no_grad()
    def _phone_spans(self, states: Tensor, frame_mask: Tensor, batch: Batch) -> list[Spans]:
        """Return when the phones of each utterance were said, as the network itself hears it."""
        lengths = (frame_mask.sum(dim=1) * self.net.outputs_per_frame).tolist()
        log_probs = self.net.phone_log_probs(states.float()).float().cpu().numpy()
        return phone_spans(log_probs, lengths, [one.phones for one in batch.said], OUTPUT)

    def _write(
        self, states: Tensor, frame_mask: Tensor, targets: Targets, turn: int, given: Tensor | None
    ) -> tuple[Written, dict[str, Tensor]]:
        """Write what was said and return the losses of it."""
        generator = torch.Generator(states.device).manual_seed((self.training.seed * 1_000_003 + self.trainer.step) * 64 + turn)
        with torch.autocast(states.device.type, torch.bfloat16):
            written = self.net.write_taught(states, frame_mask, targets.rows, targets.mask, generator, given)
        logits = written.logits.float()
        return written, {
            "cross_entropy": label_smoothed_cross_entropy(logits, targets.rows, targets.known, self.training.smoothing),
            "quantity": quantity_loss(written.fired.quantity, targets.mask.sum(dim=1)),
        }

    def _ctc(self, states: Tensor, frame_mask: Tensor, batch: Batch) -> Tensor:
        """Return the CTC loss for each phone that was said, as in the recogniser's own stage."""
        with torch.autocast(states.device.type, torch.bfloat16):
            log_probs = self.net.phone_log_probs(states)
        lengths = repeat(frame_mask, "b u -> b (u o)", o=self.net.outputs_per_frame).sum(dim=1)
        phones, num_phones = batch.phones.to(states.device), batch.num_phones.to(states.device)
        losses = functional.ctc_loss(log_probs.transpose(0, 1), phones, lengths, num_phones, reduction="none", zero_infinity=True)
        return losses.sum() / num_phones.sum()


def alignment_loss(weights: Tensor, true_weights: Tensor, targets: Targets) -> Tensor:
    """Return the mean over tokens of how far predicted weights of frames (B, U) are from the true ones, of sounds whose ends are known."""
    known = true_weights.any(dim=1)
    distance = (weights - true_weights).abs().sum(dim=1)[known].sum()
    return distance / targets.mask[known].sum().clamp(min=1)
