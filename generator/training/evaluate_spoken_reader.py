"""Measures the reader on spoken passages: `python -m generator.training.evaluate_spoken_reader --help`.

Reads a folder of spoken questions and passages, as `app.evaluation.speak` makes it: `contexts.jsonl` with `id`, `text`, `audio` and `said`
(words with their samples), `questions.jsonl` with `id`, `text`, `context`, `audio` and `answers`. A retriever of the project hears the
passages, cut at pauses, and the questions; the reader answers from its own passage's segments (gold) and from the five best segments of
all passages (open). What was heard is kept in `--work`. Run to report only.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np

from generator.citations import cite
from generator.domain import Evidence
from generator.reader import Net, ReaderRanker
from generator.reading import READER, ReadingNet
from generator.spoken_form import spoken_form
from generator.training.calibrate import IndexSearch, retriever_record, retriever_records
from generator.training.corpus import read_sound
from generator.training.evaluate_reader import NUM_HITS, mean, report
from generator.training.examples import bring_evidence
from generator.training.reader_export import TorchNet, read_checkpoint, shipped_pieces
from generator.training.reader_scores import audio_overlap, exact_match, word_f1
from retriever.base import Retriever, Segmenter
from retriever.build import build_fusion, build_retriever, build_segmenter
from retriever.config import SpeechPauses
from retriever.domain import Audio, EmbeddedSegment, EncodedQuestion, Hit, HitFeatures, Question, Segment, SegmentAudio, Span, Word

_BY_SCORE: Final = (1.0, 0.0, 0.0, 0.0, 0.0)
_NO_FEATURES: Final = HitFeatures(0.0, 0.0, 0.0, 0.0)
_MAX_ANSWER_S: Final = 20.0

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class SpokenQuestion:
    """A question on a spoken passage.

    Attributes:
        moments: when the answer is said; empty where its words were said otherwise than they are written.
    """

    text: str
    audio: Path
    context: str
    golds: tuple[str, ...]
    moments: tuple[Span, ...]


def read_set(folder: Path, num: int | None) -> tuple[list[Row], list[SpokenQuestion]]:
    """Return the passages and the questions of a folder; the first `num` passages."""
    contexts = [json.loads(line) for line in (folder / "contexts.jsonl").read_text(encoding="utf-8").splitlines()][:num]
    said = {row["id"]: [Word(*word) for word in row["said"]] for row in contexts}
    questions = []
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        if row["context"] in said:
            golds = tuple(answer["text"] for answer in row["answers"])
            moments = tuple(span for gold in golds for span in find_moments(said[row["context"]], gold))
            questions.append(SpokenQuestion(row["text"], folder / row["audio"][0], row["context"], golds, moments))
    return contexts, questions


def find_moments(said: Sequence[Word], answer: str) -> list[Span]:
    """Return when an answer's words are said, wherever they stand in a row."""
    wanted = spoken_form(answer)
    forms = [(form, word) for word in said for form in spoken_form(word.text)]
    size = len(wanted)
    places = range(len(forms) - size + 1) if size else ()
    return [
        Span(forms[start][1].start, forms[start + size - 1][1].end)
        for start in places
        if [form for form, _ in forms[start : start + size]] == wanted
    ]


class Hearing:
    """Hears passages and questions with a retriever, each once; what was heard is kept in a folder."""

    def __init__(self, folder: Path, segmenter: Segmenter, retriever: Retriever) -> None:
        self._folder = folder / retriever.fingerprint
        self._folder.mkdir(parents=True, exist_ok=True)
        self._segmenter = segmenter
        self.retriever = retriever

    def passage(self, folder: Path, row: Row) -> list[EmbeddedSegment]:
        """Return a passage's segments; each passage is a lecture of its own."""
        path, number = self._folder / f"{row['id']}.json", lecture_of(row["id"])
        if not path.exists():
            sound = np.clip(np.concatenate([read_sound(folder / name) for name in row["audio"]]), -1, 1)
            cut = [
                SegmentAudio(Segment(number, span.start, span.end, number), Audio(sound[span.start : span.end]))
                for span in self._segmenter.spans([sound])
            ]
            heard = list(self.retriever.embed(cut))
            np.save(path.with_suffix(".npy"), np.stack([one.vector for one in heard]))
            record = [[one.segment.start, one.segment.end, [[w.text, w.start, w.end, w.confidence] for w in one.words]] for one in heard]
            path.write_text(json.dumps(record), encoding="utf-8")  # last, so that its presence means all is there
        vectors, record = np.load(path.with_suffix(".npy")), json.loads(path.read_text(encoding="utf-8"))
        return [
            EmbeddedSegment(
                Segment(number, start, end, number), vectors[at], tuple(Word(*word) for word in words), self.retriever.fingerprint
            )
            for at, (start, end, words) in enumerate(record)
        ]

    def question(self, one: SpokenQuestion) -> EncodedQuestion:
        """Return what the retriever makes of a spoken question."""
        path = self._folder / f"question-{one.audio.stem}.json"
        if not path.exists():
            encoded = self.retriever.encode(Question(audio=Audio(np.clip(read_sound(one.audio), -1, 1))))
            np.save(path.with_suffix(".npy"), encoded.vector)
            path.write_text(json.dumps({"wording": encoded.wording, "heard": encoded.heard}), encoding="utf-8")
        record = json.loads(path.read_text(encoding="utf-8"))
        return EncodedQuestion(np.load(path.with_suffix(".npy")), record["wording"], record["heard"])


