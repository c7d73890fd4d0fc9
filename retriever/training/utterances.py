"""Batches of spoken utterances for training the recogniser: drawn from shards, distorted, turned into filter banks and phones.

A round is a pool of clips, drawn from the sources in given shares, sorted by length and cut into batches, so that little is padding.
What a round holds depends on its number, the seed and the shards there are; shards that appear while training goes on are taken in.

Shapes: B utterances, T frames of 10 ms, M bands, N phones, K outputs of 30 ms.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retriever.training.augmentation import Augmentation, Sound, resampled
from retriever.training.filterbank import SHIFT, filterbank

OUTPUT: Final = 480  # samples between two outputs of the recogniser
NO_TARGET: Final = -100  # torch's mark for what a cross entropy leaves out
MIN_SAMPLES: Final = 8_000
Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Utterance:
    """A clip of a shard with its phones.

    Attributes:
        phones: ids from 1, in order.
        ends: where each phone of `aligned` ends, in samples; empty where unknown.
        aligned: ids, silence as 0.
    """

    path: Path
    offset: int
    num_samples: int
    text: str
    voice: str
    phones: tuple[int, ...]
    aligned: tuple[int, ...]
    ends: tuple[int, ...]

    def sound(self) -> Sound:
        """Read the samples from disk, float32 in [-1, 1]."""
        pcm = np.fromfile(self.path, "<i2", self.num_samples, offset=2 * self.offset)
        return (pcm / 32_768).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step needs."""

    features: Tensor  # float32 (B, T, M)
    mask: Tensor  # bool (B, T)
    phones: Tensor  # int64, all utterances' one after the other
    num_phones: Tensor  # int64 (B,)
    aligned: Tensor  # int64 (B, K): the phone at each output, 0 for silence, NO_TARGET where unknown
    duration_s: float
    said: tuple[Utterance, ...] = ()


