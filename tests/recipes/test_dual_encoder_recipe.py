"""The control without words, small: it learns where the text encoder puts what is said, stops, goes on, and is run as a retriever."""

import json
import shutil
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")

from safetensors.torch import load_file  # noqa: E402
from tiny_joint import WORDS, write_inputs  # noqa: E402

from app.evaluation.trained import build_trained  # noqa: E402
from retriever.clsr import as_said  # noqa: E402
from retriever.domain import Audio, Question, Segment, SegmentAudio  # noqa: E402
from retriever.errors import ModelFilesMissing  # noqa: E402
from retriever.sentence_encoder import MINILM, shipped_encoder  # noqa: E402
from retriever.training.dual_encoder import DualTraining, HeardPassages, PassageBatches, listen, load_stage, main  # noqa: E402
from retriever.training.dual_encoder import _parser as parser  # noqa: E402
from retriever.training.dual_head import HeadTraining, HeardStates, hear, teach_head  # noqa: E402
from retriever.training.frame import Schedule  # noqa: E402
from retriever.training.joint_batches import SpokenBatch  # noqa: E402
from retriever.training.speech_shards import Utterance, write_shard  # noqa: E402

TEXT = {"num_layers": 1, "num_heads": 2, "feed_forward_dimension": 8, "max_positions": 64}  # 384 channels, as the shipped one
HERE = UUID(int=1)

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not here (Debian: apt-get install espeak-ng)")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Tiny networks with weights drawn at random, questions, and a corpus of tones that each stand for a text."""
    write_inputs(tmp_path, TEXT)
    for name in ("tones", "tones-dev"):
        write_shard(tmp_path / "speech" / name, 0, [Utterance(tone(n), f"tone {word}", "v", "train", None) for n, word in enumerate(WORDS)])
    return tmp_path


def tone(number: int, num_samples: int = 24_000) -> np.ndarray:
    wave = np.sin(2 * np.pi * (200 + 150 * number) * np.arange(num_samples) / 16_000)
    return (8_000 * wave).astype(np.int16)


def options(made: Path, out: str, *more: str) -> list[str]:
    paths = {
        "--recogniser": "recogniser", "--search": "search", "--text-weights": "text.safetensors", "--qa": "qa", "--noise": "noise",
        "--speech": "speech", "--out": out,
    }  # fmt: skip
    fixed = [part for option, name in paths.items() for part in (option, str(made / name))]
    rest = ["--tokenizer", str(MINILM / "tokenizer.json"), "--text-config", json.dumps(TEXT), "--sources", "qed", "--num-pairs", "2"]
    sizes = [
        "--num-passages",
        "3",
        "--max-passage-s",
        "4",
        "--shares",
        "tones=1",
        "--held-out",
        "tones-dev",
        "--num-held-out",
        "4",
        "--head-passages",
        "4",
    ]
    return [*fixed, *rest, *sizes, "--head-passages", "4", "--flite-share", "0", "--steps", "2", *more]


def run(made: Path, out: str, *more: str) -> Path:
    main(options(made, out, *more))
    return made / out


def same(left: Path, right: Path) -> bool:
    first, second = (load_file(folder / "net.safetensors") for folder in (left, right))
    return all(torch.equal(first[name], second[name]) for name in first)


def heard(numbers: list[int]) -> HeardPassages:
    sounds = torch.from_numpy(np.stack([tone(number) for number in numbers]).astype(np.float32) / 32_768)
    from retriever.training.filterbank import filterbank  # noqa: PLC0415

    features = filterbank(sounds, np.ones(len(numbers)))
    return HeardPassages([f"tone {WORDS[number]}" for number in numbers], features, torch.ones(features.shape[:2], dtype=torch.bool))


def test_training_goes_on_where_it_was_stopped_and_what_it_leaves_is_a_retriever(made: Path) -> None:
    begun = run(made, "out", "--minutes", "0")
    assert json.loads((begun / "state.json").read_text())["step"] == 0
    before = build_trained("direct", begun).fingerprint
    out = run(made, "out")
    state = json.loads((out / "state.json").read_text())
    assert state["step"] == 2
    assert state["heard_s"] > 10
    run(made, "out")  # nothing is left to do
    assert json.loads((out / "state.json").read_text())["heard_s"] == state["heard_s"]
    after = build_trained("direct", out)
    assert after.fingerprint != before
    assert (after.dimension, after.language) == (384, "en")
    sound = Audio((tone(3) / 32_768).astype(np.float32))
    (segment,) = after.embed([SegmentAudio(Segment(HERE, 0, len(sound.samples), HERE), sound)])
    assert segment.words == ()
    assert np.linalg.norm(segment.vector) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(after.encode(Question(audio=sound)).vector, segment.vector, atol=1e-6)
    written = after.encode(Question(text="What do 2 bees make?"))
    np.testing.assert_array_equal(written.vector, shipped_encoder().encode([as_said("What do 2 bees make?")])[0])


