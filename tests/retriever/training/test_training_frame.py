"""The frame of all training stages: rates, averages, checkpoints, and stopping."""

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")

from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from retriever.training.frame import RATE_FACTOR, Pace, Schedule, Trainer, replace_file, train  # noqa: E402

SCHEDULE = Schedule(steps=12, decay_steps=4, warmup_steps=3, peak_rate=0.05, averaging=0.8)
POINTS = torch.linspace(-1, 1, 40)[:, None]


class Line(nn.Module):
    """Learns 3 x + 1; with a buffer of whole numbers and a part that is not trained."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Linear(1, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.given = nn.Linear(2, 2).requires_grad_(False)


class LineTrainer(Trainer):
    net: Line


def trainer(folder: Path) -> LineTrainer:
    torch.manual_seed(0)
    return LineTrainer(Line(), SCHEDULE, folder, {"config": {"of": "the stage"}})


def learn(some: LineTrainer) -> dict[str, float]:
    some.prepare()
    loss = (some.net.slope(POINTS) - 3 * POINTS - 1 - 0.1 * math.sin(some.step)).square().mean()
    loss.backward()
    some.net.seen += 1
    some.update(2.0)
    return {"loss": loss.item()}


def test_what_was_stopped_ends_where_an_uninterrupted_run_ends(tmp_path: Path) -> None:
    whole, part = trainer(tmp_path / "whole"), trainer(tmp_path / "part")
    train(whole, lambda: learn(whole), Pace())
    for _ in range(5):
        learn(part)
    part.save()
    again = trainer(tmp_path / "part")
    assert again.resume()
    assert again.step == 5
    train(again, lambda: learn(again), Pace())
    for name in ("net.safetensors", "average.safetensors"):
        first, second = (load_file(tmp_path / run / name) for run in ("whole", "part"))
        assert first.keys() == second.keys() == {"slope.weight", "slope.bias", "seen"}  # what is not trained is not kept
        assert all(torch.equal(first[tensor], second[tensor]) for tensor in first)
    assert first["seen"] == 12
    assert json.loads((tmp_path / "part/state.json").read_text()) == {"step": 12, "heard_s": 24.0, "config": {"of": "the stage"}}
    assert not list(tmp_path.rglob("*.part"))


def test_weights_that_travelled_without_the_optimiser_can_be_gone_on_with(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    assert not first.resume()
    learn(first)
    first.save()
    (tmp_path / "optimiser.pt").unlink()
    again = trainer(tmp_path)
    assert again.resume()
    assert torch.equal(again.net.slope.weight, first.net.slope.weight)
    assert torch.equal(again.net.given.weight, first.net.given.weight)


def test_training_stops_when_its_time_is_up_and_keeps_what_it_learnt(tmp_path: Path) -> None:
    some = trainer(tmp_path)
    train(some, lambda: learn(some), Pace(minutes=0))
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 0


def test_the_average_is_measured_at_times_and_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    some = trainer(tmp_path)
    asked: list[tuple[int, bool]] = []
    with caplog.at_level("INFO"):
        train(some, lambda: learn(some), Pace(log_every=6, evaluate_every=5), lambda last: asked.append((some.step, last)))
    assert asked == [(5, False), (10, False), (12, True)]
    assert sum("loss" in line for line in caplog.messages) == 2


def test_a_group_of_weights_has_its_share_of_the_rate(tmp_path: Path) -> None:
    net = Line()
    slow, quick = {"params": [net.slope.weight], RATE_FACTOR: 0.1}, {"params": [net.slope.bias]}
    some = LineTrainer(net, SCHEDULE, tmp_path, {}, [slow, quick])
    before = [weight.item() for weight in (net.slope.weight, net.slope.bias)]
    learn(some)
    moved = [abs(now.item() - then) for now, then in zip((net.slope.weight, net.slope.bias), before, strict=True)]
    assert moved[0] == pytest.approx(0.1 * moved[1], rel=0.05)


def test_a_step_whose_gradient_is_not_finite_changes_no_weight(tmp_path: Path) -> None:
    some = trainer(tmp_path)
    before = some.net.slope.weight.clone()
    some.prepare()
    torch.autograd.backward((some.net.slope.weight * math.nan).sum())
    some.update()
    assert torch.equal(some.net.slope.weight, before)
    assert some.step == 1


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def broken(partial: Path) -> None:
        partial.write_text("half")
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - the one raised above
        replace_file(path, broken)
    assert path.read_text() == "old"
