"""Chooses the generator by the type of its configuration record."""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, assert_never

from generator.base import Generator
from generator.calibration import load_calibration
from generator.config import Extractive, GeneratorConfig
from generator.extractive import ExtractiveGenerator
from generator.ranking import Encoder, SpanRanker
from generator.wording import load_rarity

if TYPE_CHECKING:
    from retriever.sentence_encoder import SentenceEncoder, Vectors


def build_generator(config: GeneratorConfig, retriever_kind: str, language: str = "en", encoder: Encoder | None = None) -> Generator:
    """Return the generator that the record asks for.

    Args:
        config: its type chooses the class.
        retriever_kind: `kind` of the retriever's record; thresholds were measured for each kind.
        language: of lectures and questions.
        encoder: shared with the retriever where that has one; None means the shipped text encoder, loaded on first use.

    Raises:
        CalibrationMissing: nothing was measured for this retriever and language.
    """
    match config:
        case Extractive():
            calibration = load_calibration(retriever_kind, language)
            ranker = SpanRanker(encoder or ShippedEncoder(), load_rarity(), calibration.span_weights)
            return ExtractiveGenerator(config, calibration, ranker)
        case _:
            assert_never(config)


class ShippedEncoder:
    """The shipped text encoder, loaded on first use."""

    def __init__(self, num_threads: int = 1) -> None:
        self._num_threads = num_threads
        self._lock = Lock()
        self._encoder: SentenceEncoder | None = None

    def encode(self, texts: Sequence[str]) -> "Vectors":
        """Return (B, D) vectors of length 1. Raises ModelFilesMissing."""
        from retriever.sentence_encoder import SentenceEncoder  # noqa: PLC0415 - only who answers pays for it

        with self._lock:
            if self._encoder is None:
                self._encoder = SentenceEncoder(num_threads=self._num_threads)
        return self._encoder.encode(texts)