def test_it_learns_where_the_text_encoder_puts_what_is_said(made: Path) -> None:
    arguments = parser().parse_args(options(made, "learnt"))
    stage = load_stage(arguments, Schedule(150, 75, 5, 3e-3, averaging=0.98), DualTraining(memory_size=4))
    tones = heard([0, 5, 10, 15, 20, 25])
    batch = SpokenBatch(
        ["Which is lowest?", "Which is highest?"], tones.texts[:2], tones.features[:2], tones.mask[:2],
        torch.ones(2, 1, dtype=torch.int64), torch.ones(2, 1, dtype=torch.bool),
    )  # fmt: skip
    passages = HeardPassages(tones.texts[2:], tones.features[2:], tones.mask[2:])
    losses = [stage.learn(batch, passages) for _ in range(150)]
    assert losses[-1]["alignment"] < 0.5 * losses[0]["alignment"]
    assert losses[-1]["matching"] < 0.5 * losses[0]["matching"]
    assert stage.recall(tones) == 1.0
    assert stage.memory.shape == (4, 384)


def test_the_head_learns_over_an_encoder_that_stays(made: Path) -> None:
    net = load_stage(parser().parse_args(options(made, "head")), Schedule(1, 1), DualTraining()).net
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    tones, told = heard([0, 5, 10, 15, 20, 25]), []
    texts = torch.nn.functional.normalize(torch.randn(6, 384), dim=1)
    states = hear(net, tones.features, tones.mask)
    assert [len(one) for one in states] == [25] * 6  # 150 frames of 10 ms
    training = HeadTraining(steps=200, batch_size=4)
    teach_head(net, HeardStates(states, texts), training, 0, lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [50, 100, 150, 200]
    assert told[-1][1] < 0.5 * told[0][1]
    with torch.no_grad():
        assert (net.eval()(tones.features, tones.mask) @ texts.T).argmax(dim=1).tolist() == list(range(6))
    changed = {name.split(".")[0] for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"pooling", "narrow", "output"}


def test_the_order_in_which_sounds_are_heard_does_not_change_whose_vector_is_whose(made: Path) -> None:
    net = load_stage(parser().parse_args(options(made, "order")), Schedule(1, 1), DualTraining()).net.eval()
    features = torch.randn(9, 80, 80)
    mask = torch.arange(80)[None] < torch.tensor([30, 80, 12, 44, 7, 61, 80, 25, 53])[:, None]
    with torch.no_grad():
        torch.testing.assert_close(listen(net, features, mask), net(features, mask), atol=1e-5, rtol=1e-4)


def test_a_passage_is_clips_that_follow_each_other_with_their_words(made: Path) -> None:
    batches = PassageBatches(made / "speech", {"tones": 1.0}, None, 8.0)
    drawn = batches.draw(3, 20, seed=0)
    numbers = [[WORDS.index(word) for word in text.split() if word != "tone"] for text in drawn.texts]
    assert all(some == list(range(some[0], some[0] + len(some))) for some in numbers)
    assert {len(some) for some in numbers} > {1, 2}
    seconds = [1.5 * len(some) + 0.3 * (len(some) - 1) for some in numbers]
    assert drawn.mask.sum(dim=1).tolist() == pytest.approx([100 * one for one in seconds], abs=1)
    assert batches.draw(3, 20, seed=0).texts == drawn.texts != batches.draw(4, 20, seed=0).texts


def test_a_source_without_speech_and_a_folder_that_is_no_dual_encoder_are_told(made: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing holds no shard"):
        PassageBatches(made / "speech", {"nothing": 1.0}, None, 8.0)
    with pytest.raises(ModelFilesMissing, match=r"average\.safetensors"):
        build_trained("direct", made)
    other = build_trained("direct", made / "recogniser")
    with pytest.raises(ModelFilesMissing, match="no checkpoint of a dual encoder"):
        other.encode(Question(audio=Audio(np.zeros(16_000, np.float32))))
