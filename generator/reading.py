"""The trained reader at run time: scores the words of a passage as start and end of the answer, with ONNX Runtime and without torch.

`generator.nets.reader` is the same network in torch. W words of a passage.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from generator.token_table import TokenTable, read_token_table
from generator.windows import WordPieces, windows
from retriever.errors import ModelFilesMissing
from retriever.runtime import WAY_OUT, Session, ShippedModel
from retriever.sentence_encoder import MINILM

READER: Final = Path(__file__).parent / "weights" / "reader-en"
_LOADING: Final = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class WordScores:
    """What the network says of words `first` to `first + W` of a passage.

    Attributes:
        starts, ends: (W,) log-odds against "no answer in this window".
    """

    first: int
    starts: npt.NDArray[np.float32]
    ends: npt.NDArray[np.float32]


class ReadingNet:
    """Question and passage in, scores of words out; may be shared by threads."""

    def __init__(self, folder: Path = READER, text_encoder: Path = MINILM) -> None:
        """Load the network and the text encoder's token table.

        Args:
            folder: holds the reader's `config.json` and `model.onnx`.
            text_encoder: holds the shipped text encoder, whose tokeniser and token table are used.

        Raises:
            ModelFilesMissing: files are absent or altered, or the text encoder has not the token table that the reader was trained with.
        """
        model, shared = ShippedModel.read(folder), ShippedModel.read(text_encoder)
        self.max_tokens = model.integer("max_tokens")
        self.name = f"{model.settings.get('name', folder.name)}-{model.files.get('model.onnx', '')[:12]}"
        self._table: TokenTable = read_token_table(shared.verified("model.onnx"))
        wanted = model.settings.get("token_table_sha256")
        if self._table.digest != wanted:
            raise ModelFilesMissing(
                f"the text encoder in {text_encoder.name} has another token table ({self._table.digest[:12]}…) than the reader in "
                f"{folder.name} was made with ({str(wanted)[:12]}…); {WAY_OUT}"
            )
        self._pieces = WordPieces(Tokenizer.from_file(str(shared.verified("tokenizer.json"))))
        self._session = Session(model)

    def num_tokens(self, words: Sequence[str]) -> int:
        """Return how many tokens words have."""
        return self._pieces.count(words)

    def read(self, question: Sequence[str], passage: Sequence[str]) -> list[WordScores]:
        """Return the scores of each window; together the windows hold every word. Words are in spoken form.

        Windows run one at a time: int8 activations are scaled by the largest of a batch, so neighbours would change a window's scores.

        Raises:
            ValueError: the question leaves no room in a window.
        """
        scored = []
        for window in windows(self._pieces, question, passage, self.max_tokens):
            token_ids = np.array([window.token_ids], np.int64)
            (scores,) = self._session.run(
                {
                    "rows": self._table(token_ids),
                    "token_mask": np.ones_like(token_ids, np.bool_),
                    "token_types": np.array([window.token_types], np.int64),
                },
                ["scores"],
            )
            scored.append(WordScores(window.first_word, scores[0, list(window.starts), 0], scores[0, list(window.ends), 1]))
        return scored


def shipped_reader() -> ReadingNet:
    """Return the shipped network: loaded by the first call, then shared by all in this process.

    Raises:
        ModelFilesMissing: shipped files are absent or altered.
    """
    with _LOADING:
        return _load()


@cache
def _load() -> ReadingNet:
    return ReadingNet()
