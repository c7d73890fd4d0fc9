"""Sounds of a set as they are listened to: files put together, noise added in steps."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from app.errors import DataSetUnusable
from app.evaluation.domain import SENTENCE_PAUSE_S
from retriever.audio import read_audio
from retriever.config import AudioLimits
from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, to_samples

LIMITS: Final = AudioLimits()
GENERATED: Final = "generated pink noise"


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise to add.

    Attributes:
        snr_db: power of the whole sound over that of the noise; None adds nothing.
        files: background recordings, one drawn for each sound; none generates pink noise.
        seed: of what is drawn.
    """

    snr_db: float | None = None
    files: tuple[Path, ...] = ()
    seed: int = 0

    @property
    def name(self) -> str:
        """What reports call it."""
        if self.snr_db is None:
            return "clean"
        return f"{self.snr_db:g} dB, {len(self.files)} recordings" if self.files else f"{self.snr_db:g} dB, {GENERATED}"


def noise_files(folder: Path | None) -> tuple[Path, ...]:
    """Return the FLAC and WAV files of a folder, sorted; none for None.

    Raises:
        DataSetUnusable: there are none.
    """
    if folder is None:
        return ()
    files = tuple(sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".wav")))
    if not files:
        raise DataSetUnusable(f"{folder} has no FLAC or WAV files; name a folder of background recordings, or none to generate noise")
    return files


def read_sound(paths: tuple[Path, ...]) -> Audio:
    """Return files as one sound, pauses between them.

    Raises:
        UnreadableAudio: a file cannot be decoded.
    """
    gap = np.zeros(to_samples(SENTENCE_PAUSE_S), np.float32)
    pieces = [piece for path in paths for piece in (_read(path), gap)]
    return Audio(np.concatenate(pieces[:-1]))


def add_noise(audio: Audio, noise: Noise, key: str) -> Audio:
    """Return a sound with noise; the same key gives the same noise. Louder than full scale is scaled back as a whole.

    Args:
        audio: not changed.
        noise: which, and how much.
        key: names the sound.
    """
    if noise.snr_db is None or not audio.num_samples:
        return audio
    seed = int.from_bytes(blake2b(f"{noise.seed} {key}".encode(), digest_size=8).digest(), "big")
    draw = np.random.default_rng(seed)
    background = _recorded(noise.files, audio.num_samples, draw) if noise.files else _pink(audio.num_samples, draw)
    power, noise_power = (float(np.mean(np.square(samples, dtype=np.float64))) for samples in (audio.samples, background))
    gain = np.sqrt(power / max(noise_power, 1e-20) / 10 ** (noise.snr_db / 10))
    mixed = audio.samples + background * np.float32(gain)
    return Audio((mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32))


def _read(path: Path) -> Samples:
    """Return one file; what is 16 kHz mono already needs no decoding process."""
    if path.suffix in (".flac", ".wav"):
        about = soundfile.info(path)
        if about.samplerate == SAMPLE_RATE_HZ and about.channels == 1:
            samples: Samples = soundfile.read(path, dtype="float32")[0]
            return np.clip(samples, -1.0, 1.0)
    return read_audio(path, LIMITS, LIMITS.max_duration_s).samples


def _recorded(files: tuple[Path, ...], num_samples: int, draw: np.random.Generator) -> Samples:
    """Return (N,) of one recording from anywhere in it on, repeated if it is short."""
    samples = _read(files[int(draw.integers(len(files)))])
    start = int(draw.integers(len(samples)))
    return np.resize(np.roll(samples, -start), num_samples)


def _pink(num_samples: int, draw: np.random.Generator) -> Samples:
    """Return (N,) noise whose power falls by 3 dB an octave, as that of rooms and streets does roughly."""
    spectrum = np.fft.rfft(draw.standard_normal(num_samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    return np.fft.irfft(spectrum, num_samples).astype(np.float32)
