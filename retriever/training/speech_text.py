"""What training speech says: sentences of books, lectures and meetings, and questions, cut to the length of a clip.

Paragraphs and questions are held out by a hash of their own text, so that no later choice moves one from development into training.
"""

import gzip
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias
from zlib import crc32

from retriever.errors import RetrieverError
from retriever.training.spoken_text import spoken_phrases

MIN_WORDS: Final = 4
MAX_WORDS: Final = 36  # about 14 s
HELD_OUT_SHARE: Final = 40  # one paragraph in so many is development

_JOIN_CHANCE: Final = 0.35  # that a short sentence takes the next one with it
_KINDS: Final[Mapping[str, float]] = {"question": 0.25, "openstax": 0.47, "books": 0.12, "other": 0.08, "spoken": 0.08}
_QUESTION_FILES: Final[Mapping[str, float]] = {
    "new_wiki": 4, "nqg_train": 4, "openstax_questions": 3, "nq_open_questions": 3, "qed": 2, "qamr": 2, "fairytale_qa": 2,
    "openstax_glossary": 1, "medquad": 1, "clapnq": 1, "covid_qa": 1, "qmsum": 1,
}  # fmt: skip
_SENTENCE_END: Final = re.compile(r"(?<=[.?!])([\"'\u2019\u201d)]*)\s+(?=[\"'\u2018\u201c(]?[A-Z0-9])")
_NO_END: Final = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Rev|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Mt|Ft|Nos?|vs|Inc|Corp|Co|Jr|Sr|al|Fig|e\.g|i\.e|ca)|\b[A-Z])\.$"
)

Phrases: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """What one clip says: words of a to z in phrases between which the voice rests."""

    phrases: Phrases
    is_question: bool = False

    @property
    def text(self) -> str:
        """The words with single spaces."""
        return " ".join(self.phrases)

    @property
    def punctuated(self) -> str:
        """The words with the commas and the end that a synthesiser makes its melody of."""
        return ", ".join(self.phrases) + ("?" if self.is_question else ".")


class TextMissing(RetrieverError):
    """The folder of training texts lacks a part."""


@dataclass(frozen=True, slots=True)
class SpeechText:
    """The texts of one split by kind: paragraphs as written, questions with their weights."""

    paragraphs: Mapping[str, Sequence[str]]
    questions: Mapping[str, Sequence[str]]

    def lines(self, rng: random.Random) -> Iterator[Line]:
        """Yield, for ever, what to say, 4 to 36 words at a time; the random generator makes every choice."""
        kinds, weights = list(_KINDS), list(_KINDS.values())
        files = sorted(self.questions)
        file_weights = [_QUESTION_FILES[name] for name in files]
        while True:
            kind = rng.choices(kinds, weights)[0]
            if kind == "question":
                question = rng.choice(self.questions[rng.choices(files, file_weights)[0]])
                yield from cut([question], rng)
            else:
                lines = list(cut(sentences(rng.choice(self.paragraphs[kind])), rng))
                yield from rng.sample(lines, min(3, len(lines)))  # a long paragraph must not fill a shard


def read_speech_text(data: Path, split: str) -> SpeechText:
    """Return the texts of a split, `train` or `dev`, from `text/` and the training files of `qa/`; evaluation files are never opened.

    Raises:
        TextMissing: a folder or a file is not there.
    """
    paragraphs: dict[str, list[str]] = {}
    for kind in ("openstax", "books", "other", "spoken"):
        files = sorted((data / "text" / kind).glob("*.txt.gz"))
        if not files:
            raise TextMissing(f"{data / 'text' / kind} has no .txt.gz file; unpack the training texts there")
        lines = (line for file in files for line in _read(file) if line and not line.startswith("# "))
        paragraphs[kind] = [line for line in lines if is_held_out(line) == (split == "dev")]
    questions = {}
    for name in _QUESTION_FILES:
        rows: list[dict[str, Any]] = [json.loads(line) for line in _read(data / "qa" / f"{name}.jsonl.gz") if line]
        kept = [str(row["question"]) for row in rows if row["split"] == split and row.get("kind") != "cloze"]
        if kept:
            questions[name] = kept
    return SpeechText(paragraphs, questions)


def is_held_out(paragraph: str) -> bool:
    """Whether a paragraph belongs to development."""
    return crc32(paragraph.encode()) % HELD_OUT_SHARE == 0


def sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph as written; a full stop after a title or an initial ends none.

    >>> sentences("Dr. Fox came. It rained!")
    ['Dr. Fox came.', 'It rained!']
    """
    found: list[str] = []
    for piece in _SENTENCE_END.sub(r"\1\n", paragraph).split("\n"):
        if found and _NO_END.search(found[-1]):
            found[-1] += " " + piece
        else:
            found.append(piece)
    return found


def cut(written: Sequence[str], rng: random.Random) -> Iterator[Line]:
    """Yield what to say of sentences in their order: some short ones together, long ones cut at their pauses, unreadable ones left out."""
    waiting: Phrases = ()
    end = ""
    for sentence in (*written, ""):
        phrases = spoken_phrases(sentence)
        joins = phrases is not None and _num_words(waiting + phrases) <= MAX_WORDS and rng.random() < _JOIN_CHANCE
        if waiting and not joins:
            *earlier, last = [*_fitting(waiting)] or [()]
            yield from (Line(group) for group in earlier)
            if last:
                yield Line(last, end.endswith("?"))
            waiting = ()
        waiting += phrases or ()
        end = sentence


def _fitting(phrases: Phrases) -> Iterator[Phrases]:
    """Yield stretches of 4 to 36 words in order; what is too short or has no pause to cut at is dropped."""
    group: Phrases = ()
    for phrase in (*phrases, None):
        if group and (phrase is None or _num_words((*group, phrase)) > MAX_WORDS):
            if MIN_WORDS <= _num_words(group) <= MAX_WORDS:
                yield group
            group = ()
        if phrase is not None:
            group += (phrase,)


def _num_words(phrases: Phrases) -> int:
    return sum(phrase.count(" ") + 1 for phrase in phrases)


def _read(path: Path) -> list[str]:
    try:
        return gzip.decompress(path.read_bytes()).decode().split("\n")
    except FileNotFoundError as error:
        raise TextMissing(f"{path} is not there; unpack the training texts in the folder that --data names") from error
