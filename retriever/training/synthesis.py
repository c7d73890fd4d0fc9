"""Speech made to order: `speak` a line with a voice of flite, espeak-ng or Festival, in memory, with the moment of every phone where known.

Training calls it in worker processes, each with its own copy of the engines; the engines are not safe for threads. flite's statistical
voices and espeak-ng carry a random state from one text to the next, so equal sound needs a process with an equal history.
"""

import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from retriever.domain import Audio
from retriever.errors import RetrieverError
from retriever.training import _espeak, _festival, _flite
from retriever.training.speech_shards import FULL_SCALE, PcmSamples, Phone

Engine: TypeAlias = Literal["flite", "espeak", "festival"]

_SPEAKABLE: Final = re.compile(r"[a-z][a-z' ,.?]*")
_FLITE_SHARES: Final = {"awb": 0.28, "rms": 0.30, "slt": 0.30, "kal16": 0.12}
_ACCENT_SHARES: Final = {"us": 5, "nyc": 2, "gb": 3, "rp": 3, "scotland": 1, "lancaster": 1, "midlands": 1, "caribbean": 1}
_STRETCHES: Final = (0.8, 1.25)
_PITCHES: Final = (0.75, 1.33)
_PITCH_DEVIATION: Final = 0.1  # of the logarithm
_ESPEAK_WORDS_PER_MINUTE: Final = 165  # at a stretch of 1
_ESPEAK_PITCH: Final = 50
_ESPEAK_PITCH_STEPS: Final = 100  # of its scale from 0 to 99, for a factor of e
_WORD_GAPS: Final = (0, 0, 0, 1, 2, 4)


class SynthesiserMissing(RetrieverError):
    """An engine or a voice is not installed."""


class Unspeakable(RetrieverError, ValueError):
    """A text that an engine cannot say."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks.

    Attributes:
        engine: the synthesiser.
        name: flite: awb, kal16, rms, slt; espeak: ACCENT+SPEAKER, such as us+f3; festival: hts, kal.
    """

    engine: Engine
    name: str

    @property
    def label(self) -> str:
        """What a shard calls the voice: flite-rms, espeak-us+f3, festival-hts."""
        return f"{self.engine}-{self.name}"


@dataclass(frozen=True, slots=True)
class Manner:
    """How the voice speaks.

    Attributes:
        stretch: factor of the duration.
        pitch: factor of the fundamental frequency; espeak's scale is met roughly, Festival ignores it.
        word_gap: rest between words, espeak only, in units of 10 ms.
    """

    stretch: float = 1.0
    pitch: float = 1.0
    word_gap: int = 0


@dataclass(frozen=True, slots=True)
class Speech:
    """What was said, and when each phone ends (the last one with the sound); None where the engine does not tell."""

    audio: Audio
    phones: tuple[Phone, ...] | None


NEUTRAL: Final = Manner()


def choose_delivery(engine: Engine, rng: random.Random) -> tuple[Voice, Manner]:
    """Return a voice and a manner drawn from what the engine offers; Festival's voices are not for training, so it offers none.

    Raises:
        ValueError: the engine is festival.
    """
    low, high = _STRETCHES
    stretch = low * (high / low) ** rng.random()
    if engine == "flite":
        name = rng.choices(list(_FLITE_SHARES), list(_FLITE_SHARES.values()))[0]
        return Voice(engine, name), Manner(stretch, float(np.clip(np.exp(rng.gauss(0.0, _PITCH_DEVIATION)), *_PITCHES)))
    if engine == "espeak":
        accent = rng.choices(list(_ACCENT_SHARES), list(_ACCENT_SHARES.values()))[0]
        pitch = _PITCHES[0] * (_PITCHES[1] / _PITCHES[0]) ** rng.random()
        return Voice(engine, f"{accent}+{rng.choice(_espeak.SPEAKERS)}"), Manner(stretch, pitch, rng.choice(_WORD_GAPS))
    raise ValueError("festival's voices are kept for reports; name the voice instead of drawing one")


def check_voices(engine: Engine, names: Sequence[str] = ()) -> None:
    """Make sure that an engine is installed with the voices named, all of flite's if none is.

    Raises:
        SynthesiserMissing: it is not; says which Debian package brings it.
    """
    try:
        if engine == "flite":
            for name in names or _flite.VOICE_LIBRARIES:
                _flite.load_voice(name)
        elif engine == "espeak":
            _espeak.load()
    except OSError as error:
        package = {"flite": "flite", "espeak": "libespeak-ng1"}[engine]
        raise SynthesiserMissing(f"{engine} cannot be loaded ({error}); install it: apt install {package}") from error
    for name in names if engine == "festival" else ():
        if not _festival.is_installed(name):
            raise SynthesiserMissing(f"Festival has no voice {name}; install it: apt install festival {_festival.PACKAGES[name]}")


def speak(voice: Voice, text: str, manner: Manner = NEUTRAL) -> Speech:
    """Return a text spoken.

    Args:
        voice: of any engine.
        text: words as `spoken_words` writes them, perhaps with commas, full stops and question marks (`Line.punctuated`).
        manner: speed and pitch.

    Raises:
        SynthesiserMissing: the engine or the voice is not installed.
        Unspeakable: the text has other characters, or the engine made no sound of it.
    """
    (speech,) = speak_each(voice, [text], manner)
    if speech is None:
        raise Unspeakable(f"{voice.label} made no sound, or phones that do not fit it, of {text!r}; choose another voice or leave it out")
    return speech


def speak_each(voice: Voice, texts: Sequence[str], manner: Manner = NEUTRAL) -> list[Speech | None]:
    """Return each text spoken, None where the engine made no sound; Festival starts once for all of them.

    Raises:
        SynthesiserMissing: the engine or the voice is not installed.
        Unspeakable: a text has other characters than lower case a to z, apostrophes, spaces, commas, full stops and question marks.
    """
    for text in texts:
        if not _SPEAKABLE.fullmatch(text):
            raise Unspeakable(
                f"{text!r} is not lower case words with commas, full stops and question marks; take spoken_phrases of it first"
            )
    check_voices(voice.engine, [voice.name])
    if voice.engine == "festival":
        try:
            return [_speech(spoken) for spoken in _festival.speak(voice.name, texts, manner.stretch)]
        except subprocess.SubprocessError as error:
            raise Unspeakable(f"{voice.label} did not finish {len(texts)} texts ({error}); say fewer at a time") from error
    return [
        _speak_flite(voice.name, text, manner) if voice.engine == "flite" else _speak_espeak(voice.name, text, manner) for text in texts
    ]


def _speak_flite(name: str, text: str, manner: Manner) -> Speech | None:
    return _speech(_flite.speak(_flite.load_voice(name), text, manner.stretch, manner.pitch))


def _speak_espeak(name: str, text: str, manner: Manner) -> Speech | None:
    rate = round(_ESPEAK_WORDS_PER_MINUTE / manner.stretch)
    pitch = round(np.clip(_ESPEAK_PITCH + _ESPEAK_PITCH_STEPS * np.log(manner.pitch), 0, 99))
    samples = _espeak.speak(name, text, rate, pitch, manner.word_gap)
    return None if samples is None else Speech(Audio(np.clip(samples, -1.0, 1.0)), None)


def _speech(spoken: tuple[PcmSamples, tuple[Phone, ...]] | None) -> Speech | None:
    return None if spoken is None else Speech(Audio((spoken[0] / FULL_SCALE).astype(np.float32)), spoken[1])
