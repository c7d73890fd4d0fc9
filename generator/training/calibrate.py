"""Measures when the lectures hold an answer: makes `weights/support-KIND.json`.

    python -m generator.training.calibrate --data FOLDER --work runs/calibration --out generator/weights/support-cascade.json

Fits on one half of the lectures and reports on the other. Resumable: lectures, questions and what was heard of them are kept in `--work`.
About 75 minutes of speech are recognised the first time.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

from generator.build import ShippedEncoder
from generator.calibration import FORMAT, SPAN_FEATURES, SUPPORT_FEATURES, Mode
from generator.citations import cite
from generator.config import Extractive
from generator.domain import Citation
from generator.extractive import choose_moments
from generator.ranking import Encoder, RankedSpan, SpanRanker, support_features
from generator.training.corpus import make_lectures, make_strangers
from generator.training.examples import Example, ExampleMaker, Kind, overlap
from generator.training.fitting import Array, Logistic, auroc, choose_threshold, fit_choice, fit_rising
from generator.training.hearing import Ears
from generator.wording import load_rarity
from retriever.base import Retriever
from retriever.build import build_fusion, build_retriever, build_segmenter
from retriever.config import Cascade, SpeechPauses
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
    "removed: the passage with the answer was taken out."
)
_FREE: Final = ("num_words",)  # support features that may speak for or against; more of any other is never less support
_MAX_ANSWER_S: Final = Extractive().max_answer_s


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


def fit_span_weights(examples: Sequence[Example], ranker: SpanRanker) -> Array:
    """Return weights under which the best span overlaps the true sentence most; of examples whose sentence was found."""
    features, gains = [], []
    for example in examples:
        if example.is_found:
            ranked = ranker.rank(example.question.wording, example.evidence, _MAX_ANSWER_S)
            gain = np.array([span_gain(example, span) for span in ranked])
            if gain.max(initial=0) > 0:
                gains.append(gain)
                features.append(np.array([[getattr(span.features, name) for name in SPAN_FEATURES] for span in ranked]))
    return fit_choice(features, gains)


def span_gain(example: Example, span: RankedSpan) -> float:
    """Return the shared time of a span and the true sentence over the time of both together."""
    evidence = example.evidence[span.place.rank]
    if example.truth is None or evidence.segment.lecture_id != example.lecture_id:
        return 0.0
    cited = cite(evidence, span.place.first, span.place.last).span
    shared = overlap(cited, example.truth)
    return shared / (cited.num_samples + example.truth.num_samples - shared)


class Measured:
    """Support features (N, F) and labels (N,) of examples, with the moments that would be cited."""

    def __init__(self, examples: Sequence[Example], ranker: SpanRanker) -> None:
        rows: list[list[float]] = []
        self.examples: list[Example] = []
        self.moments: list[tuple[Citation, ...]] = []
        for example in examples:
            ranked = ranker.rank(example.question.wording, example.evidence, _MAX_ANSWER_S)
            if ranked:  # without any words the answer is "not supported" by rule
                rows.append(list(asdict(support_features(example.question.wording, example.evidence, ranked, ranker.rarity)).values()))
                self.examples.append(example)
                self.moments.append(choose_moments(example.evidence, ranked, Extractive().max_citations))
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


def fit_mode(fitting: Measured, report: Measured) -> dict[str, Any]:
    """Return one mode's record: weights and threshold from one half of the lectures, quality on the other."""
    model = fit_rising(fitting.features, fitting.labels, fitting.importance(), np.array([name not in _FREE for name in SUPPORT_FEATURES]))
    probability = model.probability(fitting.features)
    threshold = choose_threshold(probability, fitting.labels, fitting.kinds == "stranger", MAX_FALSE_STRANGERS)
    return {
        "weights": {name: round(float(weight), 5) for name, weight in zip(SUPPORT_FEATURES, model.weights, strict=True)},
        "bias": round(model.bias, 5),
        "threshold": round(threshold, 3),
        "quality_fitted": fitting.quality(model, threshold),
        "quality": report.quality(model, threshold),
    }


def calibrate(maker: ExampleMaker, name: str) -> dict[str, Any]:
    """Return the record of one language."""
    examples = {mode: list(maker.make(mode)) for mode in get_args(Mode)}
    encoder, rarity = RememberingEncoder(ShippedEncoder()), load_rarity()
    plain = SpanRanker(encoder, rarity, [1.0] + [0.0] * (len(SPAN_FEATURES) - 1))
    weights = fit_span_weights([example for mode in examples.values() for example in mode if example.half == 0], plain)
    weights = np.round(weights, 4)
    ranker = SpanRanker(encoder, rarity, [float(weight) for weight in weights])
    record: dict[str, Any] = {"name": name, "span": {"weights": dict(zip(SPAN_FEATURES, weights.tolist(), strict=True))}}
    for mode, asked in examples.items():
        halves = [Measured([example for example in asked if example.half == half], ranker) for half in (0, 1)]
        record[mode] = fit_mode(halves[0], halves[1])
    return record


def main() -> None:
    """Read the arguments, make what is missing, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds qa/ and noise/")
    parser.add_argument("--work", type=Path, default=Path("runs/calibration"), help="where lectures and what was heard are kept")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--num-workers", type=int, default=1, help="recognising processes")
    arguments = parser.parse_args()
    config = Cascade(num_workers=arguments.num_workers)
    ears = Ears(arguments.work, build_segmenter(SpeechPauses()), build_retriever(config))
    lectures = make_lectures(arguments.data, arguments.work)
    maker = ExampleMaker(lectures, make_strangers(arguments.data, arguments.work), ears, IndexSearch(ears.retriever, build_fusion(config)))
    record = {
        "format": FORMAT,
        "retriever_kind": config.kind,
        "fingerprint": ears.retriever.fingerprint,
        "data": DATA,
        "max_false_strangers": MAX_FALSE_STRANGERS,
        "languages": {"en": calibrate(maker, ears.retriever.fingerprint)},
    }
    ears.retriever.close()
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
