"""What every training stage rests on: the rate over time, the running average of weights, checkpoints, and the loop around the steps.

A stage brings a network and a function that learns from its next batch; it calls `Trainer.prepare`, its own backward passes and
`Trainer.update`. A checkpoint is a folder of four files: `net.safetensors` and `average.safetensors` (weights), `optimiser.pt`, and
`state.json`, written last, which says how far training is and what the stage adds of its own.
"""

import json
import logging
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

NET: Final = "net.safetensors"
AVERAGE: Final = "average.safetensors"
OPTIMISER: Final = "optimiser.pt"
STATE: Final = "state.json"
WARM_AGAIN_STEPS: Final = 100  # over which the rate rises again for weights that come without their optimiser
RATE_FACTOR: Final = "rate_factor"  # of a group of weights: what the schedule's rate is multiplied by for them

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: the rate rises, stays, and falls to nothing over the last part.

    Hägele et al. 2024, "Scaling laws and compute-optimal training beyond fixed training durations": a run can be made longer until its
    decay has begun. With a decay over all steps after the warm-up it is a straight rise and a straight fall.

    Attributes:
        steps: in all.
        decay_steps: of them, over which the rate falls to nothing at the end.
        averaging: of the weights that are evaluated and kept, for each step; 0 keeps no average.
        second_moment: Adam's, of the squared gradients.
    """

    steps: int
    decay_steps: int
    warmup_steps: int = 300
    peak_rate: float = 1.2e-3
    weight_decay: float = 0.01
    max_gradient: float = 3.0
    averaging: float = 0.998
    second_moment: float = 0.98

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0."""
        return self.peak_rate * min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / self.decay_steps)


@dataclass(frozen=True, slots=True)
class Pace:
    """When a run stops, saves and speaks.

    Attributes:
        minutes: after which it stops; what is done is kept.
        save_minutes: between two checkpoints.
        log_every: steps, over which losses are averaged.
        evaluate_every: steps; 0 is only at the end, if at all.
    """

    minutes: float = math.inf
    save_minutes: float = 5.0
    log_every: int = 10
    evaluate_every: int = 0


