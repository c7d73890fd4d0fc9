"""The joint stage, small: contexts are spoken, searched and read; it stops, goes on, and leaves a recogniser that can be exported."""

import json
import math
import shutil
from argparse import Namespace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")

from safetensors.torch import load_file  # noqa: E402
from tiny_joint import write_inputs  # noqa: E402

from retriever.nets.clsr import choose  # noqa: E402
from retriever.sentence_encoder import MINILM  # noqa: E402
from retriever.training.export_recogniser import load_recogniser  # noqa: E402
from retriever.training.joint import JointTraining, load_joint, main  # noqa: E402

TEXT = {"dimension": 8, "num_layers": 1, "num_heads": 2, "feed_forward_dimension": 8, "max_positions": 64}

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not here (Debian: apt-get install espeak-ng)")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Tiny networks with weights drawn at random, a dictionary of what is said, four questions."""
    write_inputs(tmp_path, TEXT)
    return tmp_path


def run(made: Path, out: str, *more: str) -> Path:
    paths = {"--recogniser": "recogniser", "--search": "search", "--text-weights": "text.safetensors", "--qa": "qa", "--noise": "noise"}
    fixed = [part for option, name in paths.items() for part in (option, str(made / name))]
    rest = ["--tokenizer", str(MINILM / "tokenizer.json"), "--text-config", json.dumps(TEXT), "--sources", "qed", "--num-pairs", "3"]
    main([*fixed, *rest, "--flite-share", "0", "--out", str(made / out), *more])
    return made / out


def same(left: Path, right: Path) -> bool:
    first, second = (load_file(folder / "net.safetensors") for folder in (left, right))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_training_goes_on_where_it_was_stopped_and_leaves_a_recogniser(made: Path) -> None:
    stopped = run(made, "out", "--steps", "2", "--minutes", "0")
    assert json.loads((stopped / "state.json").read_text())["step"] == 0
    assert same(stopped, run(made, "again", "--steps", "2", "--minutes", "0"))
    out = run(made, "out", "--steps", "2")
    state = json.loads((out / "state.json").read_text())
    assert state["step"] == 2
    assert state["heard_s"] > 5
    assert not same(out, made / "again")
    before = load_recogniser(made / "recogniser")
    after = load_recogniser(out)
    assert after.config == before.config
    assert not torch.equal(after.ctc.weight, before.ctc.weight)
    assert torch.equal(after.frontend.shift, before.frontend.shift)


def test_without_the_retrieval_loss_other_weights_are_learnt_from_the_same_sound(made: Path) -> None:
    with_loss, without = run(made, "with", "--steps", "1"), run(made, "without", "--steps", "1", "--retrieval-weight", "0")
    states = [json.loads((folder / "state.json").read_text()) for folder in (with_loss, without)]
    assert states[0]["heard_s"] == pytest.approx(states[1]["heard_s"], rel=0.1)
    assert not same(with_loss, without)


def test_the_control_without_quantisation_passes_the_mean_on_and_its_checkpoint_says_so(made: Path) -> None:
    soft = run(made, "soft", "--steps", "1", "--no-quantisation")
    assert json.loads((soft / "state.json").read_text())["training"]["quantised"] is False
    arguments = Namespace(
        recogniser=soft, search=made / "search", text_weights=made / "text.safetensors", text_config=json.dumps(TEXT),
        tokenizer=MINILM / "tokenizer.json", device="cpu",
    )  # fmt: skip
    scores, vectors = torch.tensor([[0.0, -3.0 * math.log(3)]]), torch.eye(2)[None]
    chosen = [choose(scores, vectors, load_joint(arguments, JointTraining(quantised=which))[0].source).vectors for which in (True, False)]
    torch.testing.assert_close(chosen[0], torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(chosen[1], torch.tensor([[0.75, 0.25]]))
