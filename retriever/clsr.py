"""CLSR at run time: one speech encoder for segments and spoken questions, its words into the text encoder.

Hu et al. 2025, "CLSR" (arXiv 2511.09282): speech encoder, token distribution, adaptor, text encoder. In the forward direction the adaptor
passes on exactly the embeddings of the chosen tokens, so what runs here is recogniser and text encoder one after the other; the joint
training of both is in `retriever.nets.clsr`. The token distribution is the beam search's over words, `retriever.hearing`.
"""

import os
import re
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from retriever.acoustic import LogProbs
from retriever.config import Clsr
from retriever.domain import MAX_QUESTION_S, Audio, EmbeddedSegment, EncodedQuestion, Question, Segment, SegmentAudio, Vector, to_samples
from retriever.errors import InvalidQuestion
from retriever.hearing import Ear, ear_name
from retriever.lexicon_search import Hypothesis
from retriever.runtime import WEIGHTS, ShippedModel
from retriever.sentence_encoder import SentenceEncoder, shipped_encoder
from retriever.spoken_numbers import spell_numbers

CLSR_SMALL: Final = WEIGHTS / "clsr-small-en"
GROUP_SAMPLES: Final = to_samples(240)  # searched together: each step of the search costs a group little more than one segment

SEGMENTS_AHEAD: Final = 8  # the network's, of the search

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """A segment after the network; its sound is not needed any more."""

    segment: Segment
    num_samples: int
    log_probs: LogProbs


class ClsrRetriever:
    """Our recogniser, then MiniLM. Models are loaded on first use; may be shared by threads."""

    def __init__(self, config: Clsr, folder: Path = CLSR_SMALL) -> None:
        """Read which models are shipped, without loading them.

        Raises:
            ModelFilesMissing: shipped files are absent.
        """
        self._config = config
        self._model = ShippedModel.read(folder)
        self._text_folder = WEIGHTS / self._model.text("text_encoder")
        self._text_model = ShippedModel.read(self._text_folder)
        self._loading = threading.Lock()
        self._ear: Ear | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Names the models and everything that shapes vectors and words; fit for a folder's name."""
        shaping = (ear_name(self._model), str(self._text_model.integer("max_tokens")), str(self._config.num_hypotheses))
        parts = (*shaping, str(self._config.hypothesis_scale), *sorted(self._text_model.files.values()))
        return f"clsr-{sha256(' '.join(parts).encode()).hexdigest()[:16]}"

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return self._text_model.integer("dimension")

    @property
    def language(self) -> str:
        """The language that the recogniser knows, as ISO 639-1."""
        return self._model.text("language")

    def embed(self, segments: Iterable[SegmentAudio]) -> Generator[EmbeddedSegment, None, None]:
        """Yield each segment with its vector and words, in the order given; one without words gets the empty sentence's vector.

        Reads a few minutes of sound ahead of what was yielded. Closing the generator stops after what is in hand.
        """
        num_threads = self._config.num_threads or os.cpu_count() or 1
        with (
            closing(in_order(segments, self._listen, num_threads, SEGMENTS_AHEAD)) as heard,
            closing(in_order(_groups(heard), self._embed_together, num_threads)) as groups,
        ):
            for group in groups:
                yield from group

    def encode(self, question: Question) -> EncodedQuestion:
        """Return the question's vector and wording; typed words win over sound, what was heard before is not recognised again.

        Where nothing was understood the wording is empty, the vector that of the empty sentence, and nothing matches well.

        Raises:
            InvalidQuestion: the sound is longer than a minute.
        """
        if question.heard is None and not question.text and question.audio is not None:
            hypotheses = self._understand(question.audio)
            return EncodedQuestion(self._vector(hypotheses), hypotheses[0].text, hypotheses[0].text)
        wording = question.text or question.heard or ""
        return EncodedQuestion(self._texts.encode([as_said(wording)])[0], wording, question.heard)

    def close(self) -> None:
        """Let go of the recogniser; it is loaded again when it is needed."""
        with self._loading:
            self._ear = None

    @property
    def _texts(self) -> SentenceEncoder:
        return shipped_encoder(self._text_folder)

    def _listener(self) -> Ear:
        with self._loading:
            if self._ear is None:
                self._ear = Ear(self._model)
            return self._ear

    def _understand(self, audio: Audio) -> tuple[Hypothesis, ...]:
        if audio.duration_s > MAX_QUESTION_S:
            raise InvalidQuestion(
                f"a spoken question lasts at most {MAX_QUESTION_S:.0f} s, got {audio.duration_s:.0f} s; ask in fewer words"
            )
        return self._listener().hear([audio], self._config.num_hypotheses)[0]

    def _listen(self, one: SegmentAudio) -> _Heard:
        return _Heard(one.segment, one.audio.num_samples, self._listener().listen(one.audio))

    def _embed_together(self, group: Sequence[_Heard]) -> list[EmbeddedSegment]:
        ear = self._listener()
        understood = ear.understand([one.log_probs for one in group], self._config.num_hypotheses)
        return [
            EmbeddedSegment(
                one.segment,
                self._vector(hypotheses),
                ear.words(hypotheses[0].words, one.num_samples, one.segment.start),
                self.fingerprint,
            )
            for one, hypotheses in zip(group, understood, strict=True)
        ]

    def _vector(self, hypotheses: tuple[Hypothesis, ...]) -> Vector:
        """Return the mean of the hypotheses' vectors by their probabilities, of length 1; with one hypothesis, its vector."""
        vectors = self._texts.encode([one.text for one in hypotheses])  # (H, D)
        scores = np.array([one.score for one in hypotheses]) * self._config.hypothesis_scale
        shares = np.exp(scores - scores.max())
        mean = (shares[:, None] * vectors).sum(axis=0)
        vector: Vector = (mean / np.linalg.norm(mean)).astype(np.float32)
        return vector


def as_said(text: str) -> str:
    """Return a text as the recogniser would write it, which the text encoder knows best; one that has no such form stays as it is.

    >>> as_said("Who won the 2nd café race?")
    'who won the second cafe race'
    """
    folded = unicodedata.normalize("NFKD", text.replace("’", "'")).lower()
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return " ".join(re.findall(r"[a-z]+(?:'[a-z]+)*", spell_numbers(plain))) or text


def in_order(tasks: Iterable[Task], work: Callable[[Task], Result], num_threads: int, look_ahead: int = 1) -> Generator[Result, None, None]:
    """Yield the result of each task in the order given, worked on by several threads.

    Args:
        tasks: read one by one, at most `num_threads` + `look_ahead` of them in hand at a time.
        work: called in a thread.
        num_threads: at work at once.
        look_ahead: tasks ready beyond those, so that no thread waits for the reader.
    """
    threads = ThreadPoolExecutor(num_threads, thread_name_prefix="listening")
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            pending.append(threads.submit(work, task))
            while pending and (len(pending) >= num_threads + look_ahead or pending[0].done()):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def _groups(heard: Iterable[_Heard]) -> Iterator[list[_Heard]]:
    group: list[_Heard] = []
    num_samples = 0
    for one in heard:
        if group and num_samples + one.num_samples > GROUP_SAMPLES:
            yield group
            group, num_samples = [], 0
        group.append(one)
        num_samples += one.num_samples
    if group:
        yield group