class Trainer:
    """A network, its optimiser, the running average of its weights, and the folder they are kept in."""

    def __init__(
        self,
        net: nn.Module,
        schedule: Schedule,
        folder: Path,
        record: Mapping[str, object],
        groups: list[dict[str, Any]] | None = None,
    ) -> None:
        """Make the optimiser and begin the average.

        Args:
            net: is trained; weights that want no gradient are neither trained nor kept.
            schedule: of the rate.
            folder: for the checkpoint.
            record: what the stage adds to `state.json`; "step" and "heard_s" are the frame's.
            groups: of weights with a `RATE_FACTOR` of their own; None trains all alike.
        """
        self.net = net
        self.schedule = schedule
        self.folder = folder
        self.device = next(net.parameters()).device
        self.step = 0
        self.heard_s = 0.0
        self._record = record
        self._cold_at = -WARM_AGAIN_STEPS  # the step at which an optimiser without a past began in the middle
        trained = [weight for weight in net.parameters() if weight.requires_grad]
        self._frozen = {name for name, weight in net.named_parameters() if not weight.requires_grad}
        betas = (0.9, schedule.second_moment)
        self.optimiser = torch.optim.AdamW(groups or trained, schedule.peak_rate, betas, weight_decay=schedule.weight_decay, fused=True)
        self._trained = trained
        self.average: dict[str, Tensor] = {}
        self.restart_average()

    def weights(self) -> dict[str, Tensor]:
        """Return what is kept: weights by name, and the buffers beside them."""
        return {name: tensor for name, tensor in self.net.state_dict().items() if name not in self._frozen}

    def restart_average(self) -> None:
        """Let the average begin with the weights as they are now."""
        if self.schedule.averaging:
            self.average = {name: tensor.detach().clone() for name, tensor in self.weights().items()}

    def prepare(self) -> None:
        """Set the rate of this step and forget the gradients of the last."""
        rate = self.schedule.rate(self.step) * min(1.0, (self.step - self._cold_at + 1) / WARM_AGAIN_STEPS)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get(RATE_FACTOR, 1.0)
        self.net.train()
        self.optimiser.zero_grad(set_to_none=True)

    def apply(self) -> None:
        """Move the weights by the gradients, unless one is not finite."""
        size = nn.utils.clip_grad_norm_(self._trained, self.schedule.max_gradient)
        if bool(torch.isfinite(size)):
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def advance(self, heard_s: float = 0.0) -> None:
        """Count the step, take the weights into the average."""
        self.step += 1
        self.heard_s += heard_s
        keep, weights = min(self.schedule.averaging, self.step / (self.step + 10)), self.weights()
        with torch.no_grad():
            for name, average in self.average.items():
                if average.is_floating_point():
                    average.lerp_(weights[name], 1 - keep)
                else:
                    average.copy_(weights[name])

    def update(self, heard_s: float = 0.0) -> None:
        """End a step: `apply` and `advance`."""
        self.apply()
        self.advance(heard_s)

    def save(self) -> None:
        """Keep everything; the last file written makes it count."""
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.contiguous() for name, tensor in self.weights().items()}
        replace_file(self.folder / NET, lambda path: save_file(weights, path))
        replace_file(self.folder / AVERAGE, lambda path: save_file(self.average, path))
        replace_file(self.folder / OPTIMISER, lambda path: torch.save(self.optimiser.state_dict(), path))
        state = {"step": self.step, "heard_s": self.heard_s, **self._record}
        replace_file(self.folder / STATE, lambda path: path.write_text(json.dumps(state, indent=1)))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one; without the optimiser's file, with a short warm-up."""
        if not (self.folder / STATE).is_file():
            return False
        state = json.loads((self.folder / STATE).read_text())
        self.step, self.heard_s = state["step"], state["heard_s"]
        found = load_file(self.folder / NET)
        self.net.load_state_dict({**{name: self.net.state_dict()[name] for name in self._frozen}, **found})
        self.average = {name: tensor.to(self.device) for name, tensor in load_file(self.folder / AVERAGE).items()}
        if not (self.folder / OPTIMISER).is_file():  # left behind when weights travel
            self._cold_at = self.step
        else:
            self.optimiser.load_state_dict(torch.load(self.folder / OPTIMISER, map_location=self.device, weights_only=True))
        return True


def train(
    trainer: Trainer,
    learn: Callable[[], Mapping[str, float]],
    pace: Pace,
    evaluate: Callable[[bool], object] | None = None,
) -> None:
    """Train until the last step, a signal, or the time is up, and save.

    Args:
        trainer: what is trained.
        learn: takes one step and returns its losses by name.
        pace: when to save, speak and stop.
        evaluate: measures the averaged weights; gets whether this was the last step. What it returns is logged.
    """
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    begun = saved = told = time.monotonic()
    heard_before, sums, num = trainer.heard_s, Counter[str](), 0
    while trainer.step < trainer.schedule.steps and not stopped and time.monotonic() - begun < pace.minutes * 60:
        sums.update(learn())
        num += 1
        if trainer.step % pace.log_every == 0:
            speed = (trainer.heard_s - heard_before) / (time.monotonic() - told)
            heard_before, told = trainer.heard_s, time.monotonic()
            heard = f", {trainer.heard_s / 3600:.1f} h at {speed:.0f} x" if trainer.heard_s else ""
            losses = ", ".join(f"{name} {total / num:.3f}" for name, total in sums.items())
            log.info("step %d%s, %s", trainer.step, heard, losses)
            sums, num = Counter(), 0
        if evaluate is not None and pace.evaluate_every and trainer.step % pace.evaluate_every == 0:
            log.info("step %d, %s", trainer.step, evaluate(False))
        if time.monotonic() - saved > pace.save_minutes * 60:
            trainer.save()
            saved = time.monotonic()
    trainer.save()
    if evaluate is not None and trainer.step == trainer.schedule.steps:
        log.info("finished, %s", evaluate(True))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in its place: whoever reads finds the old one or the new one, whole."""
    partial = path.with_name(path.name + ".part")
    write(partial)
    partial.replace(path)
