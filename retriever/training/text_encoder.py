"""Fine-tunes MiniLM on questions and misheard passages: `python -m retriever.training.text_encoder --help`.

InfoNCE (van den Oord et al. 2018) from each question to all passages of its batch. Batches are made of neighbourhoods: a passage and those
that BM25 takes for the answer to its question, each with questions of its own, so that every negative is also somebody's right passage.
Half of the passages are misheard (`mishearing.Mishearing`). The token table stays as published. Resumable: run the same command again.

Shapes: B texts, Q questions, P passages, N tokens, D dimensions.
"""

import argparse
import logging
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from retriever.checkpoint import BERT_NAMES, BERT_UNUSED, load_weights, save_weights
from retriever.errors import ModelFilesMissing
from retriever.lexical import Postings, Vocabulary, content_terms
from retriever.nets.text_encoder import TextEncoder, TextEncoderConfig
from retriever.training import frame
from retriever.training.mishearing import Mishearing, read_dictionary, spoken_form
from retriever.training.passage_pairs import Passage, read_passages

NUM_MINED: Final = 10  # nearest passages by BM25, to draw from
MAX_TOKENS: Final = 224
CHECKPOINT: Final = "last.pt"
NUM_PARTS: Final = 3  # texts of a batch go through in so many parts of similar length


@dataclass(frozen=True, slots=True)
class TextTraining:
    """How to train.

    Attributes:
        num_neighbourhoods: in a batch.
        num_neighbours: in a neighbourhood, besides its centre.
        num_questions: of a passage in a batch, at most.
        temperature: of InfoNCE.
        warm_up: share of the steps in which the rate rises.
        clean_share: of passages that are not misheard.
        max_rate: of misheard words, drawn from 0.03 on; what the recogniser cannot know comes on top.
    """

    num_steps: int = 600
    num_neighbourhoods: int = 8
    num_neighbours: int = 3
    num_questions: int = 2
    temperature: float = 0.05
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warm_up: float = 0.08
    clean_share: float = 0.4
    max_rate: float = 0.25
    seed: int = 1

    @property
    def schedule(self) -> frame.Schedule:
        """A straight rise of the rate, then a straight fall to nothing."""
        rise = max(1, round(self.warm_up * self.num_steps))
        return frame.Schedule(
            self.num_steps,
            max(1, self.num_steps - rise),
            rise,
            self.learning_rate,
            self.weight_decay,
            max_gradient=1.0,
            averaging=0.0,
            second_moment=0.999,
        )


class Batches:
    """Batches by number: the same number gives the same batch."""

    def __init__(self, passages: Sequence[Passage], mishearing: Mishearing, training: TextTraining) -> None:
        """Find the neighbours of each passage that has questions."""
        self._passages = [one for one in passages if one.questions]
        self._mishearing = mishearing
        self._training = training
        self._neighbours = mine(self._passages)
        self._order = list(range(len(self._passages)))
        random.Random(training.seed).shuffle(self._order)  # noqa: S311 - no secret

    def __len__(self) -> int:
        """Return how many passages there are."""
        return len(self._passages)

    def draw(self, number: int) -> tuple[list[str], list[str], list[int]]:
        """Return questions, passages, and for each question the place of its passage."""
        setting = self._training
        rng = random.Random(f"{setting.seed} {number}")  # noqa: S311 - no secret
        first = number * setting.num_neighbourhoods
        chosen: dict[int, None] = {}
        for place in range(first, first + setting.num_neighbourhoods):
            centre = self._order[place % len(self._order)]
            near = [one for one in self._neighbours[centre] if one not in chosen]
            chosen |= dict.fromkeys([centre, *rng.sample(near, min(setting.num_neighbours, len(near)))])
        questions, places = [], []
        for place, one in enumerate(chosen):
            asked = self._passages[one].questions
            for question in rng.sample(asked, min(setting.num_questions, len(asked))):
                questions.append(self._as_asked(question, rng))
                places.append(place)
        return questions, [self._as_heard(self._passages[one].text, rng) for one in chosen], places

    def _as_heard(self, text: str, rng: random.Random) -> str:
        if rng.random() < self._training.clean_share:
            return text
        return self._mishearing.mishear(text, rng.uniform(0.03, self._training.max_rate), rng)

    def _as_asked(self, question: str, rng: random.Random) -> str:
        draw = rng.random()
        if draw < 0.4:
            return question
        spoken = spoken_form(question)
        return (self._mishearing.mishear(spoken, 0.1, rng) if draw > 0.85 else spoken) or question


def mine(passages: Sequence[Passage]) -> list[list[int]]:
    """Return for each passage the others that BM25 ranks highest for its first question; those of its own article mostly come first."""
    vocabulary = Vocabulary()
    postings = Postings([vocabulary.learn(content_terms(one.text)) for one in passages], len(vocabulary))
    everywhere = np.ones(len(passages), np.bool_)
    mined = []
    for place, one in enumerate(passages):
        terms = [vocabulary.number(term) for term in dict.fromkeys(content_terms(one.questions[0]))]
        bm25 = postings.match(terms, everywhere).bm25
        best = np.argpartition(-bm25, min(NUM_MINED + 1, len(bm25) - 1))[: NUM_MINED + 1]
        mined.append([int(row) for row in best if row != place and passages[row].text != one.text])
    return mined


