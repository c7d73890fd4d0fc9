"""Diagrams of confidence: drawn from the shipped calibrations, and their numbers agree with what was measured."""

import json
import sys
from pathlib import Path

import pytest

from generator.calibration import WEIGHTS_FOLDER
from generator.training import reliability


def test_the_shipped_calibrations_make_a_diagram_and_a_table(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "reliability.svg"
    monkeypatch.setattr(sys, "argv", ["reliability", "--out", str(out)])
    reliability.main()
    drawn = out.read_text(encoding="utf-8")
    lines = capsys.readouterr().out.splitlines()
    assert drawn.count('<g id="axes_') == 4
    assert len(lines) == 2 + 8
    assert "`clsr`, `reader`, typed" in "".join(lines)


def test_the_same_calibrations_give_the_same_file(tmp_path):
    pytest.importorskip("matplotlib")
    decisions = reliability.read_decisions(WEIGHTS_FOLDER)
    for name in ("one.svg", "other.svg"):
        reliability.draw(decisions).savefig(tmp_path / name, metadata={"Date": None})
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_accuracy_and_error_are_those_of_the_file():
    record = json.loads((WEIGHTS_FOLDER / "support-clsr-reader.json").read_text(encoding="utf-8"))["languages"]["en"]["spoken"]
    (one,) = [
        one
        for one in reliability.read_decisions(WEIGHTS_FOLDER)
        if (one.retriever, one.generator, one.mode) == ("clsr", "reader", "spoken")
    ]
    num = record["quality"]["num_questions"]
    together = (one.strangers * num["stranger"] + one.removed * num["removed"]) / (num["stranger"] + num["removed"])
    assert (one.right + 1 - together) / 2 == pytest.approx(record["quality"]["balanced_accuracy"], abs=2e-3)
    assert one.accuracy_removed <= one.accuracy_strangers
    assert sum(size for _, _, size in one.bins) == sum(num.values())


def test_confidence_that_is_right_has_no_error():
    one = reliability.Decision("clsr", "reader", "typed", 0.5, ((0.2, 0.2, 30), (0.7, 0.6, 10)), 0.8, 0.1, 0.3)
    assert one.calibration_error == pytest.approx(0.1 * 10 / 40)
    assert one.accuracy_removed == pytest.approx(0.75)


def test_a_folder_without_calibrations_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reliability", "--weights", str(tmp_path), "--out", str(tmp_path / "x.svg")])
    with pytest.raises(SystemExit):
        reliability.main()
    assert "generator.training.calibrate" in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())
