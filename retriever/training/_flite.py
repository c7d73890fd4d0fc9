"""flite by way of its C library: speech with the moment of every phone, in this process and without a file.

The library is not safe for threads and keeps what it allocates for a voice; workers are processes.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from retriever.domain import SAMPLE_RATE_HZ
from retriever.pronunciations import PHONES
from retriever.training.speech_shards import SILENCE, PcmSamples, Phone

LIBRARY: Final = "libflite.so.1"
VOICE_LIBRARIES: Final = {name: f"libflite_cmu_us_{name}.so.1" for name in ("awb", "kal16", "rms", "slt")}
_SAME_PHONE: Final = {"ax": "ah", "pau": SILENCE} | {name: name for name in PHONES}
_KAL16_F0_HZ: Final = 105.0  # its mean; the statistical voices have a factor instead
_MAX_DRIFT_S: Final = 0.2  # of the last phone from the end of the sound: the diphone voice cuts the last silence short by half


class _Voice(ctypes.Structure):
    """`cst_voice` of flite 2.2: the two fields that are needed."""

    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


class _Wave(ctypes.Structure):
    """`cst_wave` of flite 2.2."""

    _fields_ = (
        ("type", ctypes.c_char_p),
        ("rate_hz", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_int16)),
    )


@dataclass(frozen=True, slots=True)
class FliteVoice:
    """A voice that was registered; the address stays valid while the process lives."""

    name: str
    address: int
    features: int


@cache
def _library() -> ctypes.CDLL:
    """Load flite and say what its functions take and return.

    Raises:
        OSError: the library is not there.
    """
    library = ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, taken in (
        ("flite_synth_text", (text, pointer)),
        ("utt_relation", (pointer, text)),
        ("relation_head", (pointer,)),
        ("item_next", (pointer,)),
        ("utt_wave", (pointer,)),
        ("delete_utterance", (pointer,)),
        ("item_feat_string", (pointer, text)),
        ("item_feat_float", (pointer, text)),
        ("feat_set_float", (pointer, text, ctypes.c_float)),
    ):
        getattr(library, name).argtypes = taken
        getattr(library, name).restype = pointer
    library.utt_wave.restype = ctypes.POINTER(_Wave)
    library.item_feat_string.restype = text
    library.item_feat_float.restype = ctypes.c_float
    library.delete_utterance.restype = library.feat_set_float.restype = None
    library.flite_init()
    return library


@cache
def load_voice(name: str) -> FliteVoice:
    """Return a voice, loaded once in a process.

    Raises:
        OSError: flite or the voice is not installed.
        KeyError: no voice of that name is known.
    """
    _library()
    register = ctypes.CDLL(VOICE_LIBRARIES[name])[f"register_cmu_us_{name}"]
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    address = int(register(None))
    return FliteVoice(name, address, int(_Voice.from_address(address).features))


def speak(voice: FliteVoice, text: str, stretch: float, pitch: float) -> tuple[PcmSamples, tuple[Phone, ...]] | None:
    """Return the sound, int16 of shape (N,) at 16 kHz, and its phones, which end at sample N; None if flite cannot say the text.

    Args:
        voice: from `load_voice`.
        text: ASCII; commas make pauses.
        stretch: factor of the duration of every phone.
        pitch: factor of the fundamental frequency.
    """
    library = _library()
    library.feat_set_float(voice.features, b"duration_stretch", stretch)
    if voice.name == "kal16":
        library.feat_set_float(voice.features, b"int_f0_target_mean", _KAL16_F0_HZ * pitch)
    else:
        library.feat_set_float(voice.features, b"f0_shift", pitch)
    utterance = library.flite_synth_text(text.encode("ascii"), voice.address)
    if not utterance:
        return None
    try:
        wave = library.utt_wave(utterance).contents
        if wave.rate_hz != SAMPLE_RATE_HZ or wave.num_samples <= 0:
            return None
        pcm = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.int16)
        phones = _phones(library, utterance, len(pcm))
    finally:
        library.delete_utterance(utterance)
    return None if phones is None else (pcm, phones)


def _phones(library: ctypes.CDLL, utterance: int, num_samples: int) -> tuple[Phone, ...] | None:
    """Return the phones with times in order, the last of them ending with the sound; None if they do not fit the sound."""
    timed: list[tuple[str, float]] = []
    item = library.relation_head(library.utt_relation(utterance, b"Segment"))
    while item:
        name = _SAME_PHONE.get(library.item_feat_string(item, b"name").decode())
        if name is None:
            return None
        timed.append((name, library.item_feat_float(item, b"end") * SAMPLE_RATE_HZ))
        item = library.item_next(item)
    drift_s = abs(timed[-1][1] - num_samples) / SAMPLE_RATE_HZ if timed else _MAX_DRIFT_S
    return end_with_sound(timed, num_samples) if drift_s < _MAX_DRIFT_S else None


def end_with_sound(timed: Sequence[tuple[str, float]], num_samples: int) -> tuple[Phone, ...] | None:
    """Return phones whose last one ends with the sound, the others where they were said to end; None if the sound is over before that."""
    ends = [round(end) for _, end in timed[:-1]] + [num_samples]
    if any(end > num_samples for end in ends):
        return None
    return tuple(Phone(name, end) for (name, _), end in zip(timed, ends, strict=True))
