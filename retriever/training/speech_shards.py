"""Speech with transcripts on disk: shards of 16-bit sound and a line of JSON for each clip, written whole or not at all.

A source is a folder of pairs `NNN.pcm` (int16, little-endian, mono, 16 kHz, clips one after the other) and `NNN.jsonl`. The second file is
renamed into place last, so a shard that has it is finished: training reads those that are there while others are still being made.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from retriever.domain import Samples
from retriever.errors import RetrieverError

FULL_SCALE: Final = 32_768.0
SILENCE: Final = "sil"

PcmSamples: TypeAlias = npt.NDArray[np.int16]  # (N,) at 16 kHz


class CorpusDamaged(RetrieverError):
    """A shard of speech whose sound and whose list of clips do not belong together."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A speech sound of a clip and the sample at which it ends; it begins where the one before it ends.

    Attributes:
        name: one of `retriever.pronunciations.PHONES`, or `SILENCE`.
        end: in samples from the start of the clip.
    """

    name: str
    end: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of speech with its words.

    Attributes:
        offset: first sample in the shard.
        num_samples: length.
        text: the words as `spoken_words` writes them; empty where nobody transcribed it.
        voice: who speaks; several clips share it.
        split: `train` or `dev`.
        phones: the speech sounds, which end where the clip ends; None where they are not known.
    """

    offset: int
    num_samples: int
    text: str
    voice: str
    split: str
    phones: tuple[Phone, ...] | None


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech in memory on its way into a shard; the fields are those of `Clip`."""

    pcm: PcmSamples
    text: str
    voice: str
    split: str
    phones: tuple[Phone, ...] | None


class SpeechShard:
    """A finished shard: its clips in order, their sound read from disk when asked for."""

    def __init__(self, list_path: Path) -> None:
        """Open `NNN.jsonl` and map `NNN.pcm` beside it.

        Raises:
            CorpusDamaged: a clip reaches beyond the sound, or a line is no clip.
        """
        self.name = list_path.stem
        lines = list_path.read_text(encoding="utf-8").splitlines()
        try:
            self.clips: Sequence[Clip] = tuple(_read_clip(json.loads(line)) for line in lines)
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusDamaged(f"{list_path} has a line that is no clip ({error!r}); delete the shard and make it again") from error
        pcm_path = list_path.with_suffix(".pcm")
        self._pcm: PcmSamples = np.memmap(pcm_path, dtype="<i2", mode="r") if self.clips else np.zeros(0, dtype=np.int16)
        end = max((clip.offset + clip.num_samples for clip in self.clips), default=0)
        if end > len(self._pcm):
            raise CorpusDamaged(f"{pcm_path} has {len(self._pcm)} samples but its clips need {end}; delete the shard and make it again")

    @property
    def num_samples(self) -> int:
        """Length of all clips together."""
        return sum(clip.num_samples for clip in self.clips)

    def pcm(self, clip: Clip) -> PcmSamples:
        """Return the sound of a clip as it lies on disk: int16 of shape (N,), a view."""
        sound: PcmSamples = self._pcm[clip.offset : clip.offset + clip.num_samples]
        return sound

    def samples(self, clip: Clip) -> Samples:
        """Return the sound of a clip: float32 of shape (N,) in [-1, 1]."""
        return (self.pcm(clip).astype(np.float32) / np.float32(FULL_SCALE)).astype(np.float32)


def open_shards(folder: Path) -> Iterator[SpeechShard]:
    """Yield the finished shards of a source in the order of their names.

    Raises:
        CorpusDamaged: as `SpeechShard`.
    """
    for path in sorted(folder.glob("[0-9]*.jsonl")):
        yield SpeechShard(path)


def is_finished(folder: Path, number: int) -> bool:
    """Whether a shard needs no more work."""
    return (folder / f"{number:03}.jsonl").exists()


def write_shard(folder: Path, number: int, utterances: Iterable[Utterance]) -> int:
    """Write a shard and return the number of samples in it; an interruption leaves nothing that looks finished.

    The list carries, for readers who need no more, exactly: offset, samples, text, voice, split, phones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pcm_path, list_path = folder / f"{number:03}.pcm", folder / f"{number:03}.jsonl"
    pcm_part, list_part = pcm_path.with_suffix(f".pcm.{os.getpid()}.part"), list_path.with_suffix(f".jsonl.{os.getpid()}.part")
    offset = 0
    with pcm_part.open("wb") as sound, list_part.open("w", encoding="utf-8") as clips:
        for utterance in utterances:
            sound.write(utterance.pcm.astype("<i2").tobytes())
            clips.write(json.dumps(_clip_record(utterance, offset)) + "\n")
            offset += len(utterance.pcm)
    pcm_part.replace(pcm_path)
    list_part.replace(list_path)
    return offset


def remove_unfinished(folder: Path) -> None:
    """Delete what an interrupted `write_shard` left; only when nobody is writing there."""
    for path in folder.glob("*.part"):
        path.unlink()


def to_pcm(samples: Samples) -> PcmSamples:
    """Return sound in [-1, 1] as int16, rounded; what is louder is clipped."""
    return np.asarray(np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1), dtype=np.int16)


def _clip_record(utterance: Utterance, offset: int) -> dict[str, object]:
    return {
        "offset": offset,
        "samples": len(utterance.pcm),
        "text": utterance.text,
        "voice": utterance.voice,
        "split": utterance.split,
        "phones": None if utterance.phones is None else [[phone.name, phone.end] for phone in utterance.phones],
    }


def _read_clip(record: dict[str, Any]) -> Clip:
    phones = record["phones"]
    return Clip(
        offset=int(record["offset"]),
        num_samples=int(record["samples"]),
        text=str(record["text"]),
        voice=str(record["voice"]),
        split=str(record["split"]),
        phones=None if phones is None else tuple(Phone(str(name), int(end)) for name, end in phones),
    )
