"""The direct dual encoder run as a retriever, from the checkpoint that its training leaves: for evaluation only, as it needs torch.

It hears no words, so only vectors are compared: speech by the network, questions in writing by the shipped text encoder, whose space the
network was trained into.
"""

import json
from collections.abc import Generator, Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from retriever.checkpoint import load_weights
from retriever.domain import Audio, EmbeddedSegment, EncodedQuestion, SegmentAudio, Vector
from retriever.errors import ModelFilesMissing
from retriever.features import FRAME_SAMPLES
from retriever.nets.dual_encoder import DualEncoder, DualEncoderConfig
from retriever.nets.recogniser import read_config
from retriever.training.dual_encoder import KIND
from retriever.training.export_recogniser import STATE, weights_of
from retriever.training.trained_retriever import TrainedRetriever
from retriever.training.utterances import features_of


class DualRetriever(TrainedRetriever):
    """The trained dual encoder; it hears vectors and no words."""

    kind = "direct"

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with its vector and no words, in the order given, one after the other as they are asked for."""
        for one in segments:
            yield EmbeddedSegment(one.segment, self._vector(one.audio), (), self.fingerprint)

    def _encode_spoken(self, audio: Audio) -> EncodedQuestion:
        return EncodedQuestion(self._vector(audio), "", "")

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
    load_weights(net, weights_of(folder))
    return net.eval()
