"""Makes contexts and questions searchable by one system, item by item and resumable, and measures what it costs.

All systems get the same segments: they are cut once, from the clean sound.
"""

import time
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np
import psutil

from app.evaluation.cache import LineCache, Row
from app.evaluation.domain import Context, SetQuestion, content_key
from app.evaluation.sounds import Noise, add_noise, read_sound
from app.evaluation.systems import Source, System
from retriever.base import Retriever, Segmenter
from retriever.domain import (
    Audio,
    EmbeddedSegment,
    EncodedQuestion,
    Question,
    Segment,
    SegmentAudio,
    Span,
    Vector,
    Word,
    join_words,
)

NOTHING = "nothing"  # stands for a segment in which no word was said


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of work took; CPU seconds count all processes."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


class Stopwatch:
    """Measures from its making, or from the last lap, on."""

    def __init__(self) -> None:
        self._start = self._now()

    def lap(self) -> Cost:
        """Return what was spent since the last lap."""
        now = self._now()
        before, self._start = self._start, now
        return Cost(now.wall_s - before.wall_s, max(0.0, now.cpu_s - before.cpu_s))

    @staticmethod
    def _now() -> Cost:
        process = psutil.Process()
        own = process.cpu_times()
        spent = own.user + own.system + own.children_user + own.children_system  # children: those that have ended
        for child in process.children(recursive=True):
            try:
                times = child.cpu_times()
                spent += times.user + times.system
            except psutil.Error:  # ended meanwhile
                continue
        return Cost(time.perf_counter(), spent)


def lecture_id(context: Context) -> UUID:
    """Return the id under which a context is searched."""
    return uuid5(NAMESPACE_OID, f"context {context.id}")


def run_id(context: Context, settings: str) -> UUID:
    """Return the id of the segmentation run of a context with these settings; a segment's number depends on it."""
    return uuid5(NAMESPACE_OID, f"segmentation {settings} of {context.id}")


