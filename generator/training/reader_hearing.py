"""Speaks training texts, hears them with the shipped recogniser, and keeps which words were heard for which.

    python -m generator.training.reader_hearing --data FOLDER --noise FOLDER --out checkpoints/reader/heard.jsonl

espeak-ng and flite speak in many voices, in rooms and with noise; festival's voices are kept for reports. Stopped and started
again, it goes on where it was.
"""

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from generator.training.corpus import lecture_passages
from generator.training.reader_data import QuestionOnPassage, Words, read_questions
from generator.training.reader_noise import Confusions, align, measure
from generator.training.reader_pseudo import read_sentences
from retriever.clsr import CLSR_SMALL
from retriever.domain import Audio
from retriever.hearing import Ear
from retriever.runtime import ShippedModel
from retriever.training.augmentation import Augmentation, AugmentationConfig, resampled
from retriever.training.synthesis import choose_delivery, speak_each

PIECE_WORDS: Final = 28  # spoken in one breath
SEEN_WORDS: Final = 3  # in a row, by which a stretch is found again
_MAX_PLACES: Final = 40  # where the same three words stand that are looked at
_FLITE_SHARE: Final = 0.2  # espeak-ng is four times as fast
_SPEEDS: Final = (0.86, 1.18)
_GROUP: Final = 8  # pieces spoken by one voice and heard together
_NOISY: Final = AugmentationConfig(room=0.4, noise=0.8, min_snr_db=4.0, max_snr_db=24.0)
_CONFUSED: Final = 0.25  # share of windows that get confusions although they were heard: the two err differently
_SPOKEN_QUESTIONS: Final = 0.5


@dataclass(frozen=True, slots=True)
class HeardPiece:
    """Words that were said, and for each the words heard for it."""

    said: Words
    heard: tuple[Words, ...]


