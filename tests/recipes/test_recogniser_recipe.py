"""The recogniser's training, small: it learns, stops, goes on where it was, and what it keeps can be loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from retriever.nets.recogniser import Recogniser
from retriever.training.recogniser import Schedule, edit_distance, main, recogniser_config

TONES = {"one": 400.0, "two": 1_100.0, "three": 2_600.0}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Words that are tones: something that can be learned in seconds."""
    generator = np.random.default_rng(0)
    (tmp_path / "lexicon.tsv").write_text("one\ta\ntwo\tb\nthree\tc\n")
    (tmp_path / "phones.txt").write_text("a\nb\nc\n")
    for source in ("real", "tone-dev"):
        folder = tmp_path / "speech" / source
        folder.mkdir(parents=True)
        lines, sounds, offset = [], [], 0
        for _ in range(24):
            words = generator.choice(list(TONES), 4)
            sound = np.concatenate([np.r_[np.sin(np.arange(3_600) / 16_000 * 2 * np.pi * TONES[w]) * 0.3, np.zeros(1_200)] for w in words])
            lines.append({"offset": offset, "samples": len(sound), "text": " ".join(words), "voice": "tone", "split": "x", "phones": None})
            sounds.append((sound * 32_767).astype("<i2"))
            offset += len(sound)
        np.concatenate(sounds).tofile(folder / "000.pcm")
        (folder / "000.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise/hiss.flac", generator.standard_normal(8_000) * 0.1, 16_000)
    return tmp_path


def command(corpus: Path, *more: str) -> list[str]:
    paths = {"--speech": "speech", "--noise": "noise", "--lexicon": "lexicon.tsv", "--phones": "phones.txt", "--out": "out"}
    fixed = [part for option, name in paths.items() for part in (option, str(corpus / name))]
    return [*fixed, "--num-blocks", "4", "--batch-s", "4", "--shares", "real=1", "--evaluate-every", "1000", *more]


def test_training_that_was_stopped_goes_on_and_its_weights_load(corpus: Path) -> None:
    main(command(corpus, "--steps", "6", "--minutes", "0"))
    assert json.loads((corpus / "out/state.json").read_text())["step"] == 0
    main(command(corpus, "--steps", "3"))
    halfway = load_file(corpus / "out/net.safetensors")
    assert json.loads((corpus / "out/state.json").read_text())["step"] == 3
    main(command(corpus, "--steps", "6"))
    state = json.loads((corpus / "out/state.json").read_text())
    assert state["step"] == 6
    assert state["heard_s"] > 0
    finished = load_file(corpus / "out/net.safetensors")
    assert any(not torch.equal(halfway[name], finished[name]) for name in finished)
    assert torch.equal(halfway["frontend.shift"], finished["frontend.shift"])
    assert not torch.equal(halfway["frontend.shift"], torch.zeros_like(halfway["frontend.shift"]))
    net = Recogniser(recogniser_config(4, 0.0))
    net.load_state_dict(load_file(corpus / "out/average.safetensors"))
    assert not list((corpus / "out").glob("*.part"))


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=1_000, decay_steps=200, warmup_steps=100, peak_rate=1.0)
    assert schedule.rate(0) == pytest.approx(0.01)
    assert schedule.rate(99) == schedule.rate(500) == schedule.rate(800) == 1.0
    assert schedule.rate(900) == pytest.approx(0.5)
    assert schedule.rate(999) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("left", "right", "distance"), [([], [], 0), ([1], [], 1), ([], [1, 2], 2), ([1, 2, 3], [1, 3], 1), ([1, 2], [2, 1], 2)]
)
def test_the_edit_distance_counts_the_fewest_changes(left: list[int], right: list[int], distance: int) -> None:
    assert edit_distance(left, right) == distance
