"""Measures the reader on written text: `python -m generator.training.evaluate_reader --help`.

    dev      development questions: EM and F1 on their own passage, and on passages without an answer; choices and threshold come from here
    xquad    the same on XQuAD's paragraphs, with the threshold from dev; `--open` also finds the paragraphs among all 240 first

XQuAD is run to report only. Passages are read in spoken form, as if every word had been heard.
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import numpy as np

from generator.domain import Evidence
from generator.reader import Net, ReaderRanker
from generator.reading import READER, ReadingNet
from generator.spoken_form import spoken_form
from generator.training.fitting import auroc, choose_threshold
from generator.training.reader_data import QuestionOnPassage, Unanswerable, Words, development, without_sentences
from generator.training.reader_export import TorchNet, read_checkpoint, shipped_pieces
from generator.training.reader_scores import exact_match, word_f1
from retriever.config import Cascade
from retriever.domain import Audio, EmbeddedSegment, EncodedQuestion, Hit, HitFeatures, Segment, Word
from retriever.fusion import Fusion
from retriever.index import SegmentIndex
from retriever.sentence_encoder import SentenceEncoder

WORD_SAMPLES: Final = 800  # a word's time where none was spoken; short, so that any paragraph fits into a segment
LECTURE: Final = UUID(int=2)
NUM_HITS: Final = 5
MAX_FALSE: Final = 0.10  # of questions on another topic that may be answered
_NO_FEATURES: Final = HitFeatures(0.0, 0.0, 0.0, 0.0)
_BY_SCORE: Final = (1.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader says: the words of its best span and their log-odds against "no answer"."""

    text: str
    score: float


def written_evidence(passages: Sequence[Words], hits: Sequence[Hit] = ()) -> list[Evidence]:
    """Return passages as if they had been heard one after the other."""
    evidence, at = [], 0
    for number, words in enumerate(passages):
        heard = tuple(Word(word, at + place * WORD_SAMPLES, at + (place + 1) * WORD_SAMPLES) for place, word in enumerate(words))
        segment = Segment(LECTURE, at, at + max(1, len(words)) * WORD_SAMPLES, uuid5(LECTURE, "run"))
        hit = hits[number] if hits else Hit(segment, 1.0, _NO_FEATURES)
        evidence.append(Evidence(Hit(segment, hit.score, hit.features), "", heard, (), (), _no_audio))
        at = segment.end + 16_000 * 10
    return evidence


def _no_audio() -> Audio:
    raise NotImplementedError("a text reader reads no sound")


def read(net: Net, question: Words, evidence: Sequence[Evidence]) -> Reading:
    """Return the best span of all evidence by the reader's score alone."""
    ranked = ReaderRanker(net, _BY_SCORE).rank(" ".join(question), evidence, 30.0)
    return Reading(ranked[0].place.text, ranked[0].score) if ranked else Reading("", -100.0)


@dataclass(frozen=True, slots=True)
class Read:
    """A question with what the reader said; `kind` is "answerable" or what was done so that it is not."""

    kind: str
    golds: tuple[str, ...]
    reading: Reading


def read_all(net: Net, questions: Sequence[QuestionOnPassage]) -> list[Read]:
    """Return what the reader says to each question on its passage."""
    found = []
    for one in questions:
        kind = "answerable" if one.answers else one.id.rsplit("-", 1)[1]
        golds = tuple(" ".join(gold) for gold in one.golds)
        found.append(Read(kind, golds, read(net, one.question, written_evidence([one.passage]))))
    return found


def quality(found: Sequence[Read]) -> dict[str, float]:
    """Return EM and F1 of answerable questions, and the AUROC of the score against each kind without an answer, in [0, 1]."""
    answerable = [one for one in found if one.kind == "answerable"]
    result = {
        "num_questions": float(len(answerable)),
        "em": mean(exact_match(one.reading.text, one.golds) for one in answerable),
        "f1": mean(word_f1(one.reading.text, one.golds) for one in answerable),
    }
    for kind in Unanswerable.KINDS:
        pair = [one for one in found if one.kind in ("answerable", kind)]
        scores, labels = (np.array(values) for values in ([one.reading.score for one in pair], [one.kind == "answerable" for one in pair]))
        result[f"auroc_{kind}"] = auroc(scores.astype(np.float64), labels.astype(np.float64))
    return result


def odds_threshold(found: Sequence[Read]) -> float:
    """Return the score from which on a question counts as answered: best balanced accuracy, few questions on another topic."""
    scores = np.array([one.reading.score for one in found])
    probability = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    labels = np.array([float(one.kind == "answerable") for one in found])
    strangers = np.array([one.kind == "elsewhere" for one in found])
    chosen = choose_threshold(probability, labels, strangers, MAX_FALSE)
    return float(np.log(chosen / (1 - chosen)))


