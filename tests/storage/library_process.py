"""What other processes do to a library in the tests; run as a script: VERB FOLDER NAME [NUMBER]."""

import os
import resource
import sys
import time
from pathlib import Path
from uuid import UUID

import numpy as np

from retriever.domain import Audio, EmbeddedSegment, Question, Span, Word
from storage.build import open_library
from storage.config import StorageConfig
from storage.domain import LOCAL_OWNER, JobStage, NewLecture
from storage.errors import DiskFull
from storage.library import SqlLibrary

MODEL = "model"


def tone(seed: int, num_samples: int = 1600) -> np.ndarray:
    """Return noise that is exact in 16 bits."""
    return np.random.default_rng(seed).integers(-9000, 9000, num_samples, dtype=np.int16).astype(np.float32) / np.float32(32768)


def say(*words: object) -> None:
    """Tell the test, at once."""
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def write_all(library: SqlLibrary, folder: Path, name: str, number: int) -> None:
    """Add lectures, questions and progress, one after the other; print what is promised to last."""
    for i in range(number):
        path = folder / f"{name}-{i}.wav"
        path.write_bytes(f"{name} {i}".encode())
        added = library.lectures.add(NewLecture(path, f"{name} {i}"), LOCAL_OWNER)
        say("lecture", added.lecture.id)
        list(library.lectures.write_sound(added.lecture.id, [tone(i)]))
        (segment,) = library.lectures.add_run(added.lecture.id, "{}", [Span(0, 1600)], 1600, "")
        vector = np.array([1, 0], np.float32)
        library.lectures.add_embedded([EmbeddedSegment(segment, vector, (Word("hello", 0, 100, 0.5),), MODEL)])
        say("segment", segment.id)
        question = Question(audio=Audio(tone(i)), text=f"{name} {i}")
        library.history.add_question(question, LOCAL_OWNER)
        say("question", question.id)
        library.jobs.beat(name)
        library.jobs.progress(added.job.id, JobStage.LISTENING, 1, 1)


def add_same(library: SqlLibrary, folder: Path, name: str, number: int) -> None:
    """Add the same files that others add."""
    for i in range(number):
        path = folder / f"{name}-{i}.wav"
        path.write_bytes(f"shared {i}".encode() * 1000)
        added = library.lectures.add(NewLecture(path, name, move=bool(i % 2)), LOCAL_OWNER)
        say("new" if added.new else "old", added.lecture.id)


def add_and_delete(library: SqlLibrary, folder: Path, name: str, number: int) -> None:
    """Add and delete a file that others add and delete, as an owner of our own, so that its sound comes and goes."""
    owner = UUID(int=int(name))
    path = folder / f"{name}.wav"
    path.write_bytes(b"shared by all")
    for _ in range(number):
        lecture = library.lectures.add(NewLecture(path, name), owner).lecture
        if library.lectures.original_path(lecture.id).read_bytes() != b"shared by all":
            raise SystemExit("the sound is not what was added")
        library.lectures.delete(lecture.id, owner)
    say("done")


def fill_disk(library: SqlLibrary, folder: Path, name: str, number: int) -> None:
    """Write more than a limit of this process lets any file have."""
    path = folder / f"{name}.wav"
    path.write_bytes(os.urandom(300_000))
    small = folder / "small.wav"
    small.write_bytes(b"small")
    lecture = library.lectures.add(NewLecture(small, "small"), LOCAL_OWNER).lecture
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
    for act in (
        lambda: library.lectures.add(NewLecture(path, "big"), LOCAL_OWNER),
        lambda: list(library.lectures.write_sound(lecture.id, [tone(i, 80_000) for i in range(10)])),
        lambda: library.history.add_question(Question(audio=Audio(tone(1, 400_000))), LOCAL_OWNER),
    ):
        try:
            act()
            say("kept")
        except DiskFull as error:
            say("full", error)


def hold_sound(library: SqlLibrary, folder: Path, name: str, number: int) -> None:
    """Begin to write sound, and wait to be killed."""
    path = folder / f"{name}.wav"
    path.write_bytes(name.encode())
    lecture = library.lectures.add(NewLecture(path, name), LOCAL_OWNER).lecture
    for _ in library.lectures.write_sound(lecture.id, (tone(i, 80_000) for i in range(number))):
        say("writing")
        time.sleep(0.05)


def hold_write(library: SqlLibrary, folder: Path, name: str, number: int) -> None:
    """Keep the database locked for a while."""
    with library._db.write() as session:
        session.connection()
        say("locked")
        time.sleep(number)


VERBS = {verb.__name__: verb for verb in (write_all, add_same, add_and_delete, fill_disk, hold_sound, hold_write)}

if __name__ == "__main__":
    verb, where, who, count = sys.argv[1:5]
    Path(where).mkdir(parents=True, exist_ok=True)
    opened = open_library(StorageConfig(Path(where) / "library", min_free_bytes=0))
    VERBS[verb](opened, Path(where), who, int(count))
    opened.close()