def lecture_of(name: str) -> UUID:
    """Return the lecture that a passage stands for."""
    return uuid5(NAMESPACE_OID, name)


@dataclass(frozen=True, slots=True)
class Said:
    """What the reader answers, and when it is said in which passage."""

    text: str
    moment: Span | None
    lecture: UUID | None


def answer(net: Net, wording: str, evidence: Sequence[Evidence]) -> Said:
    """Return the best span of the evidence by the reader's score alone."""
    ranked = ReaderRanker(net, _BY_SCORE).rank(wording, evidence, _MAX_ANSWER_S)
    if not ranked:
        return Said("", None, None)
    best = ranked[0].place
    cited = cite(evidence[best.rank], best.first, best.last)
    return Said(best.text, cited.span, cited.segment.lecture_id)


def quality(pairs: Sequence[tuple[SpokenQuestion, Said]]) -> dict[str, float]:
    """Return EM and F1 of words, and AOS over the questions whose answer's moment is known."""
    timed = [(one, said) for one, said in pairs if one.moments]
    right = [(one, said, said.lecture == lecture_of(one.context)) for one, said in timed]
    return {
        "num_questions": float(len(pairs)),
        "em": mean(exact_match(said.text, one.golds) for one, said in pairs),
        "f1": mean(word_f1(said.text, one.golds) for one, said in pairs),
        "num_timed": float(len(timed)),
        "aos": mean(audio_overlap(said.moment if same else None, one.moments) for one, said, same in right),
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by app.evaluation.speak")
    parser.add_argument("--retriever", choices=sorted(retriever_records()), required=True)
    parser.add_argument("--checkpoint", type=Path, help="last.pt of a training, measured in torch")
    parser.add_argument("--reader", type=Path, default=READER, help="an exported reader; the shipped one unless told otherwise")
    parser.add_argument("--num", type=int, help="the first so many passages")
    parser.add_argument("--work", type=Path, default=Path("runs/reader"), help="where what was heard is kept")
    parser.add_argument("--spoken-questions", action="store_true", help="also ask aloud")
    arguments = parser.parse_args()
    net: Net = TorchNet(read_checkpoint(arguments.checkpoint), shipped_pieces()) if arguments.checkpoint else ReadingNet(arguments.reader)
    config = retriever_record(arguments.retriever, 1)
    hearing = Hearing(arguments.work / arguments.folder.name, build_segmenter(SpeechPauses()), build_retriever(config))
    contexts, questions = read_set(arguments.folder, arguments.num)
    clean = [(one, answer(net, one.text, written(row))) for one in questions for row in contexts if row["id"] == one.context]
    report("said, gold", quality(clean))
    heard = {row["id"]: hearing.passage(arguments.folder, row) for row in contexts}
    search = IndexSearch(hearing.retriever, build_fusion(config))
    report("heard, gold", quality([(one, answer(net, one.text, whole(heard[one.context]))) for one in questions]))
    for mode in ("typed", "spoken") if arguments.spoken_questions else ("typed",):
        everything = [segment for segments in heard.values() for segment in segments]
        pairs = []
        for one in questions:
            encoded = hearing.retriever.encode(Question(text=one.text)) if mode == "typed" else hearing.question(one)
            evidence = list(bring_evidence(search(everything, encoded, NUM_HITS), everything)) if encoded.wording else []
            pairs.append((one, answer(net, encoded.wording, evidence)))
        report(f"heard, open, {mode}", quality(pairs))
    hearing.retriever.close()


def whole(segments: Sequence[EmbeddedSegment]) -> list[Evidence]:
    """Return all segments of a passage as evidence."""
    return list(bring_evidence([Hit(one.segment, 1.0, _NO_FEATURES) for one in segments], segments))


def written(row: Row) -> list[Evidence]:
    """Return a passage as it was said, every word heard rightly, in pieces that a segment holds."""
    number, said = lecture_of(row["id"]), [Word(*word) for word in row["said"]]
    pieces: list[list[Word]] = []
    for word in said:
        if not pieces or word.end - pieces[-1][0].start > 16_000 * 29:
            pieces.append([])
        pieces[-1].append(word)
    segments = [
        EmbeddedSegment(Segment(number, piece[0].start, piece[-1].end, number), np.zeros(1, np.float32), tuple(piece), "said")
        for piece in pieces
    ]
    return whole(segments)


if __name__ == "__main__":
    main()
