"""The first retriever: recognise speech, then compare texts.

Words come from pocketsphinx, vectors from MiniLM over them; the index adds BM25 over the same words.
"""

import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from functools import cached_property
from hashlib import sha256

from retriever.config import Cascade
from retriever.domain import MAX_QUESTION_S, Audio, EmbeddedSegment, EncodedQuestion, Question, SegmentAudio, Vector, join_words
from retriever.errors import InvalidQuestion
from retriever.recognition import RecogniserProcess, listen_to_all, recogniser_name
from retriever.runtime import ShippedModel
from retriever.sentence_encoder import MINILM, shipped_encoder


class CascadeRetriever:
    """pocketsphinx, then MiniLM. Models are loaded on first use; may be shared by threads."""

    def __init__(self, config: Cascade) -> None:
        """Read which model is shipped, without loading it.

        Raises:
            ModelFilesMissing: shipped files are absent.
        """
        self._num_workers = config.num_workers
        self._model = ShippedModel.read(MINILM)
        self._asking = threading.Lock()
        self._ear: RecogniserProcess | None = None  # for questions; segments have processes of their own

    @cached_property
    def fingerprint(self) -> str:
        """Names the model and everything that shapes its vectors and words; fit for a folder's name."""
        parts = (recogniser_name(), str(self._model.integer("max_tokens")), *sorted(self._model.files.values()))
        return f"cascade-{sha256(' '.join(parts).encode()).hexdigest()[:16]}"

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self._model.integer("dimension")

    @property
    def language(self) -> str:
        """The language of pocketsphinx's model."""
        return "en"

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with its vector and words, in the order given; one without words gets the empty sentence's vector.

        Closing the generator ends the recognising processes.

        Raises:
            RecognitionFailed: a recognising process died twice on the same segment.
        """
        with closing(listen_to_all(segments, self._num_workers)) as listened:
            for one, words in listened:
                yield EmbeddedSegment(one.segment, self._vector(join_words(words)), words, self.fingerprint)

    def encode(self, question: Question) -> EncodedQuestion:
        """Return the question's vector and wording; typed words win over sound, what was heard before is not recognised again.

        Where nothing was understood the wording is empty, the vector that of the empty sentence, and nothing matches well.

        Raises:
            InvalidQuestion: the sound is longer than a minute.
            RecognitionFailed: the recognising process died twice.
        """
        heard = question.heard
        if heard is None and not question.text and question.audio is not None:
            heard = self._understand(question.audio)
        wording = question.text or heard or ""
        return EncodedQuestion(self._vector(wording), wording, heard)

    def close(self) -> None:
        """End the process that listens to questions; the retriever may be used again afterwards."""
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.close()

    def _understand(self, audio: Audio) -> str:
        if audio.duration_s > MAX_QUESTION_S:
            raise InvalidQuestion(
                f"a spoken question lasts at most {MAX_QUESTION_S:.0f} s, got {audio.duration_s:.0f} s; ask in fewer words"
            )
        with self._asking:
            if self._ear is None:
                self._ear = RecogniserProcess()
            return join_words(self._ear.words(audio))

    def _vector(self, text: str) -> Vector:
        vector: Vector = shipped_encoder().encode([text])[0]
        return vector
