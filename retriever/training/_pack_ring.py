"""Clips in memory, the oldest of which make room for new ones, and the batches that training draws from them.

Speakers (`_pack_voices`) fill the ring while a fast device empties it several times over: a clip is heard as often as training outruns the
speakers, each time with another length of the vocal tract and other masks.

Shapes: B clips, N samples, T frames of 10 ms, M bands, K outputs of 30 ms.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import torch

from retriever.domain import SAMPLE_RATE_HZ
from retriever.training import speech_shards
from retriever.training._pack_voices import Speakers
from retriever.training.augmentation import AugmentationConfig, Sound
from retriever.training.filterbank import SHIFT, filterbank
from retriever.training.speech_shards import FULL_SCALE, PcmSamples
from retriever.training.utterances import Batch, BatchConfig, PhoneTargets, Utterance, aligned_outputs, is_learnable, mask_features

_NOWHERE: Final = Path()


@dataclass(frozen=True, slots=True)
class Clip(Utterance):
    """An utterance whose sound is in memory."""

    pcm: PcmSamples

    def sound(self) -> Sound:
        """Return the samples, float32 in [-1, 1]."""
        sound: Sound = (self.pcm / FULL_SCALE).astype(np.float32)
        return sound


@dataclass(frozen=True, slots=True)
class RingConfig:
    """How much is kept and drawn.

    Attributes:
        batch: what is drawn at a time, sorted by length and cut into batches, and how it is masked.
        hours: of sound that the ring holds at most: 115 MB each.
        first_s: of sound before the first batch is drawn.
    """

    batch: BatchConfig
    hours: float = 60.0
    first_s: float = 600.0


class Ring:
    """The clips, filled by a thread of its own from the speakers' queue, as a context."""

    def __init__(self, speakers: Speakers, phone_targets: PhoneTargets, config: RingConfig) -> None:
        self._speakers, self._phone_targets, self._config = speakers, phone_targets, config
        self._clips: deque[Clip] = deque()
        self._num_samples = 0
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._over = False
        self._thread = threading.Thread(target=self._fill, name="ring", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        self._thread.join()

    @property
    def seconds(self) -> float:
        """How much sound it holds."""
        return self._num_samples / SAMPLE_RATE_HZ

    def add(self, clip: Clip) -> None:
        """Take a clip; the oldest go where there are more hours than allowed."""
        with self._changed:
            self._clips.append(clip)
            self._num_samples += clip.num_samples
            while self.seconds > self._config.hours * 3600:
                self._num_samples -= self._clips.popleft().num_samples
            self._changed.notify_all()

    def draw(self, generator: np.random.Generator) -> list[Clip]:
        """Return clips of about `pool_s`, or all if there are fewer, drawn without repetition; waits for the first `first_s`.

        Raises:
            SynthesiserMissing: the speakers ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self.seconds >= min(self._config.first_s, self._config.hours * 3600))
            if self._error is not None:
                raise self._error
            there, seconds = list(self._clips), self.seconds
        share = min(1.0, self._config.batch.pool_s / seconds)
        chosen = generator.permutation(len(there))[: max(1, round(share * len(there)))]
        return [there[number] for number in chosen]

    def _fill(self) -> None:
        try:
            while not self._over:
                clip = clip_of(self._speakers.next(), self._phone_targets)
                if clip is not None:
                    self.add(clip)
        except Exception as error:  # raised again where a batch is drawn
            with self._changed:
                self._error = error
                self._changed.notify_all()


def clip_of(said: speech_shards.Utterance, phone_targets: PhoneTargets) -> Clip | None:
    """Return a clip with its phones; None without a pronunciation, shorter than half a second, or with more phones than outputs."""
    alignment = said.phones or ()
    aligned = phone_targets.numbers([phone.name for phone in alignment])
    phones = tuple(phone for phone in aligned if phone) or phone_targets.of_text(said.text)
    num_samples = len(said.pcm)
    if not phones or not is_learnable(len(phones), num_samples):
        return None
    ends = tuple(phone.end for phone in alignment)
    return Clip(_NOWHERE, 0, num_samples, said.text, said.voice, phones, aligned, ends, said.pcm)


def batches(ring: Ring, config: RingConfig, device: torch.device, seed: tuple[int, ...]) -> Iterator[Batch]:
    """Yield batches without end; filter banks are computed on the device."""
    generator = np.random.default_rng(seed)
    while True:
        pool = sorted(ring.draw(generator), key=lambda clip: clip.num_samples)
        groups: list[list[Clip]] = [[]]
        for clip in pool:
            if groups[-1] and (len(groups[-1]) + 1) * clip.num_samples / SAMPLE_RATE_HZ > config.batch.batch_s:
                groups.append([])
            groups[-1].append(clip)
        for place in generator.permutation(len(groups)):
            yield batch_of(groups[place], config.batch, device, generator)


def batch_of(group: Sequence[Clip], config: BatchConfig, device: torch.device, generator: np.random.Generator) -> Batch:
    """Return a batch of clips, on the device."""
    lengths = torch.tensor([(clip.num_samples + SHIFT // 2) // SHIFT for clip in group])
    pcm = np.zeros((len(group), max(clip.num_samples for clip in group)), np.int16)
    for row, clip in zip(pcm, group, strict=True):
        row[: clip.num_samples] = clip.pcm
    warp = AugmentationConfig().max_warp
    samples = torch.from_numpy(pcm).to(device, non_blocking=True).float() / FULL_SCALE
    features = filterbank(samples, generator.uniform(1 - warp, 1 + warp, len(group)))  # (B, T, M)
    mask = torch.arange(features.shape[1]) < lengths[:, None]
    mask_features(features, lengths.tolist(), config, generator)
    num_outputs = 2 * ((features.shape[1] + 5) // 6)
    return Batch(
        features=features,
        mask=mask.to(device),
        phones=torch.tensor([phone for clip in group for phone in clip.phones]),
        num_phones=torch.tensor([len(clip.phones) for clip in group]),
        aligned=torch.from_numpy(np.stack([aligned_outputs(clip, num_outputs) for clip in group])),
        duration_s=sum(clip.num_samples for clip in group) / SAMPLE_RATE_HZ,
        said=tuple(group),
    )
