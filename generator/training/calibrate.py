"""Measures when the lectures hold an answer: makes `weights/support-RETRIEVER-GENERATOR.json` for every combination.

    python -m generator.training.calibrate --data FOLDER --work runs/calibration --out generator/weights

Fits on one half of the lectures and reports on the other. Resumable: lectures, questions and what was heard of them are kept in `--work`.
About 75 minutes of speech are recognised the first time that a retriever is measured.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Generic, get_args

import numpy as np
import numpy.typing as npt

from generator.build import ShippedEncoder
from generator.calibration import FEATURES, FORMAT, Mode, ReaderSpanFeatures, SpanFeatures
from generator.citations import cite
from generator.config import Extractive
from generator.domain import Citation, Evidence
from generator.extractive import choose_moments
from generator.ranking import Encoder, Features, RankedSpan, Ranker, SpanRanker
from generator.reader import Net, ReaderRanker, reader_moments
from generator.reading import WordScores, shipped_reader
from generator.training.corpus import make_lectures, make_strangers
from generator.training.examples import Example, ExampleMaker, Kind, overlap
from generator.training.fitting import Array, Logistic, auroc, choose_threshold, fit_choice, fit_rising
from generator.training.hearing import Ears
from generator.wording import load_rarity
from retriever.base import Retriever
from retriever.build import build_fusion, build_retriever, build_segmenter
from retriever.config import Cascade, RetrieverConfig, SpeechPauses
from retriever.domain import EmbeddedSegment, EncodedQuestion, Hit, Span
from retriever.fusion import Fusion
from retriever.index import SegmentIndex

MAX_FALSE_STRANGERS: Final = 0.10  # a made-up answer costs a student more trust than "look at these moments"
_IMPORTANCE: Final[Mapping[Kind, float]] = {"answerable": 0.5, "stranger": 0.3, "removed": 0.2}
DATA: Final = (
    "17 development lectures of 2 to 6 minutes, 72 minutes in all: training passages of SquadShifts new Wikipedia (8), FairytaleQA (3), "
    "COVID-QA (1) and OpenStax review questions (5), spoken sentence by sentence by flite, festival and espeak-ng, every second one with "
    "background noise 18 to 30 dB below; questions typed, and spoken by other voices; heard through the project's own segmenter and "
    "retriever; libraries of 1, 4 and all lectures of a half. Answerable: the sentence is there; stranger: a question on another topic; "
    "removed: the passage with the answer was taken out. The reader has not learnt from these passages."
)
_FREE: Final = ("num_words",)  # support features that may speak for or against; more of any other is never less support
_MAX_ANSWER_S: Final = Extractive().max_answer_s
_MAX_CITATIONS: Final = Extractive().max_citations


@dataclass(frozen=True, slots=True, eq=False)
class Way(Generic[Features]):
    """A way to answer, as far as calibration must know it.

    Attributes:
        kind: of the generator's record.
        weights_name: names the network that it answers with; empty where there is none.
        ranker: makes its ranker from weights of span features.
        plain: weights to begin with: what the reader or the encoder says by itself.
        gain: how good it is to point at a moment when the answer lies in another; in [0, 1].
        moments: what is cited of ranked spans.
    """

    kind: str
    weights_name: str
    ranker: Callable[[Sequence[float]], Ranker[Features]]
    plain: tuple[float, ...]
    gain: Callable[[Span, Span], float]
    moments: Callable[[Sequence[Evidence], Sequence[RankedSpan[Features]]], tuple[Citation, ...]]

    @property
    def span_features(self) -> tuple[str, ...]:
        """Names of what the choice of a span rests on."""
        return FEATURES[self.kind][0]

    @property
    def support_features(self) -> tuple[str, ...]:
        """Names of what the decision rests on."""
        return FEATURES[self.kind][1]


def extractive_way(encoder: Encoder) -> Way[SpanFeatures]:
    """Return how the extractive generator answers: it points at whole stretches, so it should find all of the sentence and no more."""
    rarity = load_rarity()
    plain = (1.0,) + (0.0,) * (len(fields(SpanFeatures)) - 1)
    return Way(
        "extractive",
        "",
        lambda weights: SpanRanker(encoder, rarity, weights),
        plain,
        shared_of_both,
        lambda evidence, ranked: choose_moments(evidence, ranked, _MAX_CITATIONS),
    )


def reader_way(net: Net) -> Way[ReaderSpanFeatures]:
    """Return how the trained reader answers: it points at the answer's own words, which should lie in the sentence."""
    plain = (1.0,) + (0.0,) * (len(fields(ReaderSpanFeatures)) - 1)
    return Way(
        "reader",
        net.name,
        lambda weights: ReaderRanker(net, weights),
        plain,
        shared_of_cited,
        lambda evidence, ranked: reader_moments(evidence, ranked, _MAX_CITATIONS, _MAX_ANSWER_S),
    )


