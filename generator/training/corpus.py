"""Makes development lectures out of written passages: each sentence is spoken by itself, so that the moment of every answer is known.

Only training and development questions are read, never evaluation files. Everything is kept in a folder; a second call continues where the
first stopped.
"""

import gzip
import io
import json
import random
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from generator.training.voices import ASKERS, LECTURERS, speak
from retriever.domain import SAMPLE_RATE_HZ, Samples, to_samples

MAX_LECTURE_WORDS: Final = 720  # about five minutes
NUM_SPOKEN: Final = 14  # questions spoken for each lecture
_NUM_LECTURES: Final = {"new_wiki": 8, "fairytale_qa": 3, "covid_qa": 1, "openstax_questions": 5}
_MIN_MATCH: Final = 0.6  # of OpenStax questions with their passage; below it the pairing is often wrong
_QUESTIONS_PER_PASSAGE: Final = 5


@dataclass(frozen=True, slots=True)
class SpokenSentence:
    """A sentence and its moment in the lecture, in samples."""

    text: str
    passage: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LectureQuestion:
    """A question with the sentence that answers it; `is_spoken` says whether its sound exists."""

    id: str
    text: str
    sentence: int
    is_spoken: bool


@dataclass(frozen=True, slots=True)
class DevelopmentLecture:
    """A lecture made of one article's passages; `half` is 0 for fitting, 1 for the report."""

    name: str
    source: str
    half: int
    sentences: tuple[SpokenSentence, ...]
    questions: tuple[LectureQuestion, ...]


def read_lecture(path: Path) -> DevelopmentLecture:
    """Return a lecture that `make_lectures` wrote."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    record["sentences"] = tuple(SpokenSentence(**sentence) for sentence in record["sentences"])
    record["questions"] = tuple(LectureQuestion(**question) for question in record["questions"])
    return DevelopmentLecture(**record)


def make_lectures(data: Path, folder: Path, seed: int = 0) -> dict[str, DevelopmentLecture]:
    """Write lectures (`NAME.json`, `NAME.flac`) and spoken questions (`questions/ID.flac`); skip those that are there; return them by NAME.

    Args:
        data: holds `qa/*.jsonl.gz` and `noise/noise.tar`.
        folder: where to keep them.
        seed: of every choice.
    """
    (folder / "questions").mkdir(parents=True, exist_ok=True)
    noises = _read_noises(data / "noise" / "noise.tar")
    lectures = {}
    for number, (source, title, passages) in enumerate(_choose_articles(data, random.Random(seed))):  # noqa: S311  # no secret
        path = folder / f"{number:02d}-{source}.json"
        if not path.exists():
            lecture = _write_lecture(path, title, number, passages, noises)
            path.write_text(json.dumps(asdict(lecture)), encoding="utf-8")  # last, so that its presence means all is there
        lectures[path.stem] = read_lecture(path)
    return lectures


def make_strangers(data: Path, folder: Path, num: int = 160, seed: int = 1) -> list[LectureQuestion]:
    """Write questions on articles that no lecture is made of, half of them spoken; return those that are there if they are."""
    (folder / "questions").mkdir(parents=True, exist_ok=True)
    path = folder / "strangers.json"
    if not path.exists():
        rng = random.Random(seed)  # noqa: S311  # a choice of questions, no secret
        used = {title for _, title, _ in _choose_articles(data, random.Random(0))}  # noqa: S311
        rows = [row for source in ("new_wiki", "openstax_questions") for row in _read_rows(data / "qa" / f"{source}.jsonl.gz")]
        chosen = rng.sample([row for row in rows if not any(row["title"].startswith(title) for title in used)], num)
        for number, row in enumerate(chosen[: num // 2]):
            speech = speak(row["question"], ASKERS[number % len(ASKERS)])
            soundfile.write(folder / "questions" / f"{row['id']}.flac", speech, SAMPLE_RATE_HZ, subtype="PCM_16")
        questions = [LectureQuestion(row["id"], row["question"], -1, number < num // 2) for number, row in enumerate(chosen)]
        path.write_text(json.dumps([asdict(question) for question in questions]), encoding="utf-8")
    return [LectureQuestion(**record) for record in json.loads(path.read_text(encoding="utf-8"))]


def lecture_passages(data: Path, seed: int = 0) -> set[str]:
    """Return the passages that the lectures of `make_lectures` are made of: what is calibrated with them must not have learnt from them."""
    chosen = _choose_articles(data, random.Random(seed))  # noqa: S311  # the same choice as there
    return {text for _, _, passages in chosen for text in passages}


def read_sound(path: Path) -> Samples:
    """Return a sound that was written here."""
    sound, _rate_hz = soundfile.read(path, dtype="float32")
    return np.asarray(sound, dtype=np.float32)


Rows = Sequence[Mapping[str, Any]]
Passages = Mapping[str, Rows]


def _choose_articles(data: Path, rng: random.Random) -> Iterator[tuple[str, str, Passages]]:
    """Yield (source, title, passages with their questions), a few articles of each source."""
    for source, num_lectures in _NUM_LECTURES.items():
        articles: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        for row in _read_rows(data / "qa" / f"{source}.jsonl.gz"):
            title = row["title"].rsplit(": ", 2)[0] if source == "openstax_questions" else row["title"]
            articles[title][row["context"]].append(row)
        large = sorted(title for title, passages in articles.items() if sum(len(text.split()) for text in passages) >= MAX_LECTURE_WORDS)
        for title in rng.sample(large, num_lectures):
            yield source, title, _cut_article(articles[title], rng)


def _cut_article(passages: Passages, rng: random.Random) -> Passages:
    """Return neighbouring passages of together at most `MAX_LECTURE_WORDS`, each with a few of its questions."""
    texts, chosen, num_words = list(passages), {}, 0
    first = rng.randrange(max(1, len(texts) // 2))
    for text in texts[first:] + texts[:first]:
        if num_words and num_words + len(text.split()) > MAX_LECTURE_WORDS:
            break
        num_words += len(text.split())
        chosen[text] = rng.sample(list(passages[text]), min(_QUESTIONS_PER_PASSAGE, len(passages[text])))
    return chosen


def _read_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            is_cloze = row.get("kind") in ("cloze", "mcq") or row.get("match", 1.0) < _MIN_MATCH
            if row["split"] in ("train", "dev") and row["context"] and not is_cloze and len(row["question"].split()) >= 4:
                yield row


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a written passage without what nobody reads aloud (brackets)."""
    plain = re.sub(r"\s+", " ", re.sub(r"\[[^]]*\]|\([^)]*\)", " ", text)).strip()
    return [
        sentence
        for sentence in re.split(r"(?<=[.!?])[\"'\u201d\u2019]? +(?=[\"'\u201c\u2018]?[A-Z0-9])", plain)
        if re.search(r"[A-Za-z]{2}", sentence)
    ]


