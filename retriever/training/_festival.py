"""Festival by way of its Scheme: the voices that are kept for reports, many clips in one process.

`utt.save.segs` writes a header that ends with a line `#`, then a line `END 100 PHONE` for each segment, in seconds.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import soundfile

from retriever.domain import SAMPLE_RATE_HZ
from retriever.pronunciations import PHONES
from retriever.training._flite import end_with_sound
from retriever.training.speech_shards import SILENCE, PcmSamples, Phone

PROGRAM: Final = "festival"
VOICES: Final = {"hts": "cmu_us_slt_arctic_hts", "kal": "kal_diphone"}
PACKAGES: Final = {"hts": "festvox-us-slt-hts", "kal": "festvox-kallpc16k"}
VOICE_FOLDERS: Final = (Path("/usr/share/festival/voices/us"), Path("/usr/share/festival/voices/english"))
_OTHER_PHONES: Final = {"ax": "ah", "pau": SILENCE, "brth": SILENCE, "h#": SILENCE, "axr": "er", "ix": "ih", "dx": "t", "hv": "hh"}
_S_PER_CLIP: Final = 30

SpokenClip = tuple[PcmSamples, tuple[Phone, ...]]


def is_installed(voice: str) -> bool:
    """Whether the program and the voice are there."""
    return shutil.which(PROGRAM) is not None and any((folder / VOICES[voice]).is_dir() for folder in VOICE_FOLDERS)


def speak(voice: str, texts: Sequence[str], stretch: float) -> list[SpokenClip | None]:
    """Return the sound of each text, int16 of shape (N,) at 16 kHz, and its phones, the last of which ends at N; None where it failed.

    Args:
        voice: a key of `VOICES`.
        texts: of a to z, spaces, apostrophes and commas.
        stretch: factor of every duration, for the diphone voices; the statistical one keeps its own.

    Raises:
        OSError: the program is not there.
        subprocess.SubprocessError: it took more than half a minute for each clip.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = [f"(voice_{VOICES[voice]})", f"(Parameter.set 'Duration_Stretch {stretch:.3f})"]
        for number, text in enumerate(texts):
            script += [
                f'(set! utterance (utt.synth (Utterance Text "{text}")))',
                f"(utt.wave.resample utterance {SAMPLE_RATE_HZ})",
                f'(utt.save.wave utterance "{folder}/{number}.wav" \'riff)',
                f'(utt.save.segs utterance "{folder}/{number}.segs")',
            ]
        path = folder / "say.scm"
        path.write_text("\n".join(script) + "\n", encoding="ascii")
        subprocess.run([PROGRAM, "-b", str(path)], capture_output=True, check=False, timeout=_S_PER_CLIP * (len(texts) + 1))
        return [_read(folder / f"{number}.wav") for number in range(len(texts))]


def _read(path: Path) -> SpokenClip | None:
    """Return what Festival wrote for a clip; None where it wrote nothing or phones that are unknown."""
    segments = path.with_suffix(".segs")
    if not path.exists() or not segments.exists():
        return None
    pcm, rate_hz = soundfile.read(path, dtype="int16")
    rows = [line.split() for line in segments.read_text(encoding="ascii").partition("#\n")[2].splitlines()]
    names = [_OTHER_PHONES.get(row[2], row[2]) for row in rows]
    if not {*names} <= {*PHONES, SILENCE}:
        return None
    if rate_hz != SAMPLE_RATE_HZ or not len(pcm) or not rows:
        return None
    phones = end_with_sound([(name, float(row[0]) * SAMPLE_RATE_HZ) for name, row in zip(names, rows, strict=True)], len(pcm))
    return None if phones is None else (pcm, phones)
