"""Trains the reader: `python -m generator.training.reader_train --data FOLDER --minilm model.safetensors --out checkpoints/reader`.

The token table stays as MiniLM published it, so that the shipped reader shares the text encoder's. The learning rate falls in a straight
line to zero over `--minutes` of this process or `--steps`, whichever ends first. Stopped and started again with the same arguments, it goes
on where it was.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import nn

from generator.nets.reader import Reader, joint_loss, span_loss
from generator.training.corpus import lecture_passages
from generator.training.reader_batches import Batch, Mixture, Noise, batches, epoch
from generator.training.reader_data import QuestionOnPassage, read_questions
from generator.training.reader_hearing import HeardTexts, read_heard
from generator.training.reader_noise import Confusions
from generator.training.reader_pseudo import read_marked
from generator.windows import WordPieces
from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM

_REPORT_STEPS: Final = 25
_SAVE_S: Final = 180.0
_APART: Final = 0.5  # weight of the loss of starts and ends apart beside that of whole spans


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the reader is trained.

    Attributes:
        learning_rate: at its highest, after the warm-up.
        num_tokens: of a batch, padding counted.
        minutes: of processor time (other processes on the machine do not shorten a training) after which the rate is zero.
        num_steps: likewise; whichever comes first.
        dropout: on the last states.
    """

    learning_rate: float = 1.5e-4
    warmup_steps: int = 60
    num_tokens: int = 2048
    minutes: float = 40.0
    num_steps: int = 1_000_000
    dropout: float = 0.1
    weight_decay: float = 0.01
    seed: int = 0


def new_reader(minilm: Path, dropout: float) -> Reader:
    """Return a reader whose trunk has MiniLM's published weights."""
    net = Reader(TextEncoderConfig(), dropout)
    load_weights(net.encoder, minilm, BERT_NAMES, BERT_UNUSED)
    return net


def freeze_tokens(net: Reader) -> None:
    """Keep the token table as it is: the text encoder's is shared at run time."""
    net.encoder.embeddings.token.weight.requires_grad_(False)


class Trainer:
    """Trains a reader step by step; what it knows fits into one file."""

    def __init__(self, net: Reader, recipe: Recipe, device: torch.device) -> None:
        freeze_tokens(net)
        self.net = net.to(device)
        self.recipe = recipe
        self.device = device
        self.step, self.seconds, self.epoch = 0, 0.0, 0
        learnt = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self._learnt = learnt
        self._optimiser = torch.optim.AdamW(learnt, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)

    @property
    def progress(self) -> float:
        """How much of the training is done, in [0, 1]."""
        return min(1.0, max(self.seconds / 60 / self.recipe.minutes, self.step / self.recipe.num_steps))

    def learn(self, batch: Batch) -> float:
        """Take one step and return the mean loss."""
        started = time.process_time()
        warm = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * (1 - self.progress)
        self.net.train()
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            scores = self.net(batch.token_ids, batch.token_mask, batch.token_types)
        apart, together = (one(scores, batch.allowed, batch.targets).mean() for one in (span_loss, joint_loss))
        loss = _APART * apart + together
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._learnt, 1.0)
        self._optimiser.step()
        self.step += 1
        value = float(loss.detach())
        self.seconds += time.process_time() - started
        return value

    def save(self, path: Path) -> None:
        """Write all that a later run needs; a reader never sees half a file."""
        record = {
            "net": self.net.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "epoch": self.epoch,
            "recipe": asdict(self.recipe),
        }
        partial = path.with_suffix(".part")
        torch.save(record, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on where a file was written."""
        record: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        self.net.load_state_dict(record["net"])
        self._optimiser.load_state_dict(record["optimiser"])
        self.step, self.seconds, self.epoch = int(record["step"]), float(record["seconds"]), int(record["epoch"])


def examples_of(
    questions: list[QuestionOnPassage], mixture: Mixture, noise: Noise | None, pieces: WordPieces, trainer: Trainer
) -> Iterator[Batch]:
    """Yield batches without end, each epoch drawn anew from the seed and its number."""
    while True:
        rng = random.Random(f"{trainer.recipe.seed} {trainer.epoch} {trainer.step}")  # noqa: S311  # a choice of examples, no secret
        yield from batches(epoch(questions, mixture, noise, rng), pieces, trainer.recipe.num_tokens, rng)
        trainer.epoch += 1


def train(trainer: Trainer, stream: Iterator[Batch], out: Path) -> None:
    """Learn until the rate is zero; saves `last.pt` every few minutes and at the end, and logs to `log.jsonl`."""
    out.mkdir(parents=True, exist_ok=True)
    saved, losses = time.perf_counter(), []
    for batch in stream:
        if trainer.progress >= 1:
            break
        losses.append(trainer.learn(batch))
        if trainer.step % _REPORT_STEPS == 0:
            line = {
                "step": trainer.step,
                "epoch": trainer.epoch,
                "minutes": round(trainer.seconds / 60, 2),
                "loss": sum(losses) / len(losses),
            }
            with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(line, flush=True)
            losses = []
        if time.perf_counter() - saved > _SAVE_S:
            trainer.save(out / "last.pt")
            saved = time.perf_counter()
    trainer.save(out / "last.pt")


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/")
    parser.add_argument("--minilm", type=Path, required=True, help="model.safetensors of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights to begin with, instead of MiniLM's")
    parser.add_argument("--confusions", type=Path, help="made by generator.training.reader_noise; without it only clean text is read")
    parser.add_argument("--heard", type=Path, help="made by generator.training.reader_hearing, together with --confusions")
    parser.add_argument("--marked", type=Path, help="further questions, made by generator.training.reader_pseudo")
    parser.add_argument("--minutes", type=float, default=Recipe().minutes)
    parser.add_argument("--steps", type=int, default=Recipe().num_steps)
    parser.add_argument("--learning-rate", type=float, default=Recipe().learning_rate)
    parser.add_argument("--sources", nargs="*", help="only these, all of them")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    recipe = Recipe(learning_rate=arguments.learning_rate, minutes=arguments.minutes, num_steps=arguments.steps)
    torch.manual_seed(recipe.seed)
    net = new_reader(arguments.minilm, recipe.dropout)
    if arguments.start:
        net.load_state_dict(torch.load(arguments.start, weights_only=True)["net"])
    trainer = Trainer(net, recipe, torch.device(arguments.device))
    if (arguments.out / "last.pt").exists():
        trainer.load(arguments.out / "last.pt")
    questions = read_questions(arguments.data / "qa", "train", without=lecture_passages(arguments.data))
    if arguments.marked:
        questions += read_marked(arguments.marked)
    mixture = Mixture()
    if arguments.sources:
        questions = [one for one in questions if one.source in arguments.sources]
        mixture = Mixture(shares=dict.fromkeys(arguments.sources, 1.0))
    noise: Noise | None = None
    if arguments.confusions:
        confusions = Confusions.read(arguments.confusions)
        noise = HeardTexts(read_heard(arguments.heard), confusions) if arguments.heard else confusions
    pieces = WordPieces(Tokenizer.from_file(str(ShippedModel.read(MINILM).verified("tokenizer.json"))))
    train(trainer, examples_of(questions, mixture, noise, pieces, trainer), arguments.out)


if __name__ == "__main__":
    main()
