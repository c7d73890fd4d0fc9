"""Configuration records of retrieval; the type of a record chooses the implementation.

Every field that was chosen by measurement says where the measurement is written down.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """What a file may ask of us while it is decoded; checked on what is decoded, not on what the header claims.

    Attributes:
        max_file_bytes: of the original.
        max_duration_s: of decoded sound.
        min_sample_rate_hz, max_sample_rate_hz: of the stream as declared and as decoded.
        max_channels: of the stream.
        stall_timeout_s: the decoder must deliver something within this time.
        max_decoder_bytes: address space of the decoding process.
    """

    max_file_bytes: int = 8 * 2**30
    max_duration_s: float = 12 * 3600.0
    min_sample_rate_hz: int = 4_000
    max_sample_rate_hz: int = 384_000
    max_channels: int = 64
    stall_timeout_s: float = 30.0
    max_decoder_bytes: int = 2 * 2**30


@dataclass(frozen=True, slots=True)
class SpeechPauses:
    """Cut at pauses of speech (silero's voice activity model), packed to 15 to 30 s."""

    kind: Literal["pauses"] = "pauses"
    threshold: float = 0.5  # speech probability; silero's default
    min_pause_ms: int = 100  # silero's default: shorter gaps lie inside words
    pad_ms: int = 150  # kept on both sides of speech, so that no word is cut
    min_segment_s: float = 5.0
    target_segment_s: float = 15.0
    max_segment_s: float = 30.0


@dataclass(frozen=True, slots=True)
class FixedWindows:
    """Cut every `window_s`, whatever is said: the control that pauses have to beat."""

    kind: Literal["windows"] = "windows"
    window_s: float = 30.0


SegmentationConfig: TypeAlias = SpeechPauses | FixedWindows


@dataclass(frozen=True, slots=True)
class Cascade:
    """Recognise with pocketsphinx, then match text: MiniLM vectors, words and letters, fused.

    Attributes:
        num_workers: recognising processes; 0 means one for each core.
        lexical_weight: of the words' BM25, in units of the rarest word's weight, beside the cosine.
        gram_weight: of the letters' BM25, likewise.
        num_candidates: best of each side that are fused.
    """

    kind: Literal["cascade"] = "cascade"
    num_workers: int = 0
    lexical_weight: float = 0.07  # both flat around, on misheard development passages; EXPERIMENTS.md
    gram_weight: float = 0.035
    num_candidates: int = 100


@dataclass(frozen=True, slots=True)
class Clsr:
    """Hear with our own recogniser, trained with the text encoder behind it, then match: vectors and words, fused.

    Attributes:
        num_threads: listening at once; 0 means one for each core.
        num_hypotheses: of what may have been said whose vectors are averaged by their probabilities; 1 takes the best alone.
        hypothesis_scale: of the hypotheses' scores when they become probabilities; below 1, as frames are not independent.
        lexical_weight: of the words' BM25, in units of the rarest word's weight, beside the cosine.
        gram_weight: of the letters' BM25, likewise.
        num_candidates: best of each side that are fused.
    """

    kind: Literal["clsr"] = "clsr"
    num_threads: int = 0
    num_hypotheses: int = 1
    hypothesis_scale: float = 0.3
    lexical_weight: float = 0.07
    gram_weight: float = 0.035
    num_candidates: int = 100


RetrieverConfig: TypeAlias = Cascade | Clsr


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How vectors are searched.

    Attributes:
        device: "cuda" needs faiss-gpu (extra `gpu`).
    """

    device: Literal["cpu", "cuda"] = "cpu"