def decisions(found: Sequence[Read], threshold: float) -> dict[str, float]:
    """Return the share of each kind that is answered, and the balanced accuracy over answerable and all others."""
    answered = {
        kind: mean(one.reading.score >= threshold for one in found if one.kind == kind) for kind in ("answerable", *Unanswerable.KINDS)
    }
    others = mean(one.reading.score < threshold for one in found if one.kind != "answerable")
    return {**{f"answered_{kind}": share for kind, share in answered.items()}, "balanced_accuracy": (answered["answerable"] + others) / 2}


def mean(values: Iterator[float] | Iterator[bool]) -> float:
    """Return the mean; NaN of none."""
    listed = [float(value) for value in values]
    return float(np.mean(listed)) if listed else float("nan")


def read_xquad(path: Path) -> list[QuestionOnPassage]:
    """Return the questions of an evaluation file in spoken form."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        texts = [answer["text"] for answer in row["answers"]]
        golds = tuple(tuple(spoken_form(text)) for text in texts)
        shortened = tuple(spoken_form(without_sentences(row["context"], texts)))
        question, passage = tuple(spoken_form(row["question"])), tuple(spoken_form(row["context"]))
        found.append(QuestionOnPassage(row["id"], "xquad", row["title"], question, passage, ((0, 1),), golds, shortened))
    return found


def with_unanswerable(questions: Sequence[QuestionOnPassage], seed: int = 0) -> list[QuestionOnPassage]:
    """Return the questions, each followed by those of its kinds without an answer that can be made."""
    rng, pool = random.Random(seed), Unanswerable(questions)  # noqa: S311  # a choice of examples, no secret
    made = []
    for one in questions:
        others = [pool.make(one, kind, rng) for kind in Unanswerable.KINDS]
        made += [one, *(other for other in others if other is not None)]
    return made


class Finder:
    """Finds paragraphs by the default retriever's text side: vectors and words, fused."""

    def __init__(self, passages: Sequence[Words]) -> None:
        self._encoder = SentenceEncoder()
        self._passages = passages
        vectors = self._encoder.encode([" ".join(words) for words in passages])
        segments = [
            EmbeddedSegment(
                Segment(LECTURE, number, number + 1, LECTURE), vectors[number], (Word(" ".join(words), number, number + 1),), "text"
            )
            for number, words in enumerate(passages)
        ]
        self._index = SegmentIndex.create("text", self._encoder.dimension, Fusion(Cascade().lexical_weight))
        self._index.add(segments)

    def find(self, question: Words) -> list[Evidence]:
        """Return the best paragraphs as evidence."""
        wording = " ".join(question)
        encoded = EncodedQuestion(self._encoder.encode([wording])[0], wording, None)
        hits = self._index.search(encoded, NUM_HITS, {LECTURE})
        return written_evidence([self._passages[hit.segment.start] for hit in hits], hits)


def open_quality(net: Net, questions: Sequence[QuestionOnPassage]) -> dict[str, float]:
    """Return EM and F1 where the reader gets the five best of all paragraphs."""
    finder = Finder(list(dict.fromkeys(one.passage for one in questions)))
    readings = [(one, read(net, one.question, finder.find(one.question))) for one in questions]
    pairs = [([" ".join(gold) for gold in one.golds], reading.text) for one, reading in readings]
    return {
        "open_em": mean(exact_match(text, golds) for golds, text in pairs),
        "open_f1": mean(word_f1(text, golds) for golds, text in pairs),
    }


def report(name: str, numbers: Mapping[str, float]) -> None:
    """Print numbers as one line of JSON."""
    print(json.dumps({"set": name, **{key: round(value, 4) for key, value in numbers.items()}}), flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/")
    parser.add_argument("--checkpoint", type=Path, help="last.pt of a training, measured in torch")
    parser.add_argument("--reader", type=Path, default=READER, help="an exported reader; the shipped one unless told otherwise")
    parser.add_argument("--sets", nargs="*", choices=("dev", "xquad"), default=["dev"])
    parser.add_argument("--sources", nargs="*", default=["new_wiki"], help="of the development questions")
    parser.add_argument("--num", type=int, help="measure so many questions only, chosen by a seeded generator")
    parser.add_argument("--open", action="store_true", help="also find XQuAD's paragraphs first")
    arguments = parser.parse_args()
    net: Net = TorchNet(read_checkpoint(arguments.checkpoint), shipped_pieces()) if arguments.checkpoint else ReadingNet(arguments.reader)
    questions = _some(list(development(arguments.data / "qa", arguments.sources)), arguments.num)
    found = read_all(net, questions)
    threshold = odds_threshold(found)
    report("dev", {**quality(found), **decisions(found, threshold), "threshold": threshold})
    if "xquad" in arguments.sets:
        xquad = _some(read_xquad(arguments.data / "qa" / "xquad_en.jsonl"), arguments.num)
        found = read_all(net, with_unanswerable(xquad))
        report("xquad", {**quality(found), **decisions(found, threshold), "threshold": threshold})
        if arguments.open:
            report("xquad, open", open_quality(net, xquad))


def _some(questions: list[QuestionOnPassage], num: int | None) -> list[QuestionOnPassage]:
    return questions if num is None or num >= len(questions) else random.Random(0).sample(questions, num)  # noqa: S311  # no secret


if __name__ == "__main__":
    main()
