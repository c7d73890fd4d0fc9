"""Synthesises the demo lecture and its questions again from their texts: `python -m app.demo.make`.

Needs the programs `flite` (speech) and `ffmpeg` with libopus (encoding); the app itself never calls this module. The same versions of
both programs give the same bytes.

Shapes: N samples at 16 kHz.
"""

import io
import json
import re
import shutil
import subprocess
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, Span, to_samples

Pcm: TypeAlias = npt.NDArray[np.int16]  # (N,)

VOICES: Final = {"LECTURER": "rms", "STUDENT": "slt", "ASKER": "kal16"}
STRETCH: Final = 1.1  # a tenth slower than the voices speak by themselves: the recogniser's word errors are fewest here
SENTENCE_PAUSE_S: Final = 0.4
PARAGRAPH_PAUSE_S: Final = 0.9
EDGE_S: Final = 0.3  # silence before the first and after the last word
LEVEL: Final = 0.1  # root mean square of what is said, so that no voice is louder than another
SILENCE: Final = 0.01  # the voices' own silence lies below this
BIT_RATE_BPS: Final = 24_000


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What one speaker says without a longer pause."""

    speaker: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """A sentence and where it is heard."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """A synthesised talk.

    Attributes:
        samples: float32 of shape (N,).
        paragraphs: for each paragraph its sentences in order of time.
    """

    samples: Samples
    paragraphs: tuple[tuple[SpokenSentence, ...], ...]


def read_script(text: str) -> tuple[Paragraph, ...]:
    """Return the paragraphs of a script in which each paragraph is a line `SPEAKER: sentences`.

    Raises:
        ValueError: a paragraph has no known speaker.
    """
    paragraphs = []
    for line in filter(None, text.splitlines()):
        speaker, _, said = line.partition(": ")
        if speaker not in VOICES:
            raise ValueError(f"paragraph {line[:40]!r} must begin with one of {', '.join(VOICES)} and a colon")
        paragraphs.append(Paragraph(speaker, tuple(re.split(r"(?<=[.?!]) ", said))))
    return tuple(paragraphs)


def speak(text: str, voice: str) -> Samples:
    """Return a text spoken by a voice of flite, float32 of shape (N,), without silence at its ends.

    Raises:
        FileNotFoundError: flite is missing.
        ValueError: the voice does not speak at 16 kHz.
    """
    command = [_program("flite"), "-voice", voice, "--setf", f"duration_stretch={STRETCH}", "-t", text, "-o", "/dev/stdout"]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as sound:
        if sound.getframerate() != SAMPLE_RATE_HZ:
            raise ValueError(f"voice {voice!r} speaks at {sound.getframerate()} Hz; choose one of 16000 Hz")
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2").astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    said = samples[loud[0] : loud[-1] + 1]
    gain = min(LEVEL / float(np.sqrt(np.mean(said**2))), 0.95 / float(np.abs(said).max()))
    return np.asarray(said * np.float32(gain), dtype=np.float32)


def tell(paragraphs: Sequence[Paragraph], paragraph_pause_s: float = PARAGRAPH_PAUSE_S) -> Talk:
    """Speak paragraphs one after the other, with pauses between sentences and longer ones between paragraphs."""
    pieces: list[Samples] = []
    spoken = []
    end = 0
    pause_s = EDGE_S
    for paragraph in paragraphs:
        placed = []
        for sentence in paragraph.sentences:
            silence = np.zeros(to_samples(pause_s), np.float32)
            said = speak(sentence, VOICES[paragraph.speaker])
            start = end + len(silence)
            end = start + len(said)
            pieces += [silence, said]
            placed.append(SpokenSentence(sentence, Span(start, end)))
            pause_s = SENTENCE_PAUSE_S
        spoken.append(tuple(placed))
        pause_s = paragraph_pause_s
    pieces.append(np.zeros(to_samples(EDGE_S), np.float32))
    return Talk(np.concatenate(pieces), tuple(spoken))


def to_pcm(audio: Audio) -> Pcm:
    """Return a sound as 16-bit integers of shape (N,)."""
    return np.round(audio.samples * 32767).astype("<i2")


def write_opus(path: Path, audio: Audio, bit_rate_bps: int = BIT_RATE_BPS) -> None:
    """Write a sound as Opus in Ogg, without tags that change from one run to the next.

    Raises:
        FileNotFoundError: ffmpeg is missing.
    """
    source = ["-f", "s16le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-i", "pipe:0"]
    codec = ["-c:a", "libopus", "-b:a", str(bit_rate_bps), "-application", "voip", "-map_metadata", "-1"]
    exact = ["-fflags", "+bitexact", "-flags:a", "+bitexact"]
    command = [_program("ffmpeg"), "-v", "error", "-y", *source, *codec, *exact, "-f", "ogg", str(path)]
    subprocess.run(command, check=True, input=to_pcm(audio).tobytes())


def find_answer(talk: Talk, answer: str) -> Span:
    """Return where the one sentence is heard that holds an answer.

    Raises:
        ValueError: no sentence holds it, or more than one.
    """
    places = [sentence.span for paragraph in talk.paragraphs for sentence in paragraph if answer in sentence.text]
    if len(places) != 1:
        raise ValueError(f"the answer {answer!r} must be in one sentence of the lecture, it is in {len(places)}; word it anew")
    return places[0]


def make(folder: Path) -> None:
    """Read `lecture.txt` and `questions.json` in a folder, write the sounds beside them and the answers' places into the latter."""
    talk = tell(read_script((folder / "lecture.txt").read_text(encoding="utf-8")))
    write_opus(folder / "lecture.opus", Audio(talk.samples))
    entries = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    for entry in entries:
        span = find_answer(talk, entry["answer"]) if entry["answer"] is not None else None
        entry["start_s"] = round(span.start_s, 2) if span else None
        entry["end_s"] = round(span.end_s, 2) if span else None
        write_opus(folder / entry["audio"], Audio(tell([Paragraph("ASKER", (entry["text"],))]).samples))
    (folder / "questions.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def _program(name: str) -> str:
    """Return the path of a program.

    Raises:
        FileNotFoundError: it is not on this machine.
    """
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"the program {name!r} is needed to synthesise the demo lecture; install it (Debian: apt install {name})")
    return path


if __name__ == "__main__":
    make(Path(__file__).resolve().parent)