class PhoneTargets:
    """What the recogniser should say of a text: its words as ids of phones, from the lexicon that the corpus was made with."""

    def __init__(self, phones: Sequence[str], words: Mapping[str, tuple[int, ...]]) -> None:
        self.phones = tuple(phones)
        self._numbers = {phone: number for number, phone in enumerate(phones, start=1)}
        self._words = words

    @classmethod
    def read(cls, lexicon: Path, phones: Path) -> "PhoneTargets":
        """Read `word TAB phones` lines, the first of a word counting, and the phones' list."""
        names = phones.read_text().split()
        numbers = {name: number for number, name in enumerate(names, start=1)}
        words: dict[str, tuple[int, ...]] = {}
        for line in lexicon.read_text().splitlines():
            word, spelled = line.split("\t")
            words.setdefault(word, tuple(numbers[phone] for phone in spelled.split()))
        return cls(names, words)

    def of_text(self, text: str) -> tuple[int, ...] | None:
        """Return the phones of a normalised text, or None if a word is unknown."""
        spoken = [self._words.get(word) for word in text.split()]
        return None if None in spoken else tuple(phone for word in spoken if word for phone in word)

    def numbers(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return ids of phone names, 0 for "sil"."""
        return tuple(self._numbers.get(name, 0) for name in names)


def read_source(folder: Path, pronunciations: PhoneTargets, known: dict[Path, list[Utterance]]) -> list[Utterance]:
    """Return the utterances of a folder's finished shards; those in `known` are not read again, new ones are put there.

    Clips without a pronunciation, shorter than half a second, or with more phones than outputs are left out.
    """
    for listing in sorted(folder.glob("*.jsonl")):
        if listing not in known:
            lines = map(json.loads, listing.read_text().splitlines())
            made = (_utterance(line, listing.with_suffix(".pcm"), pronunciations) for line in lines)
            known[listing] = [one for one in made if one is not None]
    return [one for listing, some in sorted(known.items()) if listing.parent == folder for one in some]


def _utterance(line: dict[str, Any], path: Path, pronunciations: PhoneTargets) -> Utterance | None:
    alignment = line["phones"] or []
    aligned = pronunciations.numbers([name for name, _ in alignment])
    phones = tuple(phone for phone in aligned if phone) or pronunciations.of_text(line["text"])
    num_samples = line["samples"]
    if not phones or not is_learnable(len(phones), num_samples):
        return None
    ends = tuple(end for _, end in alignment)
    return Utterance(path, line["offset"], num_samples, line["text"], line["voice"], phones, aligned, ends)


def is_learnable(num_phones: int, num_samples: int) -> bool:
    """Whether a clip is long enough, half a second and more outputs than phones."""
    return num_samples >= MIN_SAMPLES and num_phones * 1.2 <= num_samples / OUTPUT


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How batches are made.

    Attributes:
        shares: of each source's folder in the time that is heard.
        batch_s: of sound in a batch, padding counted.
        pool_s: of sound in a round.
        speeds: range that unaligned clips are played at.
        num_time_masks, max_time_mask, num_band_masks, max_band_mask: SpecAugment (Park et al. 2019), in frames of 10 ms and bands.
    """

    shares: Mapping[str, float]
    batch_s: float = 110.0
    pool_s: float = 1_800.0
    speeds: tuple[float, float] = (0.88, 1.14)
    num_time_masks: int = 2
    max_time_mask: int = 25
    num_band_masks: int = 2
    max_band_mask: int = 18


def read_shares(text: str) -> dict[str, float]:
    """Return the shares of a command line.

    >>> read_shares("flite=0.6,espeak=0.4")
    {'flite': 0.6, 'espeak': 0.4}
    """
    return {name: float(share) for name, share in (item.split("=") for item in text.split(","))}


class Batches:
    """Endless batches out of a folder with one folder for each source."""

    def __init__(self, folder: Path, pronunciations: PhoneTargets, augmentation: Augmentation, config: BatchConfig) -> None:
        self._folder = folder
        self._pronunciations = pronunciations
        self._augmentation = augmentation
        self._config = config
        self._known: dict[Path, list[Utterance]] = {}

    def round(self, number: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of a round."""
        generator = np.random.default_rng((seed, number))
        for group in self._groups(generator):
            yield self._batch(group, generator)

    def from_step(self, step: int, seed: int) -> Iterator[Batch]:
        """Yield batches without end from the one of a step on: the same as those of a run that began at 0, while shards do not change."""
        passed = 0
        for number in itertools.count():
            groups = self._groups(np.random.default_rng((seed, number)))
            for place, group in enumerate(groups):
                if passed + place >= step:
                    yield self._batch(group, np.random.default_rng((seed, number, place)))
            passed += len(groups)

    def _groups(self, generator: Generator) -> list[list[Utterance]]:
        sources = {name: read_source(self._folder / name, self._pronunciations, self._known) for name in self._config.shares}
        names = [name for name in sources if sources[name]]
        if not names:
            raise FileNotFoundError(f"{self._folder} holds no shard of {', '.join(sources)}: make the speech corpus first")
        shares = np.array([self._config.shares[name] for name in names])
        drawing = [np.cumsum([one.num_samples for one in sources[name]]) for name in names]  # long clips as often as they are long
        pool: list[Utterance] = []
        seconds = np.zeros(len(names))
        while seconds.sum() < self._config.pool_s:
            behind = int(np.argmax(shares / shares.sum() * seconds.sum() - seconds))
            place = np.searchsorted(drawing[behind], generator.integers(drawing[behind][-1]), side="right")
            pool.append(sources[names[behind]][place])
            seconds[behind] += pool[-1].num_samples / 16_000
        pool.sort(key=lambda one: one.num_samples)
        groups: list[list[Utterance]] = [[]]
        for one in pool:
            if (len(groups[-1]) + 1) * one.num_samples / 16_000 > self._config.batch_s and groups[-1]:
                groups.append([])
            groups[-1].append(one)
        return [groups[place] for place in generator.permutation(len(groups))]

    def _batch(self, group: Sequence[Utterance], generator: Generator) -> Batch:
        sounds, speeds = [], []
        for one in group:
            # An alignment holds for the speed it was spoken at; clips without one change their pitch and speed.
            speed = 1.0 if one.ends else float(generator.uniform(*self._config.speeds))
            sound = one.sound()
            sounds.append(self._augmentation(sound if speed == 1.0 else resampled(sound, speed), generator))
            speeds.append(speed)
        warps = np.array([self._augmentation.warp(generator) for _ in group])
        features, mask = features_of(sounds, warps)
        mask_features(features, mask.sum(dim=1).tolist(), self._config, generator)
        num_outputs = 2 * ((features.shape[1] + 5) // 6)
        return Batch(
            features,
            mask,
            torch.tensor([phone for one in group for phone in one.phones]),
            torch.tensor([len(one.phones) for one in group]),
            torch.from_numpy(np.stack([aligned_outputs(one, num_outputs) for one in group])),
            sum(len(sound) for sound in sounds) / 16_000,
            tuple(group),
        )


def mask_features(features: Tensor, lengths: Sequence[int], config: BatchConfig, generator: Generator) -> None:
    """Overwrite bands and stretches of time of each row (T, M) with its mean."""
    for row, length in zip(features, lengths, strict=True):
        mean = row[:length].mean()
        for _ in range(config.num_band_masks):
            width = int(generator.integers(config.max_band_mask + 1))
            start = int(generator.integers(row.shape[1] - width))
            row[:, start : start + width] = mean
        for _ in range(max(1, config.num_time_masks * length // 600)):
            width = int(generator.integers(min(config.max_time_mask, length // 4) + 1))
            start = int(generator.integers(length - width))
            row[start : start + width] = mean


def features_of(sounds: Sequence[Sound], warps: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Return filter banks (B, T, M) and their mask (B, T)."""
    longest = max(map(len, sounds))
    samples = np.zeros((len(sounds), longest), np.float32)
    for row, sound in zip(samples, sounds, strict=True):
        row[: len(sound)] = sound
    features = filterbank(torch.from_numpy(samples), warps)
    lengths = torch.tensor([(len(sound) + SHIFT // 2) // SHIFT for sound in sounds])
    return features, torch.arange(features.shape[1]) < lengths[:, None]


def aligned_outputs(one: Utterance, num_outputs: int) -> npt.NDArray[np.int64]:
    """Return the phone in the middle of each output."""
    if not one.ends:
        return np.full(num_outputs, NO_TARGET)
    centres = np.arange(num_outputs) * OUTPUT + OUTPUT // 2
    places = np.searchsorted(np.array(one.ends), centres, side="right")
    phones = np.array((*one.aligned, NO_TARGET))
    at_outputs: npt.NDArray[np.int64] = phones[places.clip(max=len(one.aligned))]
    return at_outputs