def shared_of_both(cited: Span, truth: Span) -> float:
    """Return the shared time over the time of both together."""
    shared = overlap(cited, truth)
    return shared / (cited.num_samples + truth.num_samples - shared)


def shared_of_cited(cited: Span, truth: Span) -> float:
    """Return the share of the cited time that lies in the truth."""
    return overlap(cited, truth) / cited.num_samples


class RememberingNet:
    """Reads each question on each passage once."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.max_tokens, self.name = net.max_tokens, net.name
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...]], list[WordScores]] = {}

    def num_tokens(self, words: Sequence[str]) -> int:
        """Return how many tokens words have."""
        return self._net.num_tokens(words)

    def read(self, question: Sequence[str], passage: Sequence[str]) -> list[WordScores]:
        """Return the scores of each window."""
        key = tuple(question), tuple(passage)
        if key not in self._known:
            self._known[key] = self._net.read(question, passage)
        return self._known[key]


class RememberingEncoder:
    """Encodes each text once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, npt.NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (B, D) vectors of length 1."""
        unknown = list(dict.fromkeys(text for text in texts if text not in self._known))
        if unknown:
            self._known.update(zip(unknown, self._encoder.encode(unknown), strict=True))
        return np.stack([self._known[text] for text in texts])


class IndexSearch:
    """Searches with the project's own index; keeps the last library's."""

    def __init__(self, retriever: Retriever, fusion: Fusion) -> None:
        self._retriever = retriever
        self._fusion = fusion
        self._last: tuple[frozenset[int], SegmentIndex] | None = None

    def __call__(self, segments: Sequence[EmbeddedSegment], question: EncodedQuestion, k: int) -> Sequence[Hit]:
        """Return the k best segments."""
        ids = frozenset(one.segment.id for one in segments)
        if self._last is None or self._last[0] != ids:
            index = SegmentIndex.create(self._retriever.fingerprint, self._retriever.dimension, self._fusion)
            index.add(segments)
            self._last = (ids, index)
        return self._last[1].search(question, k, {one.segment.lecture_id for one in segments})


def fit_span_weights(examples: Sequence[Example], way: Way[Features]) -> Array:
    """Return weights under which the best span gains most; of examples whose sentence was found."""
    features, gains = [], []
    ranker = way.ranker(way.plain)
    for example in examples:
        if example.is_found:
            ranked = ranker.rank(example.question.wording, example.evidence, _MAX_ANSWER_S)
            gain = np.array([span_gain(example, span, way) for span in ranked])
            if gain.max(initial=0) > 0:
                gains.append(gain)
                features.append(np.array([[getattr(span.features, name) for name in way.span_features] for span in ranked]))
    return fit_choice(features, gains)


def span_gain(example: Example, span: RankedSpan[Features], way: Way[Features]) -> float:
    """Return how well a span points at the true sentence."""
    evidence = example.evidence[span.place.rank]
    if example.truth is None or evidence.segment.lecture_id != example.lecture_id:
        return 0.0
    return way.gain(cite(evidence, span.place.first, span.place.last).span, example.truth)


class Measured:
    """Support features (N, F) and labels (N,) of examples, with the moments that would be cited."""

    def __init__(self, examples: Sequence[Example], ranker: Ranker[Features], way: Way[Features]) -> None:
        rows: list[list[float]] = []
        self.examples: list[Example] = []
        self.moments: list[tuple[Citation, ...]] = []
        for example in examples:
            ranked = ranker.rank(example.question.wording, example.evidence, _MAX_ANSWER_S)
            if ranked:  # without any words the answer is "not supported" by rule
                rows.append(list(asdict(ranker.support(example.question.wording, example.evidence, ranked)).values()))
                self.examples.append(example)
                self.moments.append(way.moments(example.evidence, ranked))
        self.features: Array = np.array(rows)
        self.labels: Array = np.array([float(example.is_found) for example in self.examples])
        self.kinds = np.array([example.kind for example in self.examples])
        self.sizes = np.array([example.num_lectures for example in self.examples])

    def importance(self) -> Array:
        """Return how much each example counts, so that kinds count as agreed, whatever their numbers."""
        weight = np.zeros(len(self.kinds))
        for kind, share in _IMPORTANCE.items():
            weight[self.kinds == kind] = share / max(1, int((self.kinds == kind).sum()))
        return weight

    def _libraries(self) -> list[tuple[str, npt.NDArray[np.bool_]]]:
        return [("one_lecture", self.sizes == 1), ("all_lectures", self.sizes == self.sizes.max())]

    def quality(self, model: Logistic, threshold: float) -> dict[str, Any]:
        """Return what the report says, as shares in [0, 1]."""
        probability = model.probability(self.features)
        supported = probability >= threshold
        answerable, labels = self.kinds == "answerable", self.labels == 1
        pairs = list(zip(self.examples, self.moments, strict=True))
        first = np.array([shares(example, example.truth, moments[:1]) for example, moments in pairs])
        anywhere = np.array([shares(example, example.truth, moments) for example, moments in pairs])
        near = np.array([shares(example, example.passage, moments[:1]) for example, moments in pairs])
        shown = answerable & supported
        result = {
            "num_questions": {kind: int((self.kinds == kind).sum()) for kind in _IMPORTANCE},
            "auroc_against_strangers": auroc(
                probability[answerable | (self.kinds == "stranger")], answerable[answerable | (self.kinds == "stranger")] * 1.0
            ),
            "auroc_against_removed": auroc(
                probability[answerable | (self.kinds == "removed")], answerable[answerable | (self.kinds == "removed")] * 1.0
            ),
            "answer_in_evidence": labels[answerable].mean(),
            "supported_answerable": supported[answerable].mean(),
            "supported_answer_in_evidence": supported[labels].mean(),
            "supported_stranger": supported[self.kinds == "stranger"].mean(),
            "supported_removed": supported[self.kinds == "removed"].mean(),
            "balanced_accuracy": (supported[labels].mean() + (~supported[~answerable]).mean()) / 2,
            "precision": float(np.average(labels[supported], weights=self.importance()[supported])),
            "first_moment_overlaps_sentence": first[shown].mean(),
            "any_moment_overlaps_sentence": anywhere[shown].mean(),
            "first_moment_overlaps_passage": near[shown].mean(),
            **{f"supported_answerable_{name}": supported[answerable & chosen].mean() for name, chosen in self._libraries()},
            **{f"supported_stranger_{name}": supported[(self.kinds == "stranger") & chosen].mean() for name, chosen in self._libraries()},
        }
        return {name: round(float(value), 3) if not isinstance(value, dict) else value for name, value in result.items()}


def shares(example: Example, place: Span | None, moments: Sequence[Citation]) -> bool:
    """Say whether one of the moments shares sound with a place of the example's lecture."""
    return place is not None and any(
        moment.segment.lecture_id == example.lecture_id and overlap(moment.span, place) > 0 for moment in moments
    )