def _answer_sentence(row: Mapping[str, Any], sentences: Sequence[str]) -> int | None:
    """Return the number of the sentence that answers, or None if the answer's words lie in none.

    By the answer's words and those around them where they stand in the passage; an answer in other words goes to the most similar sentence.
    """
    marked = [answer for answer in row["answers"] if answer["start"] >= 0]
    if not marked:
        return _closest(" ".join([row["question"], *(answer["text"] for answer in row["answers"])]), sentences)
    start, text = marked[0]["start"], marked[0]["text"]
    around = set(_words(row["context"][max(0, start - 60) : start + len(text) + 30]))
    holding = [number for number, sentence in enumerate(sentences) if set(_words(text)) <= set(_words(sentence))]
    return max(holding, key=lambda number: len(around & set(_words(sentences[number]))), default=None)


def _closest(text: str, sentences: Sequence[str]) -> int | None:
    wanted = {word for word in _words(text) if len(word) > 3}
    return max(range(len(sentences)), key=lambda number: len(wanted & set(_words(sentences[number]))), default=None)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _write_lecture(path: Path, title: str, number: int, passages: Passages, noises: Sequence[Samples]) -> DevelopmentLecture:
    rng = np.random.default_rng(number)
    voice, asker = LECTURERS[number % len(LECTURERS)], ASKERS[(number + 1) % len(ASKERS)]
    pieces: list[Samples] = [np.zeros(to_samples(0.5), dtype=np.float32)]
    sentences: list[SpokenSentence] = []
    asked: list[tuple[Mapping[str, Any], int]] = []
    for passage, (context, rows) in enumerate(passages.items()):
        written = split_sentences(context)
        asked += [(row, len(sentences) + answer) for row in rows if (answer := _answer_sentence(row, written)) is not None]
        for text in written:
            start, sound = sum(map(len, pieces)), speak(text, voice)
            sentences.append(SpokenSentence(text, passage, start, start + len(sound)))
            pieces += [sound, np.zeros(to_samples(rng.uniform(0.2, 0.7)), dtype=np.float32)]
        pieces.append(np.zeros(to_samples(rng.uniform(0.2, 0.8)), dtype=np.float32))
    sound = np.concatenate(pieces)
    if number % 2:
        sound = _add_noise(sound, noises[number % len(noises)], rng)
    soundfile.write(path.with_suffix(".flac"), sound, SAMPLE_RATE_HZ, subtype="PCM_16")
    order = rng.permutation(len(asked))
    spoken = {int(index) for index in order[:NUM_SPOKEN]}
    for index in spoken:
        soundfile.write(
            path.parent / "questions" / f"{asked[index][0]['id']}.flac", speak(asked[index][0]["question"], asker), SAMPLE_RATE_HZ
        )
    questions = tuple(LectureQuestion(row["id"], row["question"], sentence, index in spoken) for index, (row, sentence) in enumerate(asked))
    return DevelopmentLecture(title, path.stem.split("-", 1)[1], number % 4 // 2, tuple(sentences), questions)


def _read_noises(path: Path) -> list[Samples]:
    noises = []
    with tarfile.open(path) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            if member.isfile() and member.name.endswith(".flac"):
                stream = tar.extractfile(member)
                noises.append(soundfile.read(io.BytesIO(stream.read() if stream else b""), dtype="float32")[0])
    return noises


def _add_noise(sound: Samples, noise: Samples, rng: np.random.Generator) -> Samples:
    """Return the sound with noise at 18 to 30 dB below the speech."""
    long = np.resize(noise, len(sound))
    ratio_db = rng.uniform(18, 30)
    gain = float(np.sqrt(np.mean(sound**2) / max(float(np.mean(long**2)), 1e-12)) * 10 ** (-ratio_db / 20))
    return np.asarray(np.clip(sound + gain * long, -1, 1), dtype=np.float32)
