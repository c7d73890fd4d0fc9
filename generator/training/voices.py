"""Speaks text with the free synthesisers of the system, for development lectures and questions.

The voices differ enough that one may lecture and another ask: flite (statistical), festival (HMM and diphone), espeak-ng (formant).
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from retriever.domain import SAMPLE_RATE_HZ, Samples

_TIMEOUT_S: Final = 120


@dataclass(frozen=True, slots=True)
class Voice:
    """A synthesiser's program and the name it gives the voice."""

    program: str
    name: str

    @property
    def is_installed(self) -> bool:
        """Whether the program is there; a voice that it lacks shows when it speaks."""
        return shutil.which(self.program) is not None


LECTURERS: Final = (
    Voice("flite", "rms"),
    Voice("flite", "slt"),
    Voice("text2wave", "voice_cmu_us_slt_arctic_hts"),
    Voice("flite", "awb"),
    Voice("espeak-ng", "en-us"),
)
ASKERS: Final = (
    Voice("flite", "awb"),
    Voice("flite", "slt"),
    Voice("espeak-ng", "en-gb-x-rp"),
    Voice("flite", "rms"),
    Voice("text2wave", "voice_kal_diphone"),
)


def _command(voice: Voice, text_path: Path, wav_path: Path) -> list[str]:
    if voice.program == "flite":
        return ["flite", "-voice", voice.name, "-f", str(text_path), "-o", str(wav_path)]
    if voice.program == "espeak-ng":
        return ["espeak-ng", "-v", voice.name, "-s", "150", "-f", str(text_path), "-w", str(wav_path)]
    return ["text2wave", "-eval", f"({voice.name})", "-o", str(wav_path), str(text_path)]


def speak(text: str, voice: Voice) -> Samples:
    """Return the text spoken: float32 of shape (N,) at 16 kHz, peak 0.5, trimmed of silence at both ends.

    Raises:
        RuntimeError: the synthesiser failed or said nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        text_path, wav_path = Path(folder) / "text", Path(folder) / "speech.wav"
        text_path.write_text(text.encode("ascii", "ignore").decode() + "\n", encoding="ascii")
        done = subprocess.run(_command(voice, text_path, wav_path), capture_output=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0 or not wav_path.exists():
            raise RuntimeError(f"{voice} could not say {text!r}: {done.stderr.decode(errors='replace').strip()}")
        sound, rate_hz = soundfile.read(wav_path, dtype="float32")
    loud = np.flatnonzero(np.abs(sound) > 0.01 * float(np.abs(sound).max(initial=0.0)))
    if not len(loud):
        raise RuntimeError(f"{voice} said nothing for {text!r}; is the text speakable?")
    return _resample(sound[loud[0] : loud[-1] + 1], rate_hz)


def _resample(sound: Samples, rate_hz: int) -> Samples:
    """Return the sound at 16 kHz, peak 0.5; a low-pass at the lower Nyquist frequency by way of the spectrum."""
    num_out = round(len(sound) * SAMPLE_RATE_HZ / rate_hz)
    if rate_hz != SAMPLE_RATE_HZ:
        spectrum = np.fft.rfft(sound.astype(np.float64))
        resized = np.zeros(num_out // 2 + 1, dtype=np.complex128)
        num_kept = min(len(spectrum), len(resized))
        resized[:num_kept] = spectrum[:num_kept]
        sound = np.fft.irfft(resized, num_out).astype(np.float32)
    return np.asarray(sound * (0.5 / float(np.abs(sound).max(initial=1e-9))), dtype=np.float32)
