"""Questions and the passages that answer them, as they are heard: the data of the text encoder's training and of its choices.

Reads the training files of the project's data (`qa/*.jsonl.gz`); never an evaluation file. A passage is a stretch of at most some hundred
words that still holds its answers, in spoken form (`mishearing.spoken_form`). Held out for development: the rows marked `dev`, the articles
that the support calibration's lectures are made of, and the last part of the sentences of `nqg_train`.
"""

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from retriever.training.mishearing import spoken_form

MIN_WORDS: Final = 50  # of a stretch that is cut out of a longer passage: about 20 s of speech
MAX_WORDS: Final = 150  # about 60 s: longer than a segment, as long as written paragraphs are
_MIN_MATCH: Final = 0.6  # of OpenStax questions with their passage; below it the pairing is often wrong
_SHARES: Final[Mapping[str, float]] = {  # of a file's passages that are used; templates must not dominate
    "new_wiki": 1.0,
    "nqg_train": 1.0,
    "qed": 1.0,
    "clapnq": 1.0,
    "covid_qa": 1.0,
    "openstax_questions": 1.0,
    "fairytale_qa": 0.5,
    "qamr": 0.5,
    "openstax_glossary": 0.15,
    "medquad": 0.1,
}
_DEVELOPMENT_SOURCES: Final = ("new_wiki", "nqg_train", "qed", "covid_qa")
HELD_OUT_TITLES: Final = frozenset({  # articles of the calibration's lectures: it must not ask a retriever what that was trained on
    "Manipur",
    "Microsoft Windows",
    "Armenian Apostolic Church",
    "Homelessness in the United States",
    "Postmodernism",
    "Political divisions of the United States",
    "Marxism–Leninism",
    "Istanbul",
    "Snow man",
    "help in need",
    "a legend of confucius",
    "Community-acquired pneumonia in children — a changing spectrum of disease",
})  # fmt: skip
HELD_OUT_BOOKS: Final = ("University Physics Volume 1", "University Physics Volume 3", "U.S. History", "Psychology 2e", "Entrepreneurship")
HELD_OUT_TAIL: Final = 0.85  # nqg_train behind this part of the file, and its dev rows


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of text with the questions it answers.

    Attributes:
        text: in spoken form.
        questions: as they are written.
        article: what it is a part of; passages of one article are hard to tell apart.
        is_development: held out of training.
    """

    text: str
    questions: tuple[str, ...]
    article: str
    source: str
    is_development: bool


@dataclass(slots=True)
class _Written:
    """A passage as written, with (question, start of its answer or -1) pairs."""

    text: str
    asked: list[tuple[str, int]]
    article: str
    source: str
    is_development: bool


def read_passages(folder: Path, seed: int) -> list[Passage]:
    """Return training and development passages.

    Args:
        folder: holds `*.jsonl.gz`.
        seed: of where long passages are cut and of what is left out of large files; development passages do not depend on it.
    """
    passages: list[Passage] = []
    for source, share in _SHARES.items():
        rows = list(read_rows(folder / f"{source}.jsonl.gz"))
        for written in _joined(rows) if source == "nqg_train" else _gathered(rows, source):
            rng = random.Random(f"{0 if written.is_development else seed} {written.text[:200]}")  # noqa: S311 - no secret
            wanted = source in _DEVELOPMENT_SOURCES if written.is_development else rng.random() < share
            if wanted:
                passages += _stretches(written, rng)
    return passages


def read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a file that a training may use: whole questions with a context."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            unfit = row.get("kind") == "cloze" or row.get("match", 1.0) < _MIN_MATCH or len(row["question"].split()) < 3
            if row["split"] in ("train", "dev") and row["context"] and not unfit:
                yield row


def _gathered(rows: Iterable[Mapping[str, Any]], source: str) -> list[_Written]:
    """Return rows of the same passage together; a passage with a development row is held out whole."""
    passages: dict[str, _Written] = {}
    for row in rows:
        one = passages.setdefault(row["context"], _Written(row["context"], [], f"{source}/{row['title']}", source, False))
        marked = [answer["start"] for answer in row["answers"] if answer["start"] >= 0]
        one.asked.append((row["question"], marked[0] if marked else -1))
        held_out = row["title"] in HELD_OUT_TITLES or row["title"].startswith(HELD_OUT_BOOKS)
        one.is_development |= row["split"] == "dev" or held_out
    return list(passages.values())


def _joined(rows: Sequence[Mapping[str, Any]]) -> list[_Written]:
    """Return passages of neighbouring sentences with their questions; the order of the file is that of the articles."""
    if not rows:
        return []
    groups: list[dict[str, list[str]]] = [{}]
    places: list[int] = [0]
    for place, row in enumerate(rows):
        num_words = sum(len(sentence.split()) for sentence in groups[-1])
        if row["context"] not in groups[-1] and num_words + len(row["context"].split()) > 120:
            groups.append({})
            places.append(place)
        groups[-1].setdefault(row["context"], []).append(row["question"])
    passages = []
    for number, (place, group) in enumerate(zip(places, groups, strict=True)):
        text = re.sub(r" ?-[lr][rs]b- ?", " ", " ".join(group))
        starts = {sentence: max(text.find(sentence[:20]), 0) for sentence in group}
        asked = [(question, starts[sentence]) for sentence, questions in group.items() for question in questions]
        held_out = place > HELD_OUT_TAIL * len(rows) or rows[place]["split"] == "dev"
        passages.append(_Written(text, asked, f"nqg/{number // 12}", "nqg_train", held_out))
    return passages


def _stretches(written: _Written, rng: random.Random) -> list[Passage]:
    """Return the passage in stretches, each with the questions whose answer lies in it; without a marked answer that is the first."""
    words = [match.start() for match in re.finditer(r"\S+", written.text)]
    cuts, end = [0], 0
    while len(words) - end > MAX_WORDS:
        end += rng.randint(MIN_WORDS, MAX_WORDS)
        cuts.append(words[end])
    pieces = list(zip(cuts, [*cuts[1:], len(written.text)], strict=True))
    asked: dict[tuple[int, int], list[str]] = defaultdict(list)
    for question, start in written.asked:
        piece = next((one for one in pieces if one[0] <= start < one[1]), pieces[0])
        asked[piece].append(question)
    return [
        Passage(text, tuple(dict.fromkeys(asked[piece])), written.article, written.source, written.is_development)
        for piece in pieces
        if len((text := spoken_form(written.text[slice(*piece)])).split()) >= 8
    ]
