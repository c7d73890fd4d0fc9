"""Chooses the generator by the type of its configuration record."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from generator.base import Generator
from generator.calibration import load_calibration
from generator.config import Extractive, GeneratorConfig
from generator.extractive import ExtractiveGenerator
from generator.ranking import SpanRanker
from generator.wording import load_rarity

if TYPE_CHECKING:
    from retriever.sentence_encoder import Vectors


def build_generator(config: GeneratorConfig, retriever_kind: str, language: str = "en") -> Generator:
    """Return the generator that the record asks for.

    Args:
        config: its type chooses the class.
        retriever_kind: `kind` of the retriever's record; thresholds were measured for each kind.
        language: of lectures and questions.

    Raises:
        CalibrationMissing: nothing was measured for this retriever and language.
    """
    match config:
        case Extractive():
            calibration = load_calibration(retriever_kind, language)
            ranker = SpanRanker(ShippedEncoder(), load_rarity(), calibration.span_weights)
            return ExtractiveGenerator(config, calibration, ranker)
        case _:
            assert_never(config)


class ShippedEncoder:
    """The shipped text encoder, loaded on first use and shared with a retriever that uses the same."""

    def encode(self, texts: Sequence[str]) -> "Vectors":
        """Return (B, D) vectors of length 1. Raises ModelFilesMissing."""
        from retriever.sentence_encoder import shipped_encoder  # noqa: PLC0415 - only who answers pays for it

        return shipped_encoder().encode(texts)