def fit_mode(fitting: Measured, report: Measured, names: Sequence[str]) -> dict[str, Any]:
    """Return one mode's record: weights and threshold from one half of the lectures, quality on the other."""
    model = fit_rising(fitting.features, fitting.labels, fitting.importance(), np.array([name not in _FREE for name in names]))
    probability = model.probability(fitting.features)
    threshold = choose_threshold(probability, fitting.labels, fitting.kinds == "stranger", MAX_FALSE_STRANGERS)
    return {
        "weights": {name: round(float(weight), 5) for name, weight in zip(names, model.weights, strict=True)},
        "bias": round(model.bias, 5),
        "threshold": round(threshold, 3),
        "quality_fitted": fitting.quality(model, threshold),
        "quality": report.quality(model, threshold),
        "reliability": reliability(model.probability(report.features), report.labels, report.importance()),
    }


def reliability(probability: Array, labels: Array, importance: Array, num_bins: int = 10) -> list[list[float]]:
    """Return for each bin of confidence that holds examples: mean confidence, share that is right, number of examples.

    Args:
        probability: (N,).
        labels: (N,), 0 or 1.
        importance: (N,), how much each example counts.
        num_bins: of equal width.
    """
    bins = np.minimum((probability * num_bins).astype(int), num_bins - 1)
    return [
        [round(float(np.average(values[bins == number], weights=importance[bins == number])), 3) for values in (probability, labels)]
        + [int((bins == number).sum())]
        for number in sorted(set(bins.tolist()))
    ]


