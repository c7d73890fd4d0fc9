"""Recorded people with transcripts: tar files of Opus clips beside a table of what is said, as `speech/*.tsv` lists them."""

import csv
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from retriever.domain import SAMPLE_RATE_HZ, to_samples
from retriever.errors import CorruptAudio
from retriever.training.speech_shards import Utterance, to_pcm
from retriever.training.spoken_text import spoken_words

MAX_CLIP_S: Final = 20.0
UNTRANSCRIBED: Final = "untranscribed"
_VOICES: Final = {"ls": "libri-", "so": "speechocean-", "lv-": "librivox-"}


@dataclass(frozen=True, slots=True)
class Recording:
    """A row of the table; `text` is as spoken, empty where nobody wrote it down."""

    tar: Path
    file: str
    seconds: float
    text: str
    voice: str
    split: str


def list_recordings(speech: Path) -> list[Recording]:
    """Return the clips of every table in a folder that last at most 20 s and whose transcript has one reading, in the tables' order."""
    found = []
    for table in sorted(speech.glob("*.tsv")):
        with table.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
                text = spoken_words(row["text"]) if row["text"] else ""
                if text is None or float(row["seconds"]) > MAX_CLIP_S or (not text and table.stem != UNTRANSCRIBED):
                    continue
                found.append(Recording(speech / row["tar"], row["file"], float(row["seconds"]), text, _voice(row["speaker"]), row["split"]))
    return found


def read_recordings(recordings: list[Recording]) -> Iterator[Utterance]:
    """Yield the recordings' sound in their order; a tar file is opened once for each run of rows that lie in it.

    Raises:
        CorruptAudio: a clip cannot be decoded or is not 16 kHz mono.
    """
    opened: tuple[Path, tarfile.TarFile] | None = None
    try:
        for recording in recordings:
            if opened is None or opened[0] != recording.tar:
                if opened is not None:
                    opened[1].close()
                opened = recording.tar, tarfile.open(recording.tar)  # noqa: SIM115 - closed below or on the next tar
            member = opened[1].extractfile(recording.file)
            if member is None:
                raise CorruptAudio(f"{recording.tar} has no file {recording.file}; fetch the data again")
            yield _decode(member.read(), recording)
    finally:
        if opened is not None:
            opened[1].close()


def _decode(data: bytes, recording: Recording) -> Utterance:
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise CorruptAudio(f"{recording.file} of {recording.tar} cannot be decoded ({error}); fetch the data again") from error
    if rate_hz != SAMPLE_RATE_HZ or np.ndim(samples) != 1:
        raise CorruptAudio(f"{recording.file} has {rate_hz} Hz, {np.ndim(samples)} dimensions; training speech is 16 kHz mono")
    return Utterance(to_pcm(samples[: to_samples(MAX_CLIP_S)]), recording.text, recording.voice, recording.split, None)


def _voice(speaker: str) -> str:
    """Return who speaks, the corpus first: libri-19, speechocean-0001, kathleen."""
    for short, name in _VOICES.items():
        if speaker.startswith(short):
            return name + speaker.removeprefix(short)
    return speaker
