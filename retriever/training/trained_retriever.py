"""What every retriever has in common that is run from the checkpoint that its training left: for evaluation only, as it needs torch.

Questions in writing are read by the shipped text encoder, so that vectors compare with those of every other retriever.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from retriever.clsr import as_said
from retriever.domain import MAX_QUESTION_S, Audio, EmbeddedSegment, EncodedQuestion, Question, SegmentAudio
from retriever.errors import InvalidQuestion
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM, SentenceEncoder, shipped_encoder
from retriever.training.export_recogniser import weights_of


class TrainedRetriever(ABC):
    """A checkpoint, and the shipped MiniLM beside it; the network is loaded on first use, into `_net`.

    Attributes:
        kind: begins the fingerprint.
    """

    kind: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        """Remember where the checkpoint is.

        Raises:
            ModelFilesMissing: the folder holds no weights.
        """
        self._folder = folder
        self._weights = weights_of(folder)
        self._text_model = ShippedModel.read(MINILM)

    @cached_property
    def fingerprint(self) -> str:
        """Names the weights of the network and those of the text encoder."""
        parts = (sha256(self._weights.read_bytes()).hexdigest(), *sorted(self._text_model.files.values()))
        return f"{self.kind}-{sha256(' '.join(parts).encode()).hexdigest()[:16]}"

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self._text_model.integer("dimension")

    @property
    def language(self) -> str:
        """The language that was trained on, as ISO 639-1."""
        return "en"

    @abstractmethod
    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with what the network makes of it, in the order given, one after the other as they are asked for."""

    @abstractmethod
    def _encode_spoken(self, audio: Audio) -> EncodedQuestion:
        """Return a spoken question as the network hears it."""

    def encode(self, question: Question) -> EncodedQuestion:
        """Return the question's vector and wording; typed words win over sound, what was heard before is not recognised again.

        Raises:
            InvalidQuestion: the sound is longer than a minute.
        """
        if question.heard is None and not question.text and question.audio is not None:
            if question.audio.duration_s > MAX_QUESTION_S:
                raise InvalidQuestion(
                    f"a spoken question lasts at most {MAX_QUESTION_S:.0f} s, got {question.audio.duration_s:.0f} s; ask in fewer words"
                )
            return self._encode_spoken(question.audio)
        wording = question.text or question.heard or ""
        return EncodedQuestion(self._texts.encode([as_said(wording)])[0], wording, question.heard)

    def close(self) -> None:
        """Let go of the network; it is loaded again when it is needed."""
        self.__dict__.pop("_net", None)

    @property
    def _texts(self) -> SentenceEncoder:
        return shipped_encoder(MINILM)
