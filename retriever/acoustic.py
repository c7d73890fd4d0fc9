"""Sounds to probabilities of phones with the shipped recogniser: the run-time side of `retriever.nets.recogniser`, without torch.

Shapes: N samples, U frames of 60 ms, O outputs of a frame, P phones and blank (blank = 0).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from retriever.domain import Samples
from retriever.features import FRAME_SAMPLES, filter_banks, stacked
from retriever.runtime import Session, ShippedModel

NETWORK: Final = "acoustic.onnx"
INPUTS: Final = ("frames", "frame_mask")
OUTPUTS: Final = ("log_probs",)

LogProbs = npt.NDArray[np.float32]  # (O x U, P)


class AcousticModel:
    """Sound in, log-probabilities of phones out; may be shared by threads, each of which computes on its own."""

    def __init__(self, model: ShippedModel) -> None:
        """Load the network.

        Raises:
            ModelFilesMissing: its file is absent or altered.
        """
        self._session = Session(model, NETWORK)
        self.num_classes = len(model.text("phones").split()) + 1
        self.outputs_per_frame = model.integer("outputs_per_frame")

    @property
    def output_samples(self) -> int:
        """The length of one output in samples at 16 kHz."""
        return FRAME_SAMPLES // self.outputs_per_frame

    def log_probs(self, samples: Samples) -> LogProbs:
        """Return (O x U, P) of samples (N,) in [-1, 1], U = ceil(T / 6) of T frames of 10 ms; a sound too short for one gives none.

        One sound at a time: int8 activations are scaled by the largest of what is given at once, so in a batch a neighbour would change
        what is heard; and a sound of seconds fills a core's registers as well as a batch does, EXPERIMENTS.md.
        """
        frames = stacked(filter_banks(samples))[None]  # (1, U, F)
        if frames.shape[1] == 0:
            return np.empty((0, self.num_classes), np.float32)
        (log_probs,) = self._session.run(dict(zip(INPUTS, (frames, np.ones(frames.shape[:2], np.bool_)), strict=True)), OUTPUTS)
        result: LogProbs = log_probs[0]
        return result
