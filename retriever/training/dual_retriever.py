"""The direct dual encoder run as a retriever, from the checkpoint that its training leaves: for evaluation only, as it needs torch.

It hears no words, so only vectors are compared: speech by the network, questions in writing by the shipped text encoder, whose space the
network was trained into.
"""

import json
from collections.abc import Generator, Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from retriever.checkpoint import load_weights
from retriever.clsr import as_said
from retriever.domain import MAX_QUESTION_S, Audio, EmbeddedSegment, EncodedQuestion, Question, SegmentAudio, Vector
from retriever.errors import InvalidQuestion, ModelFilesMissing
from retriever.features import FRAME_SAMPLES
from retriever.nets.dual_encoder import DualEncoder, DualEncoderConfig
from retriever.nets.recogniser import read_config
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM, shipped_encoder
from retriever.training.dual_encoder import KIND
from retriever.training.export_recogniser import STATE, WEIGHTS
from retriever.training.utterances import features_of


class DualRetriever:
    """The trained dual encoder and, for questions in writing, the shipped MiniLM; the network is loaded on first use."""

    def __init__(self, folder: Path) -> None:
        """Remember where the checkpoint is.

        Raises:
            ModelFilesMissing: the folder holds no weights.
        """
        self._folder = folder
        self._weights = _weights_of(folder)
        self._text_model = ShippedModel.read(MINILM)

    @cached_property
    def fingerprint(self) -> str:
        """Names the weights of the network and those of the text encoder."""
        parts = (sha256(self._weights.read_bytes()).hexdigest(), *sorted(self._text_model.files.values()))
        return f"direct-{sha256(' '.join(parts).encode()).hexdigest()[:16]}"

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self._text_model.integer("dimension")

    @property
    def language(self) -> str:
        """The language that was trained on, as ISO 639-1."""
        return "en"

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with its vector and no words, in the order given, one after the other as they are asked for."""
        for one in segments:
            yield EmbeddedSegment(one.segment, self._vector(one.audio), (), self.fingerprint)

    def encode(self, question: Question) -> EncodedQuestion:
        """Return the question's vector; one that is spoken goes through the network and has no wording.

        Raises:
            InvalidQuestion: the sound is longer than a minute.
        """
        if question.heard is None and not question.text and question.audio is not None:
            if question.audio.duration_s > MAX_QUESTION_S:
                raise InvalidQuestion(
                    f"a spoken question lasts at most {MAX_QUESTION_S:.0f} s, got {question.audio.duration_s:.0f} s; ask in fewer words"
                )
            return EncodedQuestion(self._vector(question.audio), "", "")
        wording = question.text or question.heard or ""
        return EncodedQuestion(shipped_encoder(MINILM).encode([as_said(wording)])[0], wording, question.heard)

    def close(self) -> None:
        """Let go of the network; it is loaded again when it is needed."""
        self.__dict__.pop("_net", None)

    @cached_property
    def _net(self) -> DualEncoder:
        return load_dual_encoder(self._folder)

    @torch.no_grad()
    def _vector(self, audio: Audio) -> Vector:
        samples = np.pad(audio.samples, (0, max(0, FRAME_SAMPLES - len(audio.samples))))
        vector: Vector = self._net(*features_of([samples], np.ones(1)))[0].numpy()
        return vector


def load_dual_encoder(folder: Path) -> DualEncoder:
    """Return the trained network, its averaged weights, in evaluation mode.

    Raises:
        ModelFilesMissing: the folder is no such checkpoint.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["kind"] != KIND:
            raise ValueError(f"it is of kind {state['kind']!r}")  # noqa: TRY301 - told with what else may be wrong with the file
        record = dict(state["config"])
        net = DualEncoder(DualEncoderConfig(read_config(record.pop("recogniser")), **record))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFilesMissing(f"{folder} is no checkpoint of a dual encoder ({error!r}); give one that its training left") from error
    load_weights(net, _weights_of(folder))
    return net.eval()


def _weights_of(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ModelFilesMissing(f"{folder} holds neither of {', '.join(WEIGHTS)}; name a folder that this network's training left")
