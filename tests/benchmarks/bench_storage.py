"""Speed of the library with 200 lectures, 100 hours: listing, streaming what is embedded, evidence, history; clips of a 3-hour lecture.

python tests/benchmarks/bench_storage.py
"""

import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from generator.domain import Answer, Citation
from retriever.domain import EmbeddedSegment, Hit, HitFeatures, Question, Segment, Span, Word
from storage.build import open_library
from storage.config import StorageConfig
from storage.domain import LOCAL_OWNER, HistoryQuery, NewLecture
from storage.library import SqlLibrary

MODEL = "cascade-" + "0" * 56
NUM_LECTURES, NUM_SEGMENTS, NUM_WORDS, DIMENSION = 200, 72, 75, 384
SEGMENT_SAMPLES = 25 * 16_000


def measure(name: str, act: Callable[[], object], times: int = 5) -> None:
    """Print median and slowest of some runs."""
    took: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        took.append(time.perf_counter() - started)
    print(f"{name:58s} median {statistics.median(took) * 1000:9.1f} ms   slowest {max(took) * 1000:9.1f} ms")


def fill(library: SqlLibrary, folder: Path) -> list[Segment]:
    """Add all lectures with words and vectors."""
    rng = np.random.default_rng(0)
    vocabulary = [f"word{number}" for number in range(5000)]
    every: list[Segment] = []
    for number in range(NUM_LECTURES):
        path = folder / "lecture.mp3"
        path.write_bytes(str(number).encode())
        lecture = library.lectures.add(NewLecture(path, f"Lecture {number}"), LOCAL_OWNER).lecture
        spans = [Span(i * SEGMENT_SAMPLES, (i + 1) * SEGMENT_SAMPLES) for i in range(NUM_SEGMENTS)]
        segments = library.lectures.add_run(lecture.id, "{}", spans, NUM_SEGMENTS * SEGMENT_SAMPLES, "")
        library.lectures.add_embedded([embed(segment, rng, vocabulary) for segment in segments])
        every += segments
    return every


def embed(segment: Segment, rng: np.random.Generator, vocabulary: list[str]) -> EmbeddedSegment:
    """Return a segment with words and a vector of the usual size."""
    step = SEGMENT_SAMPLES // NUM_WORDS
    words = tuple(
        Word(vocabulary[pick], segment.start + i * step, segment.start + (i + 1) * step, round(float(rng.random()), 4))
        for i, pick in enumerate(rng.integers(0, len(vocabulary), NUM_WORDS))
    )
    vector = rng.standard_normal(DIMENSION).astype(np.float32)
    return EmbeddedSegment(segment, vector / np.float32(np.linalg.norm(vector)), words, MODEL)


def remember(library: SqlLibrary, hits: list[Hit], number: int) -> None:
    """Add a question with its answer."""
    question = Question(text=f"question number {number}")
    library.history.add_question(question, LOCAL_OWNER)
    evidence = library.lectures.evidence(hits, LOCAL_OWNER, MODEL)
    citations = tuple(Citation(one.segment, one.segment.span, one.text) for one in evidence[:3])
    answer = Answer("an answer", citations, True, 0.5, "extractive", "{}")
    library.history.add_answer(question.id, LOCAL_OWNER, answer, evidence, MODEL, {"total": 1.0})


def three_hours() -> Iterator[np.ndarray]:
    """Yield noise that swells and fades, in blocks of 5 s."""
    rng = np.random.default_rng(1)
    for number in range(3 * 3600 // 5):
        yield (rng.standard_normal(80_000) * 0.06 * abs(np.sin(number))).astype(np.float32).clip(-1, 1)


def main() -> None:
    """Measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = open_library(StorageConfig(folder / "library", min_free_bytes=0))
        started = time.perf_counter()
        segments = fill(library, folder)
        print(f"filled with {len(segments)} segments in {time.perf_counter() - started:.1f} s")
        rng = np.random.default_rng(2)
        hits = [Hit(segments[pick], 1.0, HitFeatures(0.5, 1.0, 0.5, 0.1)) for pick in rng.choice(len(segments), 8, replace=False)]
        measure("embedded(): all segments with words and vectors", lambda: sum(1 for _ in library.lectures.embedded(MODEL)))
        measure("embedded_ids()", lambda: library.lectures.embedded_ids(MODEL))
        measure(f"list() of {NUM_LECTURES} lectures", lambda: library.lectures.list(LOCAL_OWNER, MODEL))
        measure("searchable()", lambda: library.lectures.searchable(LOCAL_OWNER, MODEL, None))
        measure("outdated()", lambda: library.lectures.outdated(MODEL))
        measure("evidence() of 8 hits", lambda: library.lectures.evidence(hits, LOCAL_OWNER, MODEL))
        numbers = iter(range(10_000))
        measure("add_question() and add_answer() with 8 hits", lambda: remember(library, hits, next(numbers)), times=200)
        measure("history.find() of 50 by a word", lambda: library.history.find(LOCAL_OWNER, HistoryQuery(words="number"), 50))
        new = [embed(segments[0], rng, ["word"])]
        measure("add_embedded() of one segment", lambda: library.lectures.add_embedded(new), times=50)
        measure("claim() when nothing waits but what runs", library.jobs.claim, times=5)
        path = folder / "long.wav"
        path.write_bytes(b"long")
        long = library.lectures.add(NewLecture(path, "Three hours"), LOCAL_OWNER).lecture
        measure("write_sound() of 3 hours", lambda: sum(1 for _ in library.lectures.write_sound(long.id, three_hours())), times=1)
        starts = iter(rng.integers(0, 3 * 3600 * 16_000 - 480_000, 100))
        measure(
            "clip() of 30 s out of 3 hours", lambda: library.lectures.clip(long.id, Span(start := int(next(starts)), start + 480_000)), 50
        )
        big = folder / "big.bin"
        with big.open("wb") as file:
            for _ in range(64):
                file.write(uuid.uuid4().bytes * 2**18)
        measure("add() of 256 MiB", lambda: library.lectures.add(NewLecture(big, "Big"), LOCAL_OWNER), times=2)
        library.close()


if __name__ == "__main__":
    main()
