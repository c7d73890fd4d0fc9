"""Questions with the place of their answer among the words of a passage, in spoken form: what the reader learns from and is chosen by.

Only the training and development files are read; the evaluation sets have a reader of their own that training never imports.
"""

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from generator.spoken_form import spoken_form
from generator.training.corpus import split_sentences
from retriever.lexical import STOP_WORDS

Words: TypeAlias = tuple[str, ...]
Split: TypeAlias = Literal["train", "dev"]

SOURCES: Final = ("new_wiki", "fairytale_qa", "qamr", "qed", "covid_qa", "openstax_questions")
MAX_ANSWER_WORDS: Final = 30  # longer ones are no span that a listener would call the answer


@dataclass(frozen=True, slots=True)
class QuestionOnPassage:
    """A question and the words of a passage.

    Attributes:
        answers: half-open ranges of words, the one to learn first; empty where the passage does not answer.
        golds: the answers as words, for EM and F1.
        group: the passages of one article; questions without an answer borrow from it.
        shortened: the passage without the sentences that hold an answer; empty where nothing is left.
    """

    id: str
    source: str
    group: str
    question: Words
    passage: Words
    answers: tuple[tuple[int, int], ...]
    golds: tuple[Words, ...] = ()
    shortened: Words = ()


def read_questions(
    qa: Path, split: Split, sources: Sequence[str] = SOURCES, without: Collection[str] = frozenset()
) -> list[QuestionOnPassage]:
    """Return the questions of a split whose answer is a span of their passage.

    Args:
        qa: holds `SOURCE.jsonl.gz`.
        split: to read.
        sources: to read.
        without: passages to leave out.
    """
    found = []
    for source in sources:
        with gzip.open(qa / f"{source}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row: dict[str, Any] = json.loads(line)
                if row["split"] == split and row["context"] not in without and (one := place_answers(row, source)) is not None:
                    found.append(one)
    return found


def place_answers(row: Mapping[str, Any], source: str) -> QuestionOnPassage | None:
    """Return a row with its answers as ranges of words, or None if no answer is a short span of the passage."""
    context = row["context"]
    spans = [(answer["start"], answer["start"] + len(answer["text"])) for answer in row["answers"] if answer["start"] >= 0]
    ranges = [place for span in spans if (place := word_range(context, *span)) is not None and place[1] - place[0] <= MAX_ANSWER_WORDS]
    question = tuple(spoken_form(row["question"]))
    if not ranges or not question:
        return None
    passage = _said(context)
    golds = tuple(dict.fromkeys(tuple(words) for answer in row["answers"] if (words := spoken_form(answer["text"]))))
    ordered = sorted(dict.fromkeys(ranges), key=lambda place: (-agreement(place, ranges), place[1] - place[0], place))
    if source == "openstax_questions":
        question = tuple(word for word in question if word != "_")
    shortened = tuple(spoken_form(without_sentences(context, [answer["text"] for answer in row["answers"]])))
    group = row["title"].rsplit(": ", 2)[0] if source == "openstax_questions" else row["title"]
    return QuestionOnPassage(row["id"], source, f"{source}/{group}", question, passage, tuple(ordered), golds, shortened)


def word_range(context: str, start: int, end: int) -> tuple[int, int] | None:
    """Return which words of the passage's spoken form a stretch of characters covers; whole words, None if it holds none."""
    while start > 0 and _joined(context, start):
        start -= 1
    while end < len(context) and _joined(context, end):
        end += 1
    first, inside = len(spoken_form(context[:start])), len(spoken_form(context[start:end]))
    if not inside or first + inside + len(spoken_form(context[end:])) != len(_said(context)):
        return None  # a number or a sign that is only read as a whole was cut
    return first, first + inside


@lru_cache(maxsize=4096)
def _said(context: str) -> Words:
    return tuple(spoken_form(context))


@lru_cache(maxsize=4096)
def _said_sentences(context: str) -> tuple[tuple[str, str], ...]:
    return tuple((one, f" {' '.join(spoken_form(one))} ") for one in split_sentences(context))


def _joined(text: str, cut: int) -> bool:
    """Say whether a cut between two characters goes through a word or a number."""
    before, after = text[cut - 1], text[cut]
    if before.isalnum() and after.isalnum():
        return True
    if re.match(r"[.,]\d", text[cut : cut + 2]) and before.isdigit():
        return True
    return bool(
        re.match(r"\d[.,]\d", text[max(cut - 2, 0) : cut + 1]) or re.match(r"[^\W_]['’][^\W_]", text[max(cut - 2, 0) : cut + 1])
    ) or (before.isalnum() and bool(re.match(r"['’][^\W_]|%", text[cut : cut + 2])))


def agreement(place: tuple[int, int], others: Sequence[tuple[int, int]]) -> float:
    """Return the mean overlap (F1 of positions) of a range with all ranges that people marked."""
    total = 0.0
    for other in others:
        shared = max(0, min(place[1], other[1]) - max(place[0], other[0]))
        total += 2 * shared / (place[1] - place[0] + other[1] - other[0])
    return total / len(others)


def without_sentences(context: str, answers: Sequence[str]) -> str:
    """Return a passage without the sentences that hold an answer's words."""
    wanted = [f" {' '.join(words)} " for answer in answers if (words := spoken_form(answer))]
    kept = [one for one, said in _said_sentences(context) if not any(answer in said for answer in wanted)]
    return " ".join(kept)


def holds(passage: Words, golds: Sequence[Words]) -> bool:
    """Say whether an answer's words stand in a passage."""
    line = f" {' '.join(passage)} "
    return any(f" {' '.join(gold)} " in line for gold in golds)


class Unanswerable:
    """Makes questions that a passage does not answer.

    Args:
        questions: whose passages are the pool.
    """

    KINDS: Final = ("shortened", "nearest", "elsewhere")

    def __init__(self, questions: Sequence[QuestionOnPassage]) -> None:
        self._groups: dict[str, list[Words]] = defaultdict(list)
        for passage, group in {one.passage: one.group for one in questions}.items():
            self._groups[group].append(passage)
        self._all = [passage for passages in self._groups.values() for passage in passages]

    def make(self, one: QuestionOnPassage, kind: str, rng: random.Random) -> QuestionOnPassage | None:
        """Return the question with a passage that does not answer it, or None if there is none of this kind.

        Args:
            one: a question with its answer.
            kind: "shortened" (its passage without the answer's sentences), "nearest" (of the same article, by shared words) or
                "elsewhere" (any passage).
            rng: chooses.
        """
        if kind == "shortened":
            passage = one.shortened
        elif kind == "nearest":
            others = [other for other in self._groups[one.group] if other != one.passage and not holds(other, one.golds)]
            asked = set(one.question) - STOP_WORDS
            passage = max(others, key=lambda other: len(asked & set(other)) / len(other) ** 0.3, default=())
        else:
            passage = rng.choice(self._all)
            passage = () if holds(passage, one.golds) else passage
        if len(passage) < 8:
            return None
        return replace(one, id=f"{one.id}-{kind}", passage=passage, answers=(), shortened=())


def crop(one: QuestionOnPassage, num_words: int, rng: random.Random) -> QuestionOnPassage:
    """Return the question with a stretch of its passage that holds the first answer whole; other answers stay where they fit."""
    spare = len(one.passage) - num_words
    if spare <= 0:
        return one
    low, high = 0, spare
    if one.answers:
        start, end = one.answers[0]
        low, high = max(0, min(end - num_words, spare)), min(start, spare)
        high = max(low, high)
    first = rng.randint(low, high)
    last = first + num_words
    inside = tuple((start - first, end - first) for start, end in one.answers if first <= start and end <= last)
    if one.answers and not inside:
        raise ValueError(f"an answer of {one.answers[0][1] - one.answers[0][0]} words does not fit into {num_words}; crop to more")
    return replace(one, passage=one.passage[first:last], answers=inside)


def development(qa: Path, sources: Sequence[str] = ("new_wiki",), seed: int = 0) -> Iterator[QuestionOnPassage]:
    """Yield development questions: each with its answer, and with each kind of passage that does not answer."""
    rng = random.Random(seed)  # noqa: S311  # a choice of examples, no secret
    questions = read_questions(qa, "dev", sources)
    pool = Unanswerable([*questions, *read_questions(qa, "train", sources)])
    for one in questions:
        yield one
        for kind in Unanswerable.KINDS:
            if (other := pool.make(one, kind, rng)) is not None:
                yield other
