"""The text encoder's recipe at toy size: a tiny random network, a handful of passages, two steps; saved, continued, loaded, mixed."""

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (extra `train`)")

from tokenizers import Tokenizer  # noqa: E402

from retriever.checkpoint import load_weights, save_weights  # noqa: E402
from retriever.errors import ModelFilesMissing  # noqa: E402
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig  # noqa: E402
from retriever.sentence_encoder import MINILM  # noqa: E402
from retriever.training.mishearing import Mishearing  # noqa: E402
from retriever.training.passage_pairs import Passage  # noqa: E402
from retriever.training.text_encoder import (  # noqa: E402
    MAX_TOKENS,
    Batches,
    TextTraining,
    Trainer,
    contrast,
    encode,
    interpolate,
    mine,
    train,
)

TINY = TextEncoderConfig(dimension=12, num_layers=1, num_heads=3, feed_forward_dimension=16)
TRAINING = TextTraining(num_steps=2, num_neighbourhoods=2, num_neighbours=1, learning_rate=1e-3)
CPU = torch.device("cpu")
TEXTS = {
    "the heart is a pump that moves blood": ("What moves blood?", "What kind of organ is the heart?"),
    "blood carries oxygen from the lungs": ("What does blood carry?",),
    "yeast makes the dough of bread rise": ("What makes dough rise?",),
    "bread bakes in a hot oven": ("Where does bread bake?",),
    "a violin has four strings": ("How many strings has a violin?",),
}
PASSAGES = [Passage(text, questions, "article", "written", is_development=False) for text, questions in TEXTS.items()]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MINILM / "tokenizer.json"))


@pytest.fixture(scope="module")
def batches() -> Batches:
    words = {word: tuple(letter.upper() for letter in word) for text in TEXTS for word in text.split()}
    return Batches(PASSAGES, Mishearing(words, dict.fromkeys(words, 3)), TRAINING)


def tiny_net() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TINY)


def test_the_recipe_leaves_weights_that_can_be_loaded(tmp_path: Path, tokenizer: Tokenizer, batches: Batches, capsys) -> None:
    net, before = tiny_net(), tiny_net()
    train(Trainer(net, tokenizer, TRAINING, tmp_path, CPU), batches, save_minutes=0)
    tuned = interpolate(before, tmp_path / "tuned.safetensors", 1.0)
    torch.testing.assert_close(tuned.state_dict(), net.eval().state_dict())
    torch.testing.assert_close(tuned.embeddings.token.weight, before.embeddings.token.weight, rtol=0, atol=0)
    assert not torch.equal(tuned.layers[0].widen.weight, before.layers[0].widen.weight)
    with torch.no_grad():
        vectors = encode(tuned, tokenizer, list(TEXTS), CPU)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-3, rtol=0)
    assert capsys.readouterr().out == ""  # progress is logged


def test_stopped_and_continued_is_the_same_as_in_one_go(tmp_path: Path, tokenizer: Tokenizer, batches: Batches) -> None:
    whole = Trainer(tiny_net(), tokenizer, TRAINING, tmp_path / "whole", CPU)
    losses = [whole.learn(batches.draw(step)) for step in range(2)]
    stopped = Trainer(tiny_net(), tokenizer, TRAINING, tmp_path, CPU)
    assert stopped.learn(batches.draw(0)) == pytest.approx(losses[0])
    stopped.save()
    assert torch.load(tmp_path / "last.pt", weights_only=True).keys() == {"step", "net", "optimiser"}
    train(Trainer(tiny_net(), tokenizer, TRAINING, tmp_path, CPU), batches)
    continued = tiny_net()
    load_weights(continued, tmp_path / "tuned.safetensors")
    torch.testing.assert_close(continued.state_dict(), whole.net.state_dict(), atol=1e-5, rtol=1e-4)


def test_training_brings_questions_to_their_passages(tmp_path: Path, tokenizer: Tokenizer, batches: Batches) -> None:
    training = TextTraining(num_steps=30, num_neighbourhoods=2, num_neighbours=1, learning_rate=3e-3, warm_up=0.1)
    trainer = Trainer(tiny_net(), tokenizer, training, tmp_path, CPU)
    losses = [trainer.learn(batches.draw(step)) for step in range(30)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_the_same_number_gives_the_same_batch_and_places_are_right(batches: Batches) -> None:
    for number in range(6):
        questions, passages, places = batches.draw(number)
        assert batches.draw(number) == (questions, passages, places)
        assert len(questions) == len(places)
        assert set(places) == set(range(len(passages)))


def test_mining_finds_the_passage_that_shares_words() -> None:
    assert [near[0] for near in mine(PASSAGES)[:2]] == [1, 0]
    assert all(place not in near for place, near in enumerate(mine(PASSAGES)))


def test_the_loss_equals_its_definition() -> None:
    questions, passages = torch.eye(3)[:2], torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0]])
    expected = -(math.log(math.exp(10) / (math.exp(10) + math.exp(6))) + math.log(math.exp(8) / (math.exp(8) + 1))) / 2
    assert float(contrast(questions, passages, torch.tensor([0, 1]), 0.1)) == pytest.approx(expected, rel=1e-4)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    training = TextTraining(num_steps=100, warm_up=0.1, learning_rate=1.0)
    rates = [training.schedule.rate(step) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02


def test_a_text_has_the_same_vector_in_any_order_and_long_ones_are_cut(tokenizer: Tokenizer) -> None:
    net = tiny_net().eval()
    texts = [*TEXTS, "word " * (2 * MAX_TOKENS)]
    with torch.no_grad():
        vectors, turned = encode(net, tokenizer, texts, CPU), encode(net, tokenizer, texts[::-1], CPU)
    torch.testing.assert_close(vectors, turned.flip(0), atol=2e-2, rtol=0)


def test_mixed_weights_lie_between(tmp_path: Path) -> None:
    published, other = tiny_net(), TextEncoder(TINY)
    save_weights(other, tmp_path / "tuned.safetensors")
    mixed = interpolate(published, tmp_path / "tuned.safetensors", 0.25)
    expected = 0.75 * published.layers[0].widen.weight + 0.25 * other.layers[0].widen.weight
    torch.testing.assert_close(mixed.layers[0].widen.weight, expected)
    (tmp_path / "none.safetensors").write_text(json.dumps({}))
    with pytest.raises(ModelFilesMissing):
        interpolate(published, tmp_path / "none.safetensors", 0.25)
