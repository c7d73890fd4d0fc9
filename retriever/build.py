"""Configuration records to implementations; a forgotten case is a type error."""

from typing import assert_never

from retriever.base import Retriever, Segmenter
from retriever.config import Cascade, Clsr, FixedWindows, RetrieverConfig, SegmentationConfig, SpeechPauses
from retriever.fusion import Fusion


def build_segmenter(config: SegmentationConfig) -> Segmenter:
    """Return the segmenter that a record asks for; models are loaded on first use."""
    from retriever.segmentation import PauseSegmenter, WindowSegmenter  # noqa: PLC0415 - only who cuts pays for it

    match config:
        case SpeechPauses():
            return PauseSegmenter(config)
        case FixedWindows():
            return WindowSegmenter(config)
        case _:
            assert_never(config)


def build_retriever(config: RetrieverConfig) -> Retriever:
    """Return the retriever that a record asks for; models are loaded on first use.

    Raises:
        ModelFilesMissing: shipped files are absent.
    """
    from retriever.cascade import CascadeRetriever  # noqa: PLC0415 - only who retrieves pays for it
    from retriever.clsr import ClsrRetriever  # noqa: PLC0415

    match config:
        case Cascade():
            return CascadeRetriever(config)
        case Clsr():
            return ClsrRetriever(config)
        case _:
            assert_never(config)


def build_fusion(config: RetrieverConfig) -> Fusion:
    """Return how the index should fuse this retriever's vectors, words and letters."""
    return Fusion(config.lexical_weight, config.num_candidates, config.gram_weight)
