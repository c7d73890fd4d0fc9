"""Sentences to vectors with the shipped MiniLM: the run-time side of `retriever.nets.text_encoder`, without torch.

Shapes: B texts, N tokens, D dimensions.
"""

import threading
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from retriever.runtime import WEIGHTS, Session, ShippedModel

MINILM: Final = WEIGHTS / "minilm-l6-en"
NUM_SPECIAL_TOKENS: Final = 2  # [CLS] before and [SEP] behind each window

_LOADING: Final = threading.Lock()

Vectors = npt.NDArray[np.float32]  # (B, D), rows of length 1


class SentenceEncoder:
    """Texts in, vectors of length 1 out; may be shared by threads."""

    def __init__(self, folder: Path = MINILM) -> None:
        """Load the network.

        Raises:
            ModelFilesMissing: shipped files are absent or altered.
        """
        model = ShippedModel.read(folder)
        self.dimension = model.integer("dimension")
        self.max_tokens = model.integer("max_tokens")
        self._tokenizer = Tokenizer.from_file(str(model.verified("tokenizer.json")))
        self._session = Session(model)
        self._first, self._last = self._tokenizer.encode("").ids  # [CLS], [SEP]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one vector for each text: float32 (B, D), rows of length 1.

        A text of more than `max_tokens` is read in windows of that length; its vector is their mean, weighted by their tokens and
        scaled to length 1. A text without tokens gets the vector of the empty sentence. A text's vector does not depend on its
        neighbours in `texts`.
        """
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for window in self._windows(text):
                vectors[row] += self._run(window) * len(window)
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def _windows(self, text: str) -> Iterator[list[int]]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        size = self.max_tokens - NUM_SPECIAL_TOKENS
        for start in range(0, max(len(ids), 1), size):
            yield [self._first, *ids[start : start + size], self._last]

    def _run(self, window: list[int]) -> npt.NDArray[np.float32]:
        """Return (D,) of one window.

        One at a time: int8 activations are scaled by the largest of a whole batch, so a batch would move each vector by what stands
        beside it (mean cosine 0.995), and on a CPU it is no faster.
        """
        token_ids = np.array([window], np.int64)  # (1, N)
        (vectors,) = self._session.run({"token_ids": token_ids, "token_mask": np.ones_like(token_ids, np.bool_)}, ["vectors"])
        vector: npt.NDArray[np.float32] = vectors[0]
        return vector


def shipped_encoder(folder: Path = MINILM) -> SentenceEncoder:
    """Return a shipped encoder: loaded by the first call, then shared by all in this process who search or answer.

    Raises:
        ModelFilesMissing: shipped files are absent or altered.
    """
    with _LOADING:
        return _load(folder)


@cache
def _load(folder: Path) -> SentenceEncoder:
    return SentenceEncoder(folder)