def pieces_of(words: Words) -> Iterator[Words]:
    """Yield a text in pieces of nearly equal length that are spoken in one breath."""
    num = -(-len(words) // PIECE_WORDS)
    for number in range(num):
        yield words[len(words) * number // num : len(words) * (number + 1) // num]


def hear_pieces(pieces: Sequence[Words], ear: Ear, augmentation: Augmentation, seed: int) -> list[HeardPiece]:
    """Return pieces as heard from one voice in one place; what an engine cannot say is left out."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)  # noqa: S311  # a choice of voices, no secret
    voice, manner = choose_delivery("flite" if rng.random() < _FLITE_SHARE else "espeak", rng)
    speed = rng.uniform(*_SPEEDS)
    spoken = speak_each(voice, [f"{' '.join(piece)}." for piece in pieces], manner)
    made = [(piece, one.audio.samples) for piece, one in zip(pieces, spoken, strict=True) if one is not None]
    sounds = [Audio(np.clip(augmentation(resampled(sound, speed), noise), -1, 1)) for _, sound in made]
    heard = [tuple(word.text for word in hypotheses[0].words) for hypotheses in ear.hear(sounds)]
    return [HeardPiece(piece, tuple(align(piece, words))) for (piece, _), words in zip(made, heard, strict=True)]


def read_heard(path: Path) -> list[HeardPiece]:
    """Return what `main` wrote."""
    records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [HeardPiece(tuple(said), tuple(tuple(words.split()) for words in heard)) for _, pieces in records for said, heard in pieces]


class HeardTexts:
    """Turns words into what was heard where the same words were spoken; the rest gets confusions.

    Args:
        pieces: what was heard.
        confusions: for words that nobody spoke.
    """

    def __init__(self, pieces: Sequence[HeardPiece], confusions: Confusions) -> None:
        self._pieces = pieces
        self._confusions = confusions
        self._places: dict[Words, list[tuple[int, int]]] = defaultdict(list)
        for number, piece in enumerate(pieces):
            for place in range(len(piece.said) - SEEN_WORDS + 1):
                self._places[piece.said[place : place + SEEN_WORDS]].append((number, place))

    def __call__(self, one: QuestionOnPassage, rng: random.Random) -> QuestionOnPassage:
        """Return the question, every second one as heard, on the passage as heard; answers are where they were said."""
        if rng.random() < _CONFUSED:
            return self._confusions(one, rng)
        passage, places = self.mishear(one.passage, rng)
        answers = tuple((places[first], places[last]) for first, last in one.answers if places[first] < places[last])
        if one.answers and not answers:
            return one  # nothing of the answer was heard: there is nothing to learn from it
        question = (self.mishear(one.question, rng)[0] if rng.random() < _SPOKEN_QUESTIONS else one.question) or one.question
        return replace(one, question=question, passage=passage, answers=answers)

    def mishear(self, words: Words, rng: random.Random) -> tuple[Words, list[int]]:
        """Return what is heard of words, and for each word (and the end) where what is heard of it begins."""
        level = rng.uniform(*self._confusions.levels)
        heard: list[str] = []
        places = [0]
        at = 0
        while at < len(words):
            run = self._longest_run(words, at, rng)
            if not run:
                run = [self._confusions.mishear(words[at : at + 1], level, rng)[0]]
            for instead in run:
                heard.extend(instead)
                places.append(len(heard))
            at += len(run)
        return tuple(heard), places

    def _longest_run(self, words: Words, at: int, rng: random.Random) -> Sequence[Words]:
        """Return what was heard for the longest stretch from a word on that was spoken; empty if none was."""
        known = self._places.get(words[at : at + SEEN_WORDS], [])
        if len(known) > _MAX_PLACES:
            known = rng.sample(known, _MAX_PLACES)
        found = [(_shared(words, at, self._pieces[number].said, place), rng.random(), number, place) for number, place in known]
        size, _, number, place = max(found, default=(0, 0.0, 0, 0))
        return self._pieces[number].heard[place : place + size] if size else ()


def _shared(words: Words, at: int, said: Words, place: int) -> int:
    """Return how many words are the same from two places on."""
    longest = min(len(words) - at, len(said) - place)
    return next((size for size in range(longest) if words[at + size] != said[place + size]), longest)


def learn_confusions(record: dict[str, Any], pieces: Sequence[HeardPiece]) -> float:
    """Put what was measured on pieces into the record of `Confusions`, and return the share of words that were misheard."""
    pairs = [(piece.said, [word for words in piece.heard for word in words]) for piece in pieces]
    rates, error_rate = measure(pairs, record["kinds"])
    observed: dict[str, list[str]] = defaultdict(list)
    for piece in pieces:
        for word, words in zip(piece.said, piece.heard, strict=True):
            if word not in words:
                observed[word].append(" ".join(words))
    record |= {"rates": asdict(rates), "observed": observed}
    return error_rate


def training_texts(data: Path) -> list[Words]:
    """Return what is worth hearing, once each, the most useful first: passages, sentences of further questions and questions in turn."""
    asked = read_questions(data / "qa", "train", ("new_wiki", "qamr", "qed"), lecture_passages(data))
    sentences, further = read_sentences(data / "qa")
    answering = {one.sentence for one in further}
    near = [words for number, words in enumerate(sentences) if any(number + step in answering for step in (-1, 0, 1))]
    passages = [list(dict.fromkeys(one.passage for one in asked if (one.source == "new_wiki") is wiki)) for wiki in (True, False)]
    questions = [*(one.question for one in asked), *(one.question for one in further)]
    texts = [*passages[0][::2], *near[:1500], *questions[::4], *passages[0][1::2], *near[1500:], *passages[1], *questions]
    return [text for text in dict.fromkeys(texts) if len(text) >= SEEN_WORDS]


def main() -> None:
    """Read the arguments, speak, hear, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/")
    parser.add_argument("--noise", type=Path, required=True, help="the noise archives, unpacked")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of processor time")
    parser.add_argument("--confusions", type=Path, help="made by generator.training.reader_noise: its rates are measured anew")
    parser.add_argument("--confusions-out", type=Path, help="where those go, with what was heard for each word")
    arguments = parser.parse_args()
    pieces = [piece for text in training_texts(arguments.data) for piece in pieces_of(text)]
    groups = [pieces[start : start + _GROUP] for start in range(0, len(pieces), _GROUP)]
    done = len(arguments.out.read_text(encoding="utf-8").splitlines()) if arguments.out.exists() else 0
    ear = Ear(ShippedModel.read(CLSR_SMALL))
    augmentation = Augmentation.of_folder(_NOISY, arguments.noise)
    with arguments.out.open("a", encoding="utf-8") as file:
        for number, group in list(enumerate(groups))[done:]:
            if time.process_time() > arguments.minutes * 60:
                break
            heard = hear_pieces(group, ear, augmentation, number)
            record = [[list(one.said), [" ".join(words) for words in one.heard]] for one in heard]
            file.write(json.dumps([number, record]) + "\n")
            file.flush()
            done = number + 1
    print(f"{done} of {len(groups)} groups of pieces were heard")
    if arguments.confusions and arguments.confusions_out:
        record = json.loads(arguments.confusions.read_text(encoding="utf-8"))
        error_rate = learn_confusions(record, read_heard(arguments.out))
        arguments.confusions_out.write_text(json.dumps(record), encoding="utf-8")
        print(f"{error_rate:.3f} of the words were misheard; {record['rates']}")


if __name__ == "__main__":
    main()
