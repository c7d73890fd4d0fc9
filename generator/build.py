"""Chooses the generator by the type of its configuration record."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from generator.base import Generator
from generator.calibration import load_calibration
from generator.config import EMBEDDED, Extractive, GeneratorConfig, Reader, Served, ServedText
from generator.extractive import ExtractiveGenerator
from generator.ranking import SpanRanker
from generator.wording import load_rarity

if TYPE_CHECKING:
    from generator.reading import ReadingNet, WordScores
    from generator.served import ServedGenerator
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
        case Reader():
            return build_reader(config, retriever_kind, language)
        case Extractive():
            calibration = load_calibration(retriever_kind, config.kind, language)
            ranker = SpanRanker(ShippedEncoder(), load_rarity(), calibration.span_weights)
            return ExtractiveGenerator(config, calibration, ranker)
        case Served() | ServedText():
            return build_served(config, build_generator(EMBEDDED, retriever_kind, language))
        case _:
            assert_never(config)


def build_served(config: Served | ServedText, embedded: Generator) -> "ServedGenerator":
    """Return a generator that asks a model server; nothing is sent, and nothing of LangChain loaded, before the first question.

    Args:
        config: its type chooses between sound and words.
        embedded: gives the confidence, from what was measured with it.

    Raises:
        FamilyUnknown: the record names a family that is none.
    """
    from generator.model_server import ModelServer  # noqa: PLC0415 - only who is answered by a server pays for it
    from generator.served import ServedGenerator, SoundBriefing, WordsBriefing  # noqa: PLC0415

    server = ModelServer(config.base_url, config.api_key_env, config.timeout_s)
    briefing = SoundBriefing(config) if isinstance(config, Served) else WordsBriefing(config)
    return ServedGenerator(config, server, briefing, lambda question, evidence: embedded.answer(question, evidence).confidence)


def build_reader(config: Reader, retriever_kind: str, language: str) -> Generator:
    """Return the trained reader; its network is loaded by the first question."""
    from generator.reader import ReaderGenerator, ReaderRanker  # noqa: PLC0415 - only who reads pays for it

    calibration = load_calibration(retriever_kind, config.kind, language)
    return ReaderGenerator(config, calibration, ReaderRanker(ShippedReader(), calibration.span_weights))


class ShippedReader:
    """The shipped reading network, loaded on first use."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a window."""
        return self._net.max_tokens

    @property
    def name(self) -> str:
        """Names the weights."""
        return self._net.name

    def num_tokens(self, words: Sequence[str]) -> int:
        """Return how many tokens words have."""
        return self._net.num_tokens(words)

    def read(self, question: Sequence[str], passage: Sequence[str]) -> "list[WordScores]":
        """Return the scores of each window of a passage."""
        return self._net.read(question, passage)

    @property
    def _net(self) -> "ReadingNet":
        from generator.reading import shipped_reader  # noqa: PLC0415 - only who answers pays for it

        return shipped_reader()


class ShippedEncoder:
    """The shipped text encoder, loaded on first use and shared with a retriever that uses the same."""

    def encode(self, texts: Sequence[str]) -> "Vectors":
        """Return (B, D) vectors of length 1. Raises ModelFilesMissing."""
        from retriever.sentence_encoder import shipped_encoder  # noqa: PLC0415 - only who answers pays for it

        return shipped_encoder().encode(texts)
