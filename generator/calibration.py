"""Decides from measured thresholds whether the evidence holds an answer.

A calibration is a logistic regression on raw features, fitted on development questions with and without an answer, for one kind of
retriever, one language and one mode (typed or spoken). It never sees scores that were scaled within a search: every search has a best hit,
also a search for something the lectures never mention.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from generator.errors import CalibrationMissing

FORMAT: Final = 2
WEIGHTS_FOLDER: Final = Path(__file__).parent / "weights"

Mode: TypeAlias = Literal["typed", "spoken"]


@dataclass(frozen=True, slots=True)
class SupportFeatures:
    """What the decision rests on.

    Attributes:
        cosine: highest of question and segment.
        coverage: highest share, by rarity, of the question's content words in one segment.
        margin: highest cosine less that of the median segment searched.
        lexical: highest BM25 score, unscaled, for each content word of the question.
        span_cosine: of the question and the best span.
        span_coverage: as `coverage`, in the best span.
        rarest: the share of the question's two rarest words in the best span.
        num_words: content words of the question.
    """

    cosine: float
    coverage: float
    margin: float
    lexical: float
    span_cosine: float
    span_coverage: float
    rarest: float
    num_words: float


@dataclass(frozen=True, slots=True)
class SpanFeatures:
    """What the choice of a span rests on.

    Attributes:
        cosine: of the question and the span.
        coverage: the share, by rarity, of the question's content words in the span.
        hit_cosine, hit_coverage: of the segment it lies in.
        rank: of that segment's hit, from 0.
        has_number: 1 if the question asks for a number or a date and the span holds one.
        length: the logarithm of its number of words.
    """

    cosine: float
    coverage: float
    hit_cosine: float
    hit_coverage: float
    rank: float
    has_number: float
    length: float


@dataclass(frozen=True, slots=True)
class ReaderSpanFeatures:
    """What the choice among the spans that the trained reader marks rests on.

    Attributes:
        score: log-odds of the span against "no answer" in its window.
        total: the log of the summed odds of all spans of the segment.
        hit_cosine, hit_coverage: of the segment it lies in.
        rank: of that segment's hit, from 0.
    """

    score: float
    total: float
    hit_cosine: float
    hit_coverage: float
    rank: float


@dataclass(frozen=True, slots=True)
class ReaderSupportFeatures:
    """What the decision rests on when the trained reader answers.

    Attributes:
        score, total: of the best span, see `ReaderSpanFeatures`.
        hit_cosine, hit_coverage: of the segment it lies in.
        cosine, coverage, margin, lexical, num_words: see `SupportFeatures`.
    """

    score: float
    total: float
    hit_cosine: float
    hit_coverage: float
    cosine: float
    coverage: float
    margin: float
    lexical: float
    num_words: float


SPAN_FEATURES: Final = tuple(field.name for field in fields(SpanFeatures))
SUPPORT_FEATURES: Final = tuple(field.name for field in fields(SupportFeatures))
READER_SPAN_FEATURES: Final = tuple(field.name for field in fields(ReaderSpanFeatures))
READER_SUPPORT_FEATURES: Final = tuple(field.name for field in fields(ReaderSupportFeatures))
FEATURES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "extractive": (SPAN_FEATURES, SUPPORT_FEATURES),
    "reader": (READER_SPAN_FEATURES, READER_SUPPORT_FEATURES),
}


@dataclass(frozen=True, slots=True)
class SupportModel:
    """The logistic regression of one mode.

    Attributes:
        weights: for each field of the support features, in their order.
        threshold: an answer is supported from this probability on.
    """

    weights: tuple[float, ...]
    bias: float
    threshold: float

    def probability(self, features: SupportFeatures | ReaderSupportFeatures) -> float:
        """Return the probability in (0, 1) that the evidence holds the answer."""
        names = [field.name for field in fields(features)]
        logit = self.bias + sum(weight * getattr(features, name) for name, weight in zip(names, self.weights, strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything measured for one kind of retriever, one kind of generator and one language.

    Attributes:
        span_weights: of the generator's span features, to choose the best span.
        name: tells calibrations apart in the settings of an answer: the retriever that it was measured with, and the reader's weights.
    """

    name: str
    span_weights: tuple[float, ...]
    typed: SupportModel
    spoken: SupportModel

    def model(self, mode: Mode) -> SupportModel:
        """Return the regression of a mode."""
        return self.typed if mode == "typed" else self.spoken


def load_calibration(retriever_kind: str, generator_kind: str, language: str, folder: Path = WEIGHTS_FOLDER) -> Calibration:
    """Read `support-RETRIEVER-GENERATOR.json`.

    Raises:
        CalibrationMissing: there is none for this retriever, generator or language, or the file was made for other features.
    """
    path = folder / f"support-{retriever_kind}-{generator_kind}.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CalibrationMissing(
            f"no measured thresholds for the retriever {retriever_kind!r} with the generator {generator_kind!r}: {path.name} is absent; "
            "make it with `python -m generator.training.calibrate`"
        ) from error
    except ValueError as error:
        raise CalibrationMissing(f"{path.name} is damaged ({error}); install the package again or calibrate anew") from error
    found = tuple(record.get(name) for name in ("format", "retriever_kind", "generator_kind"))
    if found != (FORMAT, retriever_kind, generator_kind):
        raise CalibrationMissing(
            f"{path.name} is of format, retriever and generator {found}, needed are {(FORMAT, retriever_kind, generator_kind)}; "
            "calibrate anew"
        )
    languages = record.get("languages", {})
    if language not in languages:
        raise CalibrationMissing(
            f"{path.name} holds {sorted(languages)}, not {language!r}; choose one of these, or calibrate for {language!r}"
        )
    return _read_language(languages[language], generator_kind, path.name)


def _read_language(record: Mapping[str, Any], generator_kind: str, file_name: str) -> Calibration:
    try:
        span_features, support_features = FEATURES[generator_kind]
        return Calibration(
            name=str(record["name"]),
            span_weights=_read_weights(record["span"]["weights"], span_features),
            typed=_read_model(record["typed"], support_features),
            spoken=_read_model(record["spoken"], support_features),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationMissing(
            f"{file_name} does not fit this version ({error!r}); install the package again or calibrate anew"
        ) from error


def _read_model(record: Mapping[str, Any], names: tuple[str, ...]) -> SupportModel:
    threshold = float(record["threshold"])
    if not 0 < threshold < 1:
        raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    return SupportModel(_read_weights(record["weights"], names), _finite(record["bias"]), threshold)


def _read_weights(record: Mapping[str, Any], names: tuple[str, ...]) -> tuple[float, ...]:
    if set(record) != set(names):
        raise ValueError(f"weights are for {sorted(record)}, needed are {sorted(names)}")
    return tuple(_finite(record[name]) for name in names)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"weights must be finite, got {number}")
    return number
