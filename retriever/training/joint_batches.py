"""What a step of the joint stage takes and gives: pairs spoken, hypotheses as numbers.

Shapes: B pairs, T frames of 10 ms, M bands, K hypotheses, L phones of the longest, N tokens.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from retriever.lexicon_search import Hypothesis, LexiconSearch, usual_phones
from retriever.metrics import edit_distance
from retriever.nets.clsr import Proposals
from retriever.pronunciations import BLANK, PHONES, Pronunciations
from retriever.training.augmentation import Augmentation, Sound
from retriever.training.spoken_pairs import SpokenPair
from retriever.training.synthesis import Unspeakable, choose_delivery, speak
from retriever.training.utterances import features_of

NUM_ATTEMPTS: Final = 4  # at speaking a context, each in another voice


class Lexicon:
    """The words of the search and how each is most often said."""

    def __init__(self, lexicon: Pronunciations, words: Sequence[str]) -> None:
        self.pronunciations = lexicon
        self.numbers = {phone: number for number, phone in enumerate(PHONES, start=1)}
        rows = np.flatnonzero(lexicon.ranks == 0)
        self._phones = {words[lexicon.words[row]]: lexicon.phones[row, : lexicon.lengths[row]].tolist() for row in rows}

    def of_words(self, words: Sequence[str]) -> list[int]:
        """Return the phones of words; none if a word is unknown."""
        known = [self._phones.get(word) for word in words]
        return [phone for said in known if said for phone in said] if None not in known else []


@dataclass(frozen=True, slots=True)
class SpokenBatch:
    """Questions and their contexts as heard."""

    questions: list[str]
    contexts: list[str]
    features: Tensor  # float32 (B, T, M)
    mask: Tensor  # bool (B, T)
    phones: Tensor  # int64 (B, L), zero in padding
    phone_mask: Tensor  # bool (B, L)


class Speaker:
    """Speaks pairs: a voice, a manner and a distortion drawn for each."""

    def __init__(self, lexicon: Lexicon, augmentation: Augmentation, flite_share: float, seed: int) -> None:
        self._lexicon = lexicon
        self._augmentation = augmentation
        self._flite_share, self._seed = flite_share, seed

    def batch(self, pairs: Sequence[SpokenPair], number: int) -> SpokenBatch:
        """Return the pairs with their contexts spoken; one that no voice can say is left out.

        Raises:
            Unspeakable: nothing is left.
        """
        rng = random.Random(f"{self._seed}/{number}")  # noqa: S311 - no secret
        generator = np.random.default_rng((self._seed, number))
        spoken = [(pair, *said) for pair in pairs if (said := self._say(pair.context, rng)) is not None]
        if not spoken:
            raise Unspeakable(f"none of the {len(pairs)} contexts of batch {number} could be spoken; see that the voices are installed")
        sounds = [self._augmentation(sound, generator) for _, sound, _ in spoken]
        features, mask = features_of(sounds, np.array([self._augmentation.warp(generator) for _ in sounds]))
        phones, phone_mask = padded([said for _, _, said in spoken])
        return SpokenBatch(
            [pair.question for pair, _, _ in spoken], [pair.context for pair, _, _ in spoken], features, mask, phones, phone_mask
        )

    def _say(self, text: str, rng: random.Random) -> tuple[Sound, list[int]] | None:
        phones = self._lexicon.of_words(text.split())
        for _ in range(NUM_ATTEMPTS):
            voice, manner = choose_delivery("flite" if rng.random() < self._flite_share else "espeak", rng)
            try:
                speech = speak(voice, text, manner)
            except Unspeakable:
                continue
            told = [self._lexicon.numbers[phone.name] for phone in speech.phones or () if phone.name in self._lexicon.numbers]
            if said := told or phones:
                return speech.audio.samples, said
        return None


class Reader:
    """What stands between speech and text: the search, and the text encoder's tokens."""

    def __init__(self, search: LexiconSearch, lexicon: Lexicon, tokenizer: Tokenizer) -> None:
        self.search = search
        self._lexicon = lexicon
        self._tokenizer = tokenizer

    def bonus(self) -> Tensor:
        """Return (P,) what the search adds to each class."""
        settings, language = self.search.settings, self.search.language
        bonus = torch.from_numpy(-settings.prior_weight * usual_phones(self._lexicon.pronunciations, language.unigrams)).float()
        bonus[BLANK] = -settings.blank_cost
        return bonus

    def proposals(self, hypotheses: Sequence[tuple[Hypothesis, ...]], device: torch.device) -> Proposals:
        """Return what the joint model scores of a search's hypotheses."""
        num = max(map(len, hypotheses))
        rows = [
            self._lexicon.of_words([word.text for word in one.words])
            for some in hypotheses
            for one in (*some, *(some[:1] * (num - len(some))))
        ]
        phones, phone_mask = padded(rows)
        prior = torch.tensor([[one.score - one.acoustic for one in some] + [0.0] * (num - len(some)) for some in hypotheses])
        mask = torch.tensor([[place < len(some) for place in range(num)] for some in hypotheses])
        shape = (len(hypotheses), num, -1)
        return Proposals(phones.view(shape).to(device), phone_mask.view(shape).to(device), prior.float().to(device), mask.to(device))

    def tokens(self, texts: Sequence[Sequence[str]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return ids (B, K, N) and mask of K texts for each of B rows; where there are fewer, an empty text."""
        num = max(map(len, texts))
        rows = [self._tokenizer.encode(text).ids for some in texts for text in (*some, *([""] * (num - len(some))))]
        ids, mask = padded(rows)
        return ids.view(len(texts), num, -1).to(device), mask.view(len(texts), num, -1).to(device)


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return int64 rows of the same length, at least 1, zero in padding, and which numbers are real."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(max(1, int(lengths.max())))[None] < lengths[:, None]
    numbers = torch.zeros(mask.shape, dtype=torch.int64)
    numbers[mask] = torch.tensor([number for row in rows for number in row], dtype=torch.int64)
    return numbers, mask


def word_errors(hypotheses: Sequence[tuple[Hypothesis, ...]], said: Sequence[str]) -> Tensor:
    """Return (B, K) wrong words of each hypothesis, 0 where there is none."""
    num = max(map(len, hypotheses))
    rows = [
        [float(edit_distance(text.split(), [word.text for word in one.words])) for one in some] + [0.0] * (num - len(some))
        for some, text in zip(hypotheses, said, strict=True)
    ]
    return torch.tensor(rows)
