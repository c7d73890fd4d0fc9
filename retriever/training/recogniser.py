"""First stage of CLSR: train the speech encoder to hear phones.

    python -m retriever.training.recogniser --speech FOLDER --noise FOLDER --lexicon FILE --phones FILE --out FOLDER --steps 12000

CTC over the phones (Graves et al. 2006) on top, and where synthesis says when each phone ends, a cross entropy of single frames at a block
in the middle. The rate rises, stays, and falls to nothing over the last part (Hägele et al. 2024, "Scaling laws and compute-optimal
training beyond fixed training durations"), so a run can be made longer until its decay has begun. Stopped at any time, the same command
goes on from the last checkpoint.
"""

import argparse
import itertools
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from retriever.nets.frontend import CmvnStatistics, stack_frames
from retriever.nets.recogniser import Recogniser, RecogniserConfig, RecogniserOutput
from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.utterances import NO_TARGET, Batch, BatchConfig, Batches, PhoneTargets, Utterance, features_of, read_source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: in all.
        decay_steps: of them, over which the rate falls to nothing at the end.
        tap_weight: of the frames' cross entropy beside CTC.
        averaging: of the weights that are evaluated and kept, for each step.
    """

    steps: int
    decay_steps: int
    warmup_steps: int = 300
    peak_rate: float = 1.2e-3
    weight_decay: float = 0.01
    max_gradient: float = 3.0
    tap_weight: float = 0.3
    averaging: float = 0.998

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0."""
        return self.peak_rate * min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / self.decay_steps)


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one batch, for each utterance."""

    ctc: Tensor
    tap: Tensor


class Trainer:
    """A network, its optimiser, the running average of its weights, and the folder they are kept in."""

    def __init__(self, net: Recogniser, schedule: Schedule, folder: Path, device: torch.device) -> None:
        self.net = net.to(device)
        self.schedule = schedule
        self.folder = folder
        self.device = device
        self.step = 0
        self.heard_s = 0.0
        self.optimiser = torch.optim.AdamW(net.parameters(), schedule.peak_rate, (0.9, 0.98), weight_decay=schedule.weight_decay)
        self.average = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}

    def learn(self, batch: Batch) -> Losses:
        """Take one step."""
        rate = self.schedule.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.net(batch.features.to(self.device), batch.mask.to(self.device))
        losses = losses_of(output, batch)
        torch.autograd.backward(losses.ctc + self.schedule.tap_weight * losses.tap)
        size = nn.utils.clip_grad_norm_(self.net.parameters(), self.schedule.max_gradient)
        if bool(torch.isfinite(size)):
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.heard_s += batch.duration_s
        keep = min(self.schedule.averaging, self.step / (self.step + 10))
        with torch.no_grad():
            for name, tensor in self.net.state_dict().items():
                self.average[name].lerp_(tensor, 1 - keep)
        return losses

    def save(self) -> None:
        """Keep everything; the last file written makes it count."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = self.net.state_dict()
        replace_file(self.folder / "net.safetensors", lambda path: save_file(weights, path))
        replace_file(self.folder / "average.safetensors", lambda path: save_file(self.average, path))
        replace_file(self.folder / "optimiser.pt", lambda path: torch.save(self.optimiser.state_dict(), path))
        state = {"step": self.step, "heard_s": self.heard_s, "schedule": asdict(self.schedule), "config": asdict(self.net.config)}
        replace_file(self.folder / "state.json", lambda path: path.write_text(json.dumps(state, indent=1)))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        if not (self.folder / "state.json").is_file():
            return False
        state = json.loads((self.folder / "state.json").read_text())
        self.step, self.heard_s = state["step"], state["heard_s"]
        self.net.load_state_dict(load_file(self.folder / "net.safetensors"))
        self.average = {name: tensor.to(self.device) for name, tensor in load_file(self.folder / "average.safetensors").items()}
        if (self.folder / "optimiser.pt").is_file():  # left behind when weights travel
            self.optimiser.load_state_dict(torch.load(self.folder / "optimiser.pt", weights_only=True))
        return True


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