def encode(net: TextEncoder, tokenizer: Tokenizer, texts: Sequence[str], device: torch.device) -> Tensor:
    """Return vectors (B, D) of texts, in float32; each is cut after `MAX_TOKENS`."""
    rows = [_fit(tokenizer.encode(text).ids) for text in texts]
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    size = math.ceil(len(rows) / min(NUM_PARTS, len(rows)))
    vectors = []
    for start in range(0, len(rows), size):
        part = [torch.tensor(rows[row]) for row in order[start : start + size]]
        ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
        mask = torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in part])[:, None]
        with torch.autocast(device.type, torch.bfloat16):
            vectors.append(net(ids.to(device), mask.to(device))[0].float())
    back = torch.tensor(sorted(range(len(rows)), key=order.__getitem__), device=device)
    return torch.cat(vectors)[back]


def contrast(questions: Tensor, passages: Tensor, places: Tensor, temperature: float) -> Tensor:
    """Return InfoNCE of questions (Q, D) against passages (P, D); `places` (Q,) says which is right."""
    loss: Tensor = functional.cross_entropy(questions @ passages.T / temperature, places)
    return loss


class Trainer(frame.Trainer):
    """Network, optimiser and their one file; no average of the weights is kept."""

    net: TextEncoder

    def __init__(self, net: TextEncoder, tokenizer: Tokenizer, training: TextTraining, folder: Path, device: torch.device) -> None:
        net.embeddings.token.weight.requires_grad_(False)
        super().__init__(net.to(device), training.schedule, folder, {})
        self._tokenizer = tokenizer
        self._training = training

    def learn(self, batch: tuple[list[str], list[str], list[int]]) -> float:
        """Take one step and return the loss before it."""
        questions, passages, places = batch
        self.prepare()
        asked = encode(self.net, self._tokenizer, questions, self.device)
        heard = encode(self.net, self._tokenizer, passages, self.device)
        loss = contrast(asked, heard, torch.tensor(places, device=self.device), self._training.temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        self.update()
        return float(loss.detach())

    def save(self) -> None:
        """Write everything that going on needs; the old file stays until the new one is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"step": self.step, "net": self.net.state_dict(), "optimiser": self.optimiser.state_dict()}
        frame.replace_file(self.folder / CHECKPOINT, lambda path: torch.save(record, path))

    def resume(self) -> bool:
        """Go on where `save` stopped, if it was called."""
        if not (self.folder / CHECKPOINT).is_file():
            return False
        record = torch.load(self.folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.net.load_state_dict(record["net"])
        self.optimiser.load_state_dict(record["optimiser"])
        self.step = record["step"]
        return True


def train(trainer: Trainer, batches: Batches, save_minutes: float = 2.0) -> None:
    """Train from wherever the folder's checkpoint stands; at the end `tuned.safetensors` is there."""
    trainer.resume()
    frame.train(trainer, lambda: {"loss": trainer.learn(batches.draw(trainer.step))}, frame.Pace(save_minutes=save_minutes))
    if trainer.step == trainer.schedule.steps:
        save_weights(trainer.net, trainer.folder / "tuned.safetensors")


def interpolate(published: TextEncoder, tuned: Path, share: float) -> TextEncoder:
    """Return a network whose weights lie between the published (share 0) and the tuned ones (share 1).

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3: what the original could do is kept, what was learnt too.

    Raises:
        ModelFilesMissing: the file does not hold this network's weights.
    """
    other = TextEncoder(published.config)
    load_weights(other, tuned)
    learnt = other.state_dict()
    mixed = {name: (1 - share) * tensor + share * learnt[name] for name, tensor in published.state_dict().items()}
    other.load_state_dict(mixed)
    return other.eval()


def make_mishearing(passages: Sequence[Passage]) -> Mishearing:
    """Return what mishears as pocketsphinx does: it knows the words of its own dictionary that these passages have.

    Raises:
        ModelFilesMissing: pocketsphinx's files are absent.
    """
    import pocketsphinx  # noqa: PLC0415 - only for its dictionary

    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    if not path.exists():
        raise ModelFilesMissing(f"{path} is absent; install pocketsphinx again")
    return Mishearing(read_dictionary(path), Counter(word for one in passages for word in one.text.split()))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of all-MiniLM-L6-v2")
    parser.add_argument("--tokenizer", type=Path, required=True, help="its tokenizer.json")
    parser.add_argument("--questions", type=Path, required=True, help="folder of the training questions (qa)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and tuned.safetensors")
    parser.add_argument("--num-steps", type=int, default=TextTraining().num_steps)
    parser.add_argument("--num-neighbourhoods", type=int, default=TextTraining().num_neighbourhoods, help="in a batch; more on a GPU")
    parser.add_argument("--learning-rate", type=float, default=TextTraining().learning_rate)
    parser.add_argument("--seed", type=int, default=TextTraining().seed)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    training = TextTraining(arguments.num_steps, arguments.num_neighbourhoods, learning_rate=arguments.learning_rate, seed=arguments.seed)
    torch.manual_seed(training.seed)
    passages = [one for one in read_passages(arguments.questions, training.seed) if not one.is_development]
    batches = Batches(passages, make_mishearing(passages), training)
    net = TextEncoder(TextEncoderConfig())
    load_weights(net, arguments.weights, BERT_NAMES, BERT_UNUSED)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    sys.stdout.write(f"{len(batches)} passages with questions\n")
    train(Trainer(net, tokenizer, training, arguments.out, torch.device(arguments.device)), batches)


def _fit(token_ids: list[int]) -> list[int]:
    return token_ids if len(token_ids) <= MAX_TOKENS else [*token_ids[: MAX_TOKENS - 1], token_ids[-1]]


if __name__ == "__main__":
    main()
