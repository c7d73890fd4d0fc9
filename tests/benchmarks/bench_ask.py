"""Typed and spoken questions over a hundred hours of lectures, to the evidence and to the answer, beside SQLite's own full-text search.

The segments hold stretches of the demo lecture mixed with words of a large vocabulary, so that they are as many and as varied as in a
hundred hours of real lectures; their vectors come from the shipped encoder.
"""

import random
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from measure import Figure

from app.build import Parts, build_app, build_parts, build_worker
from app.demo import questions, transcript
from app.service import SpokenQA
from app.settings import Settings
from retriever.domain import Audio, EmbeddedSegment, Question, Segment, Span, Word
from storage.domain import LOCAL_OWNER, JobState, NewLecture

NUM_LECTURES, SEGMENTS_EACH, WORDS_EACH, SEGMENT_SAMPLES = 100, 144, 70, 400_000
QUESTION_SAMPLES = 5 * 16_000
NUM_ROUNDS = 10


def measure(folder: Path) -> Iterator[Figure]:
    """Yield medians and the slowest twentieth of questions, each asked several times."""
    parts = build_parts(Settings(home=folder / "home", demo=False))
    texts = fill(parts, folder)
    qa = build_app(parts)
    qa.ask(Question(text="which words warm everything up?"))
    evidence_ms, total_ms = [], []
    for _ in range(NUM_ROUNDS):
        for question in questions():
            timings = qa.ask(Question(text=question.text)).found.timings_ms
            evidence_ms.append(timings["encode"] + timings["search"])
            total_ms.append(timings["total"])
    spoken = [speak(qa, question.text, folder) for question in questions()]
    qa.search(spoken[0])
    spoken_ms = [sum(qa.search(one).timings_ms[part] for part in ("encode", "search")) for one in spoken * NUM_ROUNDS]
    peer_ms = statistics.median(full_text_search(texts))
    hours = NUM_LECTURES * SEGMENTS_EACH * SEGMENT_SAMPLES / 16_000 / 3600
    name, peer = f"typed question, {hours:.0f} h indexed", "SQLite full-text search, bm25"
    yield Figure(f"{name}: to the evidence, median", statistics.median(evidence_ms), "ms", peer, peer_ms, "under 300 ms")
    yield Figure(f"{name}: to the evidence, 95 %", statistics.quantiles(evidence_ms, n=20)[-1], "ms")
    yield Figure(f"{name}: to the answer, median", statistics.median(total_ms), "ms", peer, peer_ms)
    yield Figure(
        f"spoken question of 5 s, {hours:.0f} h indexed: to the evidence, median", statistics.median(spoken_ms), "ms", target="under 150 ms"
    )
    parts.library.close()


def speak(qa: SpokenQA, text: str, folder: Path) -> Question:
    """Return a question spoken by espeak-ng, silence behind it up to 5 s."""
    path = folder / "question.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-w", str(path), text], check=True)
    samples = qa.read_question(path).samples[:QUESTION_SAMPLES]
    return Question(audio=Audio(np.pad(samples, (0, QUESTION_SAMPLES - len(samples)))))


def fill(parts: Parts, folder: Path) -> list[str]:
    """Put one-hour lectures into the library as the worker would; return the text of every segment."""
    rng = random.Random(7)
    told = transcript().lower().split()
    vocabulary = [f"{word}{ending}" for word in sorted(set(told)) for ending in ("", "ing", "ness", "ward")]
    texts: list[str] = []
    shelf = parts.library.lectures
    for number in range(NUM_LECTURES):
        path = folder / f"{number}.bin"
        path.write_bytes(f"lecture {number}".encode())  # its sound is never asked for here
        lecture_id = shelf.add(NewLecture(path, f"Lecture {number}"), LOCAL_OWNER).lecture.id
        spans = [Span(i * SEGMENT_SAMPLES, (i + 1) * SEGMENT_SAMPLES) for i in range(SEGMENTS_EACH)]
        segments = shelf.add_run(lecture_id, "{}", spans, spans[-1].end, "")
        embedded = [embed(parts, segment, make_words(rng, told, vocabulary)) for segment in segments]
        shelf.add_embedded(embedded)
        texts += [" ".join(word.text for word in one.words) for one in embedded]
    while (job := parts.library.jobs.claim()) is not None:
        parts.library.jobs.finish(job.id, JobState.DONE)
    build_worker(parts).rebuild_index()
    return texts


def make_words(rng: random.Random, told: Sequence[str], vocabulary: Sequence[str]) -> list[str]:
    """Return the words of one segment: a stretch of the demo lecture and as many others."""
    start = rng.randrange(len(told) - WORDS_EACH // 2)
    return [*told[start : start + WORDS_EACH // 2], *rng.choices(vocabulary, k=WORDS_EACH // 2)]


def embed(parts: Parts, segment: Segment, texts: Sequence[str]) -> EmbeddedSegment:
    """Return a segment with these words evenly over its time."""
    step = segment.span.num_samples // len(texts)
    words = tuple(Word(t, segment.start + i * step, segment.start + (i + 1) * step) for i, t in enumerate(texts))
    vector = parts.retriever.encode(Question(text=" ".join(texts))).vector
    return EmbeddedSegment(segment, vector, words, parts.retriever.fingerprint)


def full_text_search(texts: Sequence[str]) -> Iterator[float]:
    """Yield the milliseconds of each question in SQLite's FTS5, in memory."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("create virtual table segments using fts5(words)")
        database.executemany("insert into segments values (?)", [(text,) for text in texts])
        for _ in range(NUM_ROUNDS):
            for question in questions():
                terms = " OR ".join(word for word in question.text.lower().replace("?", "").split() if word.isalpha())
                started = time.perf_counter()
                database.execute("select rowid from segments where segments match ? order by rank limit 5", (terms,)).fetchall()
                yield (time.perf_counter() - started) * 1000