def evaluated(trainer: Trainer, speech: Path, pronunciations: PhoneTargets, max_clips: int) -> dict[str, float]:
    """Return the averaged weights' phone error rate on the first clips of each kind of voice that is held out."""
    net = Recogniser(trainer.net.config).to(trainer.device)
    net.load_state_dict(trainer.average)
    groups: dict[str, list[Utterance]] = {}
    for folder in sorted(path for path in speech.iterdir() if path.name.endswith("-dev")):
        for one in read_source(folder, pronunciations, {}):
            groups.setdefault(f"{folder.name} {one.voice.split('-')[0]}", []).append(one)
    return {name: round(phone_error_rate(net, some[:max_clips]), 4) for name, some in groups.items()}


def recogniser_config(num_blocks: int, dropout: float) -> RecogniserConfig:
    """Return the shipped size with another depth and dropout."""
    encoder = RecogniserConfig().encoder
    encoder = replace(encoder, num_encoder_blocks=num_blocks, block=replace(encoder.block, dropout=dropout))
    return RecogniserConfig(encoder=encoder)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place: whoever reads finds the old one or the new one, whole."""
    partial = path.with_name(path.name + ".part")
    write(partial)
    partial.replace(path)


def run(trainer: Trainer, batches: Batches, arguments: argparse.Namespace, pronunciations: PhoneTargets) -> None:
    """Train until the last step, a signal, or the time is up."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    begun = saved = time.monotonic()
    stream = (batch for number in itertools.count(trainer.step) for batch in batches.round(number, arguments.seed))
    ctc = tap = 0.0
    heard_before, time_before = trainer.heard_s, begun
    while trainer.step < trainer.schedule.steps and not stopped and time.monotonic() - begun < arguments.minutes * 60:
        losses = trainer.learn(next(stream))
        ctc, tap = 0.98 * ctc + 0.02 * losses.ctc.item(), 0.98 * tap + 0.02 * losses.tap.item()
        if trainer.step % 100 == 0:
            speed = (trainer.heard_s - heard_before) / (time.monotonic() - time_before)
            heard_before, time_before = trainer.heard_s, time.monotonic()
            log.info("step %d, %.1f h, ctc %.3f, tap %.3f, %.0f x", trainer.step, trainer.heard_s / 3600, ctc, tap, speed)
        if trainer.step % arguments.evaluate_every == 0:
            log.info("step %d, phone errors %s", trainer.step, evaluated(trainer, arguments.speech, pronunciations, arguments.max_clips))
        if time.monotonic() - saved > arguments.save_minutes * 60:
            trainer.save()
            saved = time.monotonic()
    trainer.save()
    if trainer.step == trainer.schedule.steps:
        log.info("finished, phone errors %s", evaluated(trainer, arguments.speech, pronunciations, 10 * arguments.max_clips))


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
    pronunciations = PhoneTargets.read(arguments.lexicon, arguments.phones)
    augmentation = Augmentation.of_folder(AugmentationConfig(), arguments.noise)
    shares = {name: float(share) for name, share in (item.split("=") for item in arguments.shares.split(","))}
    batches = Batches(arguments.speech, pronunciations, augmentation, BatchConfig(shares, batch_s=arguments.batch_s))
    schedule = Schedule(arguments.steps, arguments.decay_steps or max(1, arguments.steps // 4), peak_rate=arguments.peak_rate)
    net = Recogniser(recogniser_config(arguments.num_blocks, arguments.dropout))
    trainer = Trainer(net, schedule, arguments.out, torch.device(arguments.device))
    if not trainer.resume():
        measure_cmvn(net, batches.round(10**9, arguments.seed), 20)
        trainer.average = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    run(trainer, batches, arguments, pronunciations)


if __name__ == "__main__":
    main()
