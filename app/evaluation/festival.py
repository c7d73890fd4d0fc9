"""Speaks evaluation text with festival, which tells when each word is said.

Festival's voices are never trained on, so its speech measures what a recogniser makes of an engine it has not heard.
"""

import re
import shutil
import subprocess
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from app.errors import DataSetUnusable
from retriever.domain import Audio, Samples, Word, to_samples

VOICES: Final = {"slt-hts": "voice_cmu_us_slt_arctic_hts", "kal": "voice_kal_diphone"}
SENTENCE_GAP_S: Final = 0.3  # between sentences, as a reader pauses
_PEAK: Final = 0.5
_TIMEOUT_S: Final = 3600.0  # a paragraph takes seconds; a busy machine, minutes
_SPELLED: Final = str.maketrans(
    {
        "\N{FRACTION SLASH}": "/",
        "\N{EN DASH}": ", ",
        "\N{EM DASH}": ", ",
        "\N{MINUS SIGN}": " minus ",
        "\N{MULTIPLICATION SIGN}": " times ",
        "\N{POUND SIGN}": " pounds ",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    }
)
# Chosen so that a reader of English would break there; what it gets wrong costs a pause, no word.
_SENTENCE_END: Final = re.compile(r"(?<=[a-z0-9)\]\"'%][.?!])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATED: Final = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Sir|Prof|Gen|Col|Capt|Lt|Sgt|Gov|Rev|Ft|No|Vol|vs|ca|c|e\.g|i\.e|Jr|Inc|Co|Fig|[A-Z])\.$"
)
_SCRIPT: Final = """(set! utterance (utt.synth (Utterance Text "{text}")))
(utt.wave.resample utterance 16000)
(utt.save.wave utterance "{number}.wav" 'riff)
(set! file (fopen "{number}.words" "w"))
(mapcar
  (lambda (word) (format file "%s %l %l\\n" (item.name word) (item.feat word "word_start") (item.feat word "word_end")))
  (utt.relation.items utterance 'Word))
(fclose file)
"""


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """A text as it was said.

    Attributes:
        words: lower case, numbers as they were said, half-open spans in samples.
        sentences: the first sample of each sentence.
    """

    audio: Audio
    words: tuple[Word, ...]
    sentences: tuple[int, ...]


def speakable(text: str) -> str:
    """Return a text in the characters that festival can say: accents are dropped, other scripts left out, quotation marks too.

    >>> speakable('Brežnev “said” 5½ – 東京')
    'Breznev said 5 1/2 ,'
    """
    spaced = re.sub(r"(?<=\d)(?=[¼½¾])", " ", text).translate(_SPELLED)
    plain = unicodedata.normalize("NFKD", spaced).translate(_SPELLED).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[\"\\`*_|<>{}~^]", " ", plain).split())


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a speakable text, none empty; a break needs a full stop, a space and a capital or a digit.

    >>> split_sentences("It rained. Mr. T. S. Eliot saw 3.5 drops! Why?")
    ['It rained.', 'Mr. T. S. Eliot saw 3.5 drops!', 'Why?']
    """
    pieces: list[str] = []
    for piece in _SENTENCE_END.split(text):
        if pieces and _ABBREVIATED.search(pieces[-1]):
            pieces[-1] += f" {piece}"
        elif re.search(r"[A-Za-z0-9]", piece):
            pieces.append(piece)
    return pieces


def speak(text: str, voice: str) -> Spoken:
    """Return a text said sentence by sentence by one of `VOICES`, at 16 kHz, with pauses between sentences.

    Raises:
        DataSetUnusable: festival or the voice is absent, or it said nothing.
    """
    if voice not in VOICES:
        raise DataSetUnusable(f"{voice!r} is no voice of festival known here: choose one of {', '.join(VOICES)}")
    if shutil.which("festival") is None:
        raise DataSetUnusable("festival is not installed, which speaks the evaluation set: install festival and its voices")
    sentences = split_sentences(speakable(text))
    if not sentences:
        raise DataSetUnusable(f"{text!r} has nothing that festival can say; leave it out")
    with tempfile.TemporaryDirectory() as folder:
        _run(sentences, voice, Path(folder))
        return _joined([_read(Path(folder), number) for number in range(len(sentences))], text)


def _run(sentences: list[str], voice: str, folder: Path) -> None:
    script = f"({VOICES[voice]})\n" + "".join(_SCRIPT.format(text=text, number=number) for number, text in enumerate(sentences))
    (folder / "say.scm").write_text(script, encoding="ascii")
    try:
        done = subprocess.run(["festival", "-b", "say.scm"], cwd=folder, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataSetUnusable(f"festival took more than {_TIMEOUT_S:.0f} s for {sentences[0]!r}…; start again") from error
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        raise DataSetUnusable(f"festival with the voice {VOICES[voice]} failed on {sentences[0]!r}…: {message}; is the voice installed?")


def _read(folder: Path, number: int) -> tuple[Samples, list[Word]]:
    samples, _ = soundfile.read(folder / f"{number}.wav", dtype="float32")
    words = []
    for line in (folder / f"{number}.words").read_text(encoding="ascii").splitlines():
        name, start, end = line.rsplit(" ", 2)
        span = to_samples(float(start)), min(to_samples(float(end)), len(samples))
        if span[0] < span[1]:
            words.append(Word(name.lower(), *span))
    return samples, words


def _joined(pieces: list[tuple[Samples, list[Word]]], text: str) -> Spoken:
    gap = np.zeros(to_samples(SENTENCE_GAP_S), np.float32)
    sounds: list[Samples] = []
    words: list[Word] = []
    starts: list[int] = []
    position = 0
    for samples, said in pieces:
        starts.append(position)
        words += [Word(word.text, word.start + position, word.end + position) for word in said]
        sounds += [samples, gap]
        position += len(samples) + len(gap)
    sound = np.concatenate(sounds[:-1])
    loudest = float(np.abs(sound).max(initial=0.0))
    if not words or loudest == 0.0:
        raise DataSetUnusable(f"festival said nothing for {text!r}; leave it out")
    return Spoken(Audio((sound * np.float32(_PEAK / loudest)).astype(np.float32)), tuple(words), tuple(starts))