def cut(contexts: Sequence[Context], segmenter: Segmenter, cache: LineCache) -> dict[str, tuple[Span, ...]]:
    """Return the spans of each context by its id; none where nobody is heard to speak."""
    for context in contexts:
        if content_key(context) not in cache:
            spans = segmenter.spans([read_sound(context.sounds).samples])
            cache.add({"id": content_key(context), "spans": [[span.start, span.end] for span in spans]})
    return {context.id: tuple(Span(start, end) for start, end in cache[content_key(context)]["spans"]) for context in contexts}


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A system at work.

    Attributes:
        retriever: of the system.
        segmentation: its settings, as one line.
        noise: added to contexts and questions.
    """

    system: System
    retriever: Retriever
    segmentation: str
    noise: Noise

    def contexts(
        self, contexts: Sequence[Context], spans: dict[str, tuple[Span, ...]], cache: LineCache
    ) -> Iterator[list[EmbeddedSegment]]:
        """Yield the segments of each context, made searchable; what the cache holds is not done again."""
        missing = [context for context in contexts if content_key(context) not in cache]
        if self.system.source is Source.SOUND:
            self._listen(missing, spans, cache)
        else:
            for context in missing:
                watch = Stopwatch()
                segments = [self._embedded(context, span, words) for span, words in self._written(context, spans.get(context.id, ()))]
                cache.add(_context_row(content_key(context), segments, watch.lap()))
        for context in contexts:
            yield [self._restored(context, row) for row in cache[content_key(context)]["segments"]]

    def questions(self, questions: Sequence[SetQuestion], spoken: bool, cache: LineCache) -> list[EncodedQuestion]:
        """Return the questions encoded, typed or spoken; what the cache holds is not done again."""
        for question in questions:
            if content_key(question) not in cache:
                asked = Question(audio=self._sound(question.sounds, f"question {question.id}")) if spoken else Question(text=question.text)
                watch = Stopwatch()
                encoded = self.retriever.encode(asked)
                cost = watch.lap()
                row = {"id": content_key(question), "vector": _packed(encoded.vector), "wording": encoded.wording, "heard": encoded.heard}
                cache.add(row | {"wall_s": cost.wall_s, "cpu_s": cost.cpu_s})
        rows = [cache[content_key(question)] for question in questions]
        return [EncodedQuestion(_unpacked(row["vector"]), row["wording"], row["heard"]) for row in rows]

    def text_encoder_cost(self, segments: Sequence[EmbeddedSegment], num_samples: int = 50) -> Cost:
        """Return what the text side of one segment costs on average, measured by encoding the words of some again, as typed questions."""
        texts = [text for one in segments if (text := join_words(one.words))]
        texts = texts[:: max(1, len(texts) // num_samples)][:num_samples]
        if not texts:
            return Cost()
        self.retriever.encode(Question(text=texts[0]))  # loads the model
        watch = Stopwatch()
        for text in texts:
            self.retriever.encode(Question(text=text))
        total = watch.lap()
        return Cost(total.wall_s / len(texts), total.cpu_s / len(texts))

    def _listen(self, contexts: Sequence[Context], spans: dict[str, tuple[Span, ...]], cache: LineCache) -> None:
        """Embed in one stream, so that processes start once; a context is kept when its last segment has come."""

        def sounds() -> Iterator[SegmentAudio]:
            for context in contexts:
                if spans[context.id]:
                    audio = self._sound(context.sounds, context.id)
                    for span in spans[context.id]:
                        yield SegmentAudio(self._segment(context, span), Audio(audio.samples[span.start : span.end]))

        watch = Stopwatch()
        embedded = self.retriever.embed(sounds())
        try:
            for context in contexts:
                segments = [next(embedded) for _ in spans[context.id]]
                cache.add(_context_row(content_key(context), segments, watch.lap()))
        finally:
            embedded.close()

    def _written(self, context: Context, spans: Sequence[Span]) -> Iterator[tuple[Span, tuple[Word, ...]]]:
        """Yield what is truly said in each segment; the whole text as one segment where the words have no times."""
        if self.system.source is Source.TEXT or not context.said:
            text = context.text or join_words(context.said)
            whole = Span(0, 1)
            yield whole, (Word(text, whole.start, whole.end),)
            return
        for span in spans:
            middle = [(word.start + word.end) // 2 for word in context.said]
            yield span, tuple(word for word, at in zip(context.said, middle, strict=True) if span.start <= at < span.end)

    def _embedded(self, context: Context, span: Span, words: tuple[Word, ...]) -> EmbeddedSegment:
        vector = self.retriever.encode(Question(text=join_words(words) or NOTHING)).vector
        return EmbeddedSegment(self._segment(context, span), vector, words, self.retriever.fingerprint)

    def _segment(self, context: Context, span: Span) -> Segment:
        return Segment(lecture_id(context), span.start, span.end, run_id(context, self.segmentation))

    def _restored(self, context: Context, row: Row) -> EmbeddedSegment:
        words = tuple(Word(*word) for word in row["words"])
        return EmbeddedSegment(
            self._segment(context, Span(row["start"], row["end"])), _unpacked(row["vector"]), words, self.retriever.fingerprint
        )

    def _sound(self, sounds: tuple[Path, ...], key: str) -> Audio:
        return add_noise(read_sound(sounds), self.noise, key)


def total_cost(contexts: Sequence[Context], cache: LineCache) -> Cost:
    """Return what making these contexts searchable took when it was done."""
    rows = [cache[content_key(context)] for context in contexts]
    return sum((Cost(row["wall_s"], row["cpu_s"]) for row in rows), Cost())


def _context_row(name: str, segments: Sequence[EmbeddedSegment], cost: Cost) -> Row:
    return {
        "id": name,
        "segments": [
            {
                "start": one.segment.start,
                "end": one.segment.end,
                "vector": _packed(one.vector),
                "words": [[word.text, word.start, word.end, round(word.confidence, 4)] for word in one.words],
            }
            for one in segments
        ],
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
    }


def _packed(vector: Vector) -> str:
    return b64encode(vector.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> Vector:
    return np.frombuffer(b64decode(text), "<f4").astype(np.float32)
