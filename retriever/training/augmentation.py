"""What happens to a voice on its way to the microphone: rooms, noise, loudspeakers, level. For training only.

Everything is drawn from the generator given, so a batch can be made again. Room responses are real ones and synthetic ones (noise that
decays exponentially: Polack 1988's model of a diffuse field).

Shapes: N samples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile

SAMPLE_RATE_HZ: Final = 16_000
Sound = npt.NDArray[np.float32]  # (N,) in [-1, 1]


@dataclass(frozen=True, slots=True)
class AugmentationConfig:
    """How often what is done, as probabilities; chosen by what lectures sound like, not tuned."""

    room: float = 0.35
    noise: float = 0.6
    equalise: float = 0.5
    telephone: float = 0.05  # nothing above 3.4 kHz is left
    min_snr_db: float = 3.0
    max_snr_db: float = 35.0
    min_level_db: float = -40.0  # of the loudest sample
    max_warp: float = 0.18  # of the vocal tract's length, either way


class Augmentation:
    """Distorts clips; holds the responses and noises of a folder."""

    def __init__(self, config: AugmentationConfig, noises: tuple[Sound, ...], responses: tuple[Sound, ...]) -> None:
        self.config = config
        self._noises = noises
        self._responses = responses

    @classmethod
    def of_folder(cls, config: AugmentationConfig, folder: Path) -> "Augmentation":
        """Read every FLAC file under `folder`: those in a folder whose name begins with "rir" are responses, all others noise.

        Raises:
            FileNotFoundError: there is no noise.
        """
        noises: list[Sound] = []
        responses: list[Sound] = []
        for path in sorted(folder.rglob("*.flac")):
            sound, _ = soundfile.read(path, dtype="float32")
            (responses if path.parent.name.startswith("rir") else noises).append(sound)
        if not noises:
            raise FileNotFoundError(f"{folder} holds no .flac file of noise: unpack the noise archives there")
        return cls(config, tuple(noises), tuple(responses))

    def warp(self, generator: np.random.Generator) -> float:
        """Draw a factor of the vocal tract's length."""
        return float(generator.uniform(1 - self.config.max_warp, 1 + self.config.max_warp))

    def __call__(self, sound: Sound, generator: np.random.Generator) -> Sound:
        """Return the sound as it might have been recorded; same length."""
        config = self.config
        if generator.random() < config.room:
            sound = _reverberated(sound, self._response(generator))
        if generator.random() < config.equalise:
            sound = _equalised(sound, generator)
        if generator.random() < config.noise:
            sound = sound + self._noise(sound, generator)
        if generator.random() < config.telephone:
            sound = _cut_above(sound, 3_400.0)
        level = 10 ** (generator.uniform(config.min_level_db, 0.0) / 20)
        return (sound * (level / max(float(np.abs(sound).max()), 1e-6))).astype(np.float32)

    def _response(self, generator: np.random.Generator) -> Sound:
        if self._responses and generator.random() < 0.3:
            return self._responses[generator.integers(len(self._responses))][: SAMPLE_RATE_HZ // 2]
        decay_s = generator.uniform(0.08, 0.7)  # until the sound is 60 dB down
        time_s = np.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        tail = generator.standard_normal(len(time_s)) * 10 ** (-3 * time_s / decay_s)
        tail *= generator.uniform(0.05, 0.8) / max(float(np.sqrt(np.square(tail).sum())), 1e-9)  # beside a direct sound of energy 1
        tail[0] += 1.0
        response: Sound = tail.astype(np.float32)
        return response

    def _noise(self, sound: Sound, generator: np.random.Generator) -> Sound:
        if generator.random() < 0.6:
            source = self._noises[generator.integers(len(self._noises))]
            start = generator.integers(max(1, len(source) - len(sound)))
            noise: Sound = np.resize(source[start:], len(sound))
        else:
            noise = _coloured(len(sound), generator.uniform(0.0, 2.0), generator)
        snr_db = generator.uniform(self.config.min_snr_db, self.config.max_snr_db)
        wanted = np.sqrt(np.square(sound).mean()) * 10 ** (-snr_db / 20)
        scaled: Sound = (noise * (wanted / max(float(np.sqrt(np.square(noise).mean())), 1e-9))).astype(np.float32)
        return scaled


def resampled(sound: Sound, speed: float) -> Sound:
    """Return the sound played `speed` times as fast, its pitch with it; linear interpolation."""
    times = np.arange(0, len(sound) - 1, speed)
    played: Sound = np.interp(times, np.arange(len(sound)), sound).astype(np.float32)
    return played


def _reverberated(sound: Sound, response: Sound) -> Sound:
    size = 1 << (len(sound) + len(response) - 1).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(response, size)
    delay = int(np.abs(response).argmax())  # the direct sound stays where it was, and so do the alignments
    return np.fft.irfft(spectrum, size)[delay : delay + len(sound)].astype(np.float32)


def _equalised(sound: Sound, generator: np.random.Generator) -> Sound:
    """Return the sound through a smooth random filter of up to 10 dB either way."""
    gains_db = generator.uniform(-10, 10, 6)
    spectrum = np.fft.rfft(sound)
    places = np.interp(np.linspace(0, 1, len(spectrum)) ** 0.5, np.linspace(0, 1, 6), gains_db)
    return np.fft.irfft(spectrum * 10 ** (places / 20), len(sound)).astype(np.float32)


def _cut_above(sound: Sound, hertz: float) -> Sound:
    spectrum = np.fft.rfft(sound)
    spectrum[int(hertz / (SAMPLE_RATE_HZ / 2) * len(spectrum)) :] = 0
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def _coloured(num_samples: int, exponent: float, generator: np.random.Generator) -> Sound:
    """Return noise whose power falls as 1 / f^exponent."""
    spectrum = np.fft.rfft(generator.standard_normal(num_samples))
    spectrum *= np.maximum(np.arange(len(spectrum)), 20) ** (-exponent / 2)
    return np.fft.irfft(spectrum, num_samples).astype(np.float32)
