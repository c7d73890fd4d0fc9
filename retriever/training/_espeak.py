"""espeak-ng by way of its C library: many accents and speakers, in this process and without a file.

The library has one state for a process and is not safe for threads; workers are processes.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from retriever.domain import SAMPLE_RATE_HZ, Samples

LIBRARY: Final = "libespeak-ng.so.1"
ACCENTS: Final = {
    "us": "gmw/en-US", "nyc": "gmw/en-US-nyc", "gb": "gmw/en", "rp": "gmw/en-GB-x-rp", "scotland": "gmw/en-GB-scotland",
    "lancaster": "gmw/en-GB-x-gbclan", "midlands": "gmw/en-GB-x-gbcwmd", "caribbean": "gmw/en-029",
}  # fmt: skip
_SPEAKER_LIST: Final = """
    m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 klatt klatt2 klatt3 klatt4 klatt5 klatt6 Alex Alicia Andrea Andy Annie Denis
    Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen adam anika announcer antonio aunty belinda
    benjamin boris caleb david ed edward edward2 grandma grandpa gustave iven iven2 iven3 iven4 john linda marcelo max
    michel miguel norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3 travis victor zac
    RicishayMax RicishayMax2 RicishayMax3
"""  # the whispering, croaking and robotic ones are left out
SPEAKERS: Final = tuple(_SPEAKER_LIST.split())

_OUTPUT_SYNCHRONOUS: Final = 2
_NO_EXIT: Final = 0x8000  # on missing data return an error instead of ending the process
_RATE, _VOLUME, _PITCH, _WORD_GAP = 1, 2, 3, 7  # espeak_PARAMETER
_VOLUME_PERCENT: Final = 60  # some speakers clip at 100
_POSITION_CHARACTER: Final = 1
_CHARS_8BIT: Final = 2

_Callback: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int16), ctypes.c_int, ctypes.c_void_p)


class _Library:
    """The library after its start, with the sound of the speech under way."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError: the library or its data is not there.
        """
        self.functions = ctypes.CDLL(LIBRARY)
        self.rate_hz = int(self.functions.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, None, _NO_EXIT))
        if self.rate_hz <= 0:
            raise OSError(f"{LIBRARY} finds no data")
        size, number, pointer = ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p
        self.functions.espeak_Synth.argtypes = (ctypes.c_char_p, size, number, ctypes.c_int, number, number, pointer, pointer)
        self.parts: list[bytes] = []
        self._callback = _Callback(self._receive)  # kept: the library calls it later
        self.functions.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_int16]", num_samples: int, _events: int) -> int:
        if samples and num_samples > 0:
            self.parts.append(ctypes.string_at(samples, 2 * num_samples))
        return 0


@cache
def load() -> _Library:
    """Return the library, started once in a process.

    Raises:
        OSError: as `_Library`.
    """
    return _Library()


def data_folder() -> Path:
    """Return where the library's data are.

    Raises:
        OSError: as `_Library`.
    """
    place = ctypes.c_char_p()
    load().functions.espeak_Info(ctypes.byref(place))
    return Path((place.value or b"").decode())


def speak(voice: str, text: str, words_per_minute: int, pitch: int, word_gap: int) -> Samples | None:
    """Return the sound: float32 of shape (N,) at 16 kHz; None where the library refuses the voice or says nothing.

    Args:
        voice: `ACCENT+SPEAKER` of the two tables.
        text: ASCII; its punctuation makes pauses and melody.
        words_per_minute: 80 to 450.
        pitch: 0 to 99, 50 is the speaker's own.
        word_gap: pause between words in units of 10 ms at the normal speed.
    """
    library = load()
    accent, _, speaker = voice.partition("+")
    if library.functions.espeak_SetVoiceByName(f"{ACCENTS[accent]}+{speaker}".encode()) != 0:
        return None
    for parameter, value in ((_RATE, words_per_minute), (_VOLUME, _VOLUME_PERCENT), (_PITCH, pitch), (_WORD_GAP, word_gap)):
        library.functions.espeak_SetParameter(parameter, value, 0)
    library.parts.clear()
    data = text.encode("ascii")
    library.functions.espeak_Synth(data, len(data) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_8BIT, None, None)
    library.functions.espeak_Synchronize()
    pcm = np.frombuffer(b"".join(library.parts), dtype="<i2")
    return resample(pcm.astype(np.float32) / np.float32(32_768), library.rate_hz) if len(pcm) else None


def resample(sound: Samples, rate_hz: int) -> Samples:
    """Return the sound at 16 kHz; a low-pass at the lower Nyquist frequency by way of the spectrum of whole tenths of a second."""
    tenth = rate_hz // 10
    padded = np.pad(sound, (0, -len(sound) % tenth)).astype(np.float64)
    num_out = len(padded) // tenth * (SAMPLE_RATE_HZ // 10)
    spectrum = np.fft.rfft(padded)[: num_out // 2 + 1]
    resampled = np.fft.irfft(spectrum, num_out) * (num_out / len(padded))
    return resampled[: round(len(sound) * SAMPLE_RATE_HZ / rate_hz)].astype(np.float32)