def calibrate(maker: ExampleMaker, name: str, way: Way[Features]) -> dict[str, Any]:
    """Return the record of one language."""
    examples = {mode: list(maker.make(mode)) for mode in get_args(Mode)}
    weights = fit_span_weights([example for mode in examples.values() for example in mode if example.half == 0], way)
    weights = np.round(weights, 4)
    ranker = way.ranker([float(weight) for weight in weights])
    record: dict[str, Any] = {"name": name, "span": {"weights": dict(zip(way.span_features, weights.tolist(), strict=True))}}
    for mode, asked in examples.items():
        halves = [Measured([example for example in asked if example.half == half], ranker, way) for half in (0, 1)]
        record[mode] = fit_mode(halves[0], halves[1], way.support_features)
    return record


def retriever_records() -> dict[str, type[RetrieverConfig]]:
    """Return the configuration records of all retrievers by their kind."""
    records = get_args(RetrieverConfig) or (RetrieverConfig,)
    return {str(next(field.default for field in fields(record) if field.name == "kind")): record for record in records}


def retriever_record(kind: str, num_workers: int) -> RetrieverConfig:
    """Return a retriever's record, at its defaults but for how many listen at once."""
    record = retriever_records()[kind]()
    return replace(record, num_workers=num_workers) if isinstance(record, Cascade) else replace(record, num_threads=num_workers)


def measure(kind: str, ears: Ears, ways: Sequence[Way[Any]], data: Path, out: Path) -> None:
    """Write the calibrations of one kind of retriever with each way to answer."""
    lectures = make_lectures(data, ears.folder)
    search = IndexSearch(ears.retriever, build_fusion(retriever_records()[kind]()))
    maker = ExampleMaker(lectures, make_strangers(data, ears.folder), ears, search)
    for way in ways:
        name = ears.retriever.fingerprint + (f" {way.weights_name}" if way.weights_name else "")
        record = {
            "format": FORMAT,
            "retriever_kind": kind,
            "generator_kind": way.kind,
            "fingerprint": ears.retriever.fingerprint,
            "generator_weights": way.weights_name,
            "data": DATA,
            "max_false_strangers": MAX_FALSE_STRANGERS,
            "languages": {"en": calibrate(maker, name, way)},
        }
        path = out / f"support-{kind}-{way.kind}.json"
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        print(f"{path.name} written", flush=True)
    ears.retriever.close()


def main() -> None:
    """Read the arguments, make what is missing, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/ and noise/")
    parser.add_argument("--work", type=Path, default=Path("runs/calibration"), help="where lectures and what was heard are kept")
    parser.add_argument("--out", type=Path, required=True, help="folder of the calibrations")
    parser.add_argument("--retrievers", nargs="*", choices=sorted(retriever_records()), default=sorted(retriever_records()))
    parser.add_argument("--generators", nargs="*", choices=sorted(FEATURES), default=sorted(FEATURES))
    parser.add_argument("--same-ears", help="fingerprint of an earlier version of the one retriever measured: take the words it heard")
    parser.add_argument("--num-workers", type=int, default=1, help="recognising at once")
    arguments = parser.parse_args()
    makers: dict[str, Callable[[], Way[Any]]] = {
        "extractive": lambda: extractive_way(RememberingEncoder(ShippedEncoder())),
        "reader": lambda: reader_way(RememberingNet(shipped_reader())),
    }
    ways = [makers[kind]() for kind in arguments.generators]
    for kind in arguments.retrievers:
        retriever = build_retriever(retriever_record(kind, arguments.num_workers))
        ears = Ears(arguments.work, build_segmenter(SpeechPauses()), retriever, arguments.same_ears)
        measure(kind, ears, ways, arguments.data, arguments.out)


if __name__ == "__main__":
    main()
