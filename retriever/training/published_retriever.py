"""CLSR's published form run as a retriever, from the checkpoint that its training leaves: for evaluation only, as it needs torch.

Hears segments and questions as WordPieces; the shipped text encoder reads the words they make, so that vectors compare with those of every
other retriever. What the network's own tokens would give differs only where it spells a word in other pieces than the tokeniser.
"""

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from retriever.domain import Audio, EmbeddedSegment, EncodedQuestion, SegmentAudio, Word, join_words
from retriever.errors import ModelFilesMissing
from retriever.features import FRAME_SAMPLES
from retriever.nets.cif import CifConfig
from retriever.nets.clsr import CifWordPieces, ClsrConfig, WordPieceClsr
from retriever.nets.frontend import FrontendConfig
from retriever.nets.paraformer import ParaformerConfig
from retriever.nets.sampler import SamplerConfig
from retriever.nets.sanm import BlockConfig
from retriever.nets.text_encoder import TextEncoderConfig
from retriever.nets.vq import VqConfig
from retriever.training.export_recogniser import STATE, weights_of
from retriever.training.trained_retriever import TrainedRetriever
from retriever.training.utterances import features_of

HEARS_ONLY: Final = "text_encoder."  # names of tensors that a checkpoint of the speech side leaves out
AUXILIARY: Final = "ctc."  # of what only training uses
UNKNOWN: Final = "[UNK]"  # says that something was said, not what
APOSTROPHE: Final = "'"
AFTER_APOSTROPHE: Final = frozenset({"s", "t", "ll", "re", "ve", "d", "m", "clock"})  # belong to the word before


@dataclass(frozen=True, slots=True)
class Piece:
    """A WordPiece that was heard: its text, where it ends in samples, and how sure the network was."""

    text: str
    end: int
    confidence: float


class PublishedRetriever(TrainedRetriever):
    """The trained published form, whose words the shipped MiniLM reads."""

    kind = "published"

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with its vector and words, in the order given, one after the other as they are asked for."""
        for one in segments:
            words = self._hear(one.audio, one.segment.start)
            vector = self._texts.encode([join_words(words)])[0]
            yield EmbeddedSegment(one.segment, vector, words, self.fingerprint)

    def _encode_spoken(self, audio: Audio) -> EncodedQuestion:
        heard = join_words(self._hear(audio, 0))
        return EncodedQuestion(self._texts.encode([heard])[0], heard, heard)

    @cached_property
    def _net(self) -> WordPieceClsr:
        return load_published(self._folder)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self._text_model.verified("tokenizer.json")))

    def _hear(self, audio: Audio, offset: int) -> tuple[Word, ...]:
        pieces = hear(self._net, self._tokenizer, audio.samples)
        return tuple(replace(word, start=offset + word.start, end=offset + word.end) for word in words_of(pieces))


@torch.no_grad()
def hear(net: WordPieceClsr, tokenizer: Tokenizer, samples: np.ndarray[Any, np.dtype[np.float32]]) -> list[Piece]:
    """Return the WordPieces of a sound, in order of time."""
    if len(samples) < FRAME_SAMPLES:
        return []
    features, mask = features_of([samples], np.ones(1))
    states, frame_mask = net.listen(features, mask)
    fired = net.predictor(states, frame_mask)
    if int(fired.num_tokens[0]) == 0:
        return []
    written = net.write(states, frame_mask)
    sure, rows = written.logits[0].softmax(dim=-1).max(dim=-1)
    texts = [tokenizer.id_to_token(number) or "" for number in net.words[rows].tolist()]
    ends = [min((frame + 1) * FRAME_SAMPLES, len(samples)) for frame in fired.fire_frames[0].tolist()]
    return [Piece(*piece) for piece in zip(texts, ends, sure.tolist(), strict=True)]


def words_of(pieces: Sequence[Piece]) -> list[Word]:
    """Return the words that pieces make; each begins where the one before ended and is as sure as its least sure piece.

    The tokeniser sets an apostrophe apart: "don't" is heard as don, ', t and made one again; one that nothing known follows is dropped.
    """
    words: list[Word] = []
    apostrophe = False  # the last piece was one
    end = 0
    for piece in pieces:
        joined = apostrophe and piece.text in AFTER_APOSTROPHE
        if piece.text == UNKNOWN:
            apostrophe = False
        elif piece.text == APOSTROPHE:
            apostrophe = bool(words)
        elif words and (joined or piece.text.startswith("##")):
            last = words[-1]
            text = last.text + (APOSTROPHE if joined else "") + piece.text.removeprefix("##")
            words[-1] = Word(text, last.start, piece.end, min(last.confidence, piece.confidence))
            apostrophe = False
        else:
            words.append(Word(piece.text.removeprefix("##"), min(end, piece.end - 1), piece.end, piece.confidence))
            apostrophe = False
        end = piece.end
    return words


def read_config(record: Mapping[str, Any]) -> ClsrConfig:
    """Return the configuration of the published form that `dataclasses.asdict` wrote.

    Raises:
        KeyError, TypeError: the record is of something else.
    """
    source = dict(record["source"])
    speech = dict(source.pop("speech"))
    block = BlockConfig(**speech.pop("block"))
    pieces = CifWordPieces(
        ParaformerConfig(**speech, block=block),
        FrontendConfig(**source.pop("frontend")),
        CifConfig(**source.pop("cif")),
        SamplerConfig(**source.pop("sampler")),
        VqConfig(**source.pop("vq")),
        **source,
    )
    return ClsrConfig(pieces, TextEncoderConfig(**record["text"]), record["pooling"])


def load_published(folder: Path) -> WordPieceClsr:
    """Return the trained speech side in evaluation mode; the text encoder's weights are not in the checkpoint and mean nothing.

    Raises:
        ModelFilesMissing: the folder is no such checkpoint.
    """
    try:
        config = read_config(json.loads((folder / STATE).read_text(encoding="utf-8"))["config"])
        tensors = load_file(weights_of(folder))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelFilesMissing(f"{folder} is no checkpoint of the published form ({error!r}); give one that its training left") from error
    assert isinstance(config.source, CifWordPieces)  # noqa: S101 - read_config makes nothing else
    net = WordPieceClsr(config, config.source)
    heard = {name: tensor for name, tensor in tensors.items() if not name.startswith(AUXILIARY)}
    wanted = {name: tensor.shape for name, tensor in net.state_dict().items() if not name.startswith(HEARS_ONLY)}
    if wanted != {name: tensor.shape for name, tensor in heard.items()}:
        raise ModelFilesMissing(f"the weights in {folder} are not of the size that its {STATE} gives; copy the whole folder again")
    net.load_state_dict(heard, strict=False)
    return net.eval()
