"""First stage of CLSR: train the speech encoder to hear phones.

    python -m retriever.training.recogniser --speech FOLDER --noise FOLDER --lexicon FILE --phones FILE --out FOLDER --steps 12000

CTC over the phones (Graves et al. 2006) on top, and where synthesis says when each phone ends, a cross entropy of single frames at a block
in the middle. A run can be made longer until its rate has begun to fall. Stopped at any time, the same command goes on from the last
checkpoint.
"""

import argparse
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from retriever.nets.frontend import CmvnStatistics, stack_frames
from retriever.nets.recogniser import Recogniser, RecogniserConfig, RecogniserOutput
from retriever.training import frame
from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.utterances import (
    NO_TARGET,
    Batch,
    BatchConfig,
    Batches,
    PhoneTargets,
    Utterance,
    features_of,
    read_shares,
    read_source,
)


@dataclass(frozen=True, slots=True)
class Schedule(frame.Schedule):
    """How long and how fast.

    Attributes:
        tap_weight: of the frames' cross entropy beside CTC.
    """

    tap_weight: float = 0.3


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch, for each utterance."""

    ctc: Tensor
    tap: Tensor


class Trainer(frame.Trainer):
    """A recogniser and what trains it."""

    net: Recogniser
    schedule: Schedule

    def __init__(self, net: Recogniser, schedule: Schedule, folder: Path, device: torch.device) -> None:
        super().__init__(net.to(device), schedule, folder, {"schedule": asdict(schedule), "config": asdict(net.config)})

    def learn(self, batch: Batch) -> Losses:
        """Take one step."""
        self.prepare()
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.net(batch.features.to(self.device), batch.mask.to(self.device))
        losses = losses_of(output, batch)
        torch.autograd.backward(losses.ctc + self.schedule.tap_weight * losses.tap)
        self.update(batch.duration_s)
        return losses


def losses_of(output: RecogniserOutput, batch: Batch) -> Losses:
    """Return both losses of a batch, in float32."""
    log_probs = output.log_probs.float().transpose(0, 1)  # (K, B, P), as torch wants it
    lengths = output.mask.sum(dim=1)
    ctc = functional.ctc_loss(
        log_probs, batch.phones.to(log_probs.device), lengths, batch.num_phones.to(log_probs.device), reduction="none", zero_infinity=True
    )
    aligned = batch.aligned.to(log_probs.device).masked_fill(~output.mask, NO_TARGET)
    logits = output.tap_logits.float()
    # Divided by the number of all frames, so that a batch with few alignments has little to say here.
    tap = functional.cross_entropy(logits.flatten(0, 1), aligned.flatten(), ignore_index=NO_TARGET, reduction="sum")
    return Losses((ctc.sum() / batch.num_phones.sum()), tap / output.mask.sum())


def measure_cmvn(net: Recogniser, batches: Iterator[Batch], num_batches: int) -> None:
    """Set the frontend's normalisation from the first batches."""
    config = net.config.frontend
    statistics = CmvnStatistics(config.dimension)
    for batch in itertools.islice(batches, num_batches):
        statistics.add(*stack_frames(batch.features, batch.mask, config.num_stacked, config.stride))
    net.frontend.set_cmvn(*statistics.shift_and_scale())


@torch.no_grad()
def phone_error_rate(net: Recogniser, utterances: Sequence[Utterance]) -> float:
    """Return the share of wrong phones, best path."""
    net.eval()
    device = next(net.parameters()).device
    wrong = total = 0
    for one in utterances:
        features, mask = features_of([one.sound()], np.ones(1))
        best = net(features.to(device), mask.to(device)).log_probs[0].argmax(dim=-1).tolist()
        heard = [phone for phone, _ in itertools.groupby(best) if phone]
        wrong += edit_distance(heard, list(one.phones))
        total += len(one.phones)
    return wrong / total


