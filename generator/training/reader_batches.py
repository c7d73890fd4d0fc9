"""Turns questions on passages into batches of similar length. B windows, N tokens."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from generator.training.reader_data import QuestionOnPassage, Unanswerable, crop
from generator.windows import WordPieces, windows

MAX_TOKENS: Final = 512  # positions of the network
_POOL: Final = 1500  # examples among which those of similar length are put together


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the network reads and what it should say; shapes as in `generator.nets.reader`."""

    token_ids: Tensor
    token_mask: Tensor
    token_types: Tensor
    allowed: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in ("token_ids", "token_mask", "token_types", "allowed", "targets")))


@dataclass(frozen=True, slots=True)
class Mixture:
    """What an epoch is made of.

    Attributes:
        shares: source -> how many of its questions an epoch has, as a share; above 1, some are read twice.
        unanswerable: kind of passage -> share of all windows.
        crop_words: shortest and longest stretch of a passage that is read.
        noisy: share of windows that are read as a recogniser would hear them.
    """

    shares: dict[str, float] = field(
        default_factory=lambda: {
            "new_wiki": 1.5,
            "qed": 1.0,
            "qamr": 0.3,
            "fairytale_qa": 0.15,
            "covid_qa": 0.4,
            "openstax_questions": 0.5,
        }
    )
    unanswerable: dict[str, float] = field(default_factory=lambda: {"shortened": 0.15, "nearest": 0.09, "elsewhere": 0.03})
    crop_words: tuple[int, int] = (40, 115)
    noisy: float = 0.5


Noise = Callable[[QuestionOnPassage, random.Random], QuestionOnPassage]


def epoch(questions: Sequence[QuestionOnPassage], mixture: Mixture, noise: Noise | None, rng: random.Random) -> Iterator[QuestionOnPassage]:
    """Yield an epoch's examples in random order."""
    pool = Unanswerable(questions)
    kinds, weights = [None, *mixture.unanswerable], [1 - sum(mixture.unanswerable.values()), *mixture.unanswerable.values()]
    chosen = [one for one in questions for _ in range(_times(mixture.shares.get(one.source, 1.0), rng))]
    rng.shuffle(chosen)
    for one in chosen:
        kind = rng.choices(kinds, weights)[0]
        example = one if kind is None else pool.make(one, kind, rng)
        if example is None:
            continue
        example = crop(example, rng.randint(*mixture.crop_words), rng)
        yield noise(example, rng) if noise is not None and rng.random() < mixture.noisy else example


def _times(share: float, rng: random.Random) -> int:
    whole = int(share)
    return whole + (rng.random() < share - whole)


def batches(examples: Iterable[QuestionOnPassage], pieces: WordPieces, num_tokens: int, rng: random.Random) -> Iterator[Batch]:
    """Yield batches of at most `num_tokens` tokens, padding counted; neighbours in length stand together, batches come in random order."""
    pool: list[QuestionOnPassage] = []
    for example in examples:
        pool.append(example)
        if len(pool) == _POOL:
            yield from _grouped(pool, pieces, num_tokens, rng)
            pool = []
    yield from _grouped(pool, pieces, num_tokens, rng)


def _grouped(pool: Sequence[QuestionOnPassage], pieces: WordPieces, num_tokens: int, rng: random.Random) -> Iterator[Batch]:
    sized = sorted(((pieces.count(one.question) + pieces.count(one.passage) + 3, index) for index, one in enumerate(pool)))
    groups: list[list[int]] = []
    for size, index in sized:
        if size > MAX_TOKENS:
            raise ValueError(f"{pool[index].id} has {size} tokens, the network reads {MAX_TOKENS}; crop the passage")
        if groups and size * (len(groups[-1]) + 1) <= num_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    rng.shuffle(groups)
    for group in groups:
        yield collate([pool[index] for index in group], pieces)


def collate(examples: Sequence[QuestionOnPassage], pieces: WordPieces) -> Batch:
    """Return examples as one padded batch; each fits into one window."""
    laid = [next(windows(pieces, one.question, one.passage, MAX_TOKENS)) for one in examples]
    longest = max(len(window.token_ids) for window in laid)
    shape = (len(laid), longest)
    token_ids, token_types = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    token_mask = torch.zeros(shape, dtype=torch.bool)
    allowed, targets = torch.zeros((*shape, 2), dtype=torch.bool), torch.zeros((*shape, 2), dtype=torch.bool)
    for row, (one, window) in enumerate(zip(examples, laid, strict=True)):
        size = len(window.token_ids)
        token_ids[row, :size] = torch.tensor(window.token_ids)
        token_types[row, :size] = torch.tensor(window.token_types)
        token_mask[row, :size] = True
        allowed[row, list(window.starts), 0] = True
        allowed[row, list(window.ends), 1] = True
        for first, last in one.answers[:1]:
            targets[row, window.starts[first], 0] = True
            targets[row, window.ends[last - 1], 1] = True
    return Batch(token_ids, token_mask, token_types, allowed, targets)
