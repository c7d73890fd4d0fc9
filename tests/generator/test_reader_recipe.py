"""The reader's recipe at toy size: it learns, goes on where it stopped, and its answers come out of the batches unharmed."""

import random
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer

from generator.nets.reader import Reader
from generator.training.reader_batches import MAX_TOKENS, Mixture, batches, collate, epoch
from generator.training.reader_data import QuestionOnPassage
from generator.training.reader_export import TorchNet
from generator.training.reader_train import Recipe, Trainer, freeze_tokens, train
from generator.windows import WordPieces
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM

PIECES = WordPieces(Tokenizer.from_file(str(ShippedModel.read(MINILM).verified("tokenizer.json"))))
TINY = TextEncoderConfig(dimension=32, num_layers=2, num_heads=2, feed_forward_dimension=64)
FILLER = "the a of in and to is was it on by at".split()  # noqa: SIM905
COLOURS = {"sky": "blue", "grass": "green", "blood": "red", "snow": "white", "coal": "black", "sun": "yellow"}


def make_questions(num, seed=0):
    """Make passages that say what colour each of three things has, with the question for one of them."""
    rng = random.Random(seed)
    made = []
    for number in range(num):
        things = rng.sample(sorted(COLOURS), 3)
        words, answers = [], ()
        for thing in things:
            words += [*rng.choices(FILLER, k=rng.randint(1, 3)), thing, "looks"]
            if thing == things[0]:
                answers = ((len(words), len(words) + 1),)
            words.append(COLOURS[thing])
        golds = ((COLOURS[things[0]],),)
        made.append(
            QuestionOnPassage(
                f"q{number}", "new_wiki", f"g{number % 5}", ("colour", things[0]), tuple(words), answers, golds, tuple(words[9:])
            )
        )
    return made


def make_trainer(num_steps=60, seed=0):
    torch.manual_seed(seed)
    return Trainer(
        Reader(TINY), Recipe(learning_rate=3e-3, warmup_steps=5, num_tokens=600, minutes=5, num_steps=num_steps), torch.device("cpu")
    )


def stream(seed=0):
    rng = random.Random(seed)
    while True:
        yield from batches(
            epoch(make_questions(120), Mixture(unanswerable={"elsewhere": 0.1}, crop_words=(40, 60)), None, rng), PIECES, 600, rng
        )


def test_the_recipe_learns_and_the_checkpoint_reads(tmp_path):
    trainer = make_trainer()
    first = [trainer.learn(batch) for batch, _ in zip(stream(), range(5), strict=False)]
    train(trainer, stream(1), tmp_path)
    net = TorchNet(trainer.net, PIECES)
    right = 0
    for one in make_questions(20, seed=9):
        (scores,) = net.read(one.question, one.passage)
        right += int(scores.starts.argmax()) == one.answers[0][0]
    assert trainer.progress == 1
    assert trainer.learn(next(stream(2))) < sum(first) / 5
    assert right >= 12  # one of three colours by chance would be 7


def test_a_training_goes_on_where_it_stopped(tmp_path):
    whole, begun, resumed = make_trainer(), make_trainer(), make_trainer(seed=1)
    given = [batch for batch, _ in zip(stream(), range(8), strict=False)]
    for batch in given:
        whole.learn(replace_time(whole, batch))
    for batch in given[:4]:
        begun.learn(replace_time(begun, batch))
    begun.save(tmp_path / "last.pt")
    resumed.load(tmp_path / "last.pt")
    torch.manual_seed(4)
    for batch in given[4:]:
        resumed.learn(replace_time(resumed, batch))
    assert resumed.step == 8
    one, other = (dict(trainer.net.named_parameters()) for trainer in (whole, resumed))
    assert all(torch.allclose(one[name], other[name], atol=2e-3) for name in one)


def replace_time(trainer, batch):
    """Let only steps count, so that both trainings have the same rate; without dropout nothing else is random."""
    trainer.seconds = 0.0
    trainer.net.dropout.p = 0.0
    return batch


def test_the_token_table_is_never_changed():
    trainer = make_trainer()
    before = trainer.net.encoder.embeddings.token.weight.clone()
    trainer.learn(next(stream()))
    assert torch.equal(trainer.net.encoder.embeddings.token.weight, before)
    net = Reader(TINY)
    freeze_tokens(net)
    assert not net.encoder.embeddings.token.weight.requires_grad


def test_a_batch_marks_the_answer_and_pads_the_rest():
    short, long = make_questions(2)
    long = replace(long, passage=(*long.passage, *FILLER))
    nothing = replace(short, answers=())
    batch = collate([short, long, nothing], PIECES)
    assert batch.token_ids.shape == batch.token_mask.shape
    for row, one in enumerate((short, long)):
        start, end = (int(batch.targets[row, :, edge].nonzero()) for edge in range(2))
        assert (batch.token_ids[row, start],) == PIECES(one.passage[one.answers[0][0]])
        assert (batch.token_ids[row, end],) == PIECES(one.passage[one.answers[0][1] - 1])
        assert batch.allowed[row, :, 0].sum() == len(one.passage)
    assert not batch.targets[2].any()
    assert not (batch.allowed & ~batch.token_mask[:, :, None]).any()
    assert int(batch.token_mask[0].sum()) < batch.token_mask.shape[1]


def test_batches_hold_every_example_once_and_stay_small():
    questions = make_questions(50)
    made = list(batches(questions, PIECES, 300, random.Random(0)))
    assert sum(len(batch.token_ids) for batch in made) == 50
    assert all(batch.token_ids.numel() <= 300 for batch in made)


def test_an_example_that_the_network_cannot_read_is_refused():
    long = replace(make_questions(1)[0], passage=("heart",) * MAX_TOKENS)
    with pytest.raises(ValueError, match="crop the passage"):
        list(batches([long], PIECES, 300, random.Random(0)))