def edit_distance(left: list[int], right: list[int]) -> int:
    """Return the least number of insertions, deletions and replacements that make one of the other."""
    row = np.arange(len(right) + 1)
    for number, item in enumerate(left, start=1):
        costs = np.concatenate(([number], np.minimum(row[1:] + 1, row[:-1] + (np.array(right) != item))))
        row = np.minimum.accumulate(costs - np.arange(len(costs))) + np.arange(len(costs))
    return int(row[-1])


def evaluated(trainer: Trainer, speech: Path, phone_targets: PhoneTargets, max_clips: int) -> dict[str, float]:
    """Return the averaged weights' phone error rate on the first clips of each kind of voice that is held out."""
    net = Recogniser(trainer.net.config).to(trainer.device)
    net.load_state_dict(trainer.average)
    groups: dict[str, list[Utterance]] = {}
    for folder in sorted(path for path in speech.iterdir() if path.name.endswith("-dev")):
        for one in read_source(folder, phone_targets, {}):
            groups.setdefault(f"{folder.name} {one.voice.split('-')[0]}", []).append(one)
    return {name: round(phone_error_rate(net, some[:max_clips]), 4) for name, some in groups.items()}


def recogniser_config(num_blocks: int, dropout: float) -> RecogniserConfig:
    """Return the shipped size with another depth and dropout."""
    encoder = RecogniserConfig().encoder
    encoder = replace(encoder, num_encoder_blocks=num_blocks, block=replace(encoder.block, dropout=dropout))
    return RecogniserConfig(encoder=encoder)


def run(trainer: Trainer, batches: Batches, arguments: argparse.Namespace, phone_targets: PhoneTargets) -> None:
    """Train until the last step, a signal, or the time is up."""
    stream = (batch for number in itertools.count(trainer.step) for batch in batches.round(number, arguments.seed))

    def learn() -> dict[str, float]:
        losses = trainer.learn(next(stream))
        return {"ctc": losses.ctc.item(), "tap": losses.tap.item()}

    def evaluate(last: bool) -> dict[str, float]:
        return evaluated(trainer, arguments.speech, phone_targets, arguments.max_clips * (10 if last else 1))

    frame.train(trainer, learn, frame.Pace(arguments.minutes, arguments.save_minutes, 100, arguments.evaluate_every), evaluate)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="one folder of shards for each source")
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--lexicon", type=Path, required=True)
    parser.add_argument("--phones", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="checkpoints")
    parser.add_argument("--shares", default="real=0.35,flite=0.4,espeak=0.25", help="of the time heard, for each source")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay-steps", type=int, default=0, help="0: a quarter of the steps")
    parser.add_argument("--num-blocks", type=int, default=8)
    parser.add_argument("--dropout", type=float, default=0.0, help="0: few hours on a CPU underfit, and drawing it costs a third of a step")
    parser.add_argument("--batch-s", type=float, default=110.0)
    parser.add_argument("--peak-rate", type=float, default=1.2e-3)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so long")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--evaluate-every", type=int, default=1_000)
    parser.add_argument("--max-clips", type=int, default=25, help="of each held-out source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(arguments.seed)
    phone_targets = PhoneTargets.read(arguments.lexicon, arguments.phones)
    augmentation = Augmentation.of_folder(AugmentationConfig(), arguments.noise)
    shares = read_shares(arguments.shares)
    batches = Batches(arguments.speech, phone_targets, augmentation, BatchConfig(shares, batch_s=arguments.batch_s))
    schedule = Schedule(arguments.steps, arguments.decay_steps or max(1, arguments.steps // 4), peak_rate=arguments.peak_rate)
    net = Recogniser(recogniser_config(arguments.num_blocks, arguments.dropout))
    trainer = Trainer(net, schedule, arguments.out, torch.device(arguments.device))
    if not trainer.resume():
        measure_cmvn(net, batches.round(10**9, arguments.seed), 20)
        trainer.restart_average()
    run(trainer, batches, arguments, phone_targets)


if __name__ == "__main__":
    main()
