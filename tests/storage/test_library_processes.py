"""Several processes, some of them killed, share one library."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from retriever.domain import Span
from storage.build import open_library
from storage.config import StorageConfig
from storage.domain import LOCAL_OWNER, HistoryQuery
from storage.errors import DatabaseUnusable
from storage.library import SqlLibrary

SCRIPT = Path(__file__).with_name("library_process.py")
MODEL = "model"


def start(verb: str, folder: Path, name: str, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), verb, str(folder), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[list[str]]:
    said, complained = process.communicate(timeout=120)
    assert process.returncode == 0, complained
    return [line.split(maxsplit=1) for line in said.splitlines()]


def reopen(folder: Path) -> SqlLibrary:
    return open_library(StorageConfig(folder / "library", min_free_bytes=0))


def assert_kept(library: SqlLibrary, said: list[list[str]]) -> None:
    """All that a process was told is kept must be there, whole."""
    embedded = library.lectures.embedded_ids(MODEL)
    for what, number in said:
        if what == "lecture":
            lecture = library.lectures.get(UUID(number), LOCAL_OWNER)
            assert library.lectures.original_path(lecture.id).read_bytes() == lecture.title.encode()
        elif what == "segment":
            assert int(number) in embedded
        else:
            assert library.history.question_audio(UUID(number), LOCAL_OWNER).num_samples == 1600


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [start("write_all", tmp_path, f"p{i}", 5) for i in range(3)]  # the first of them makes the library
    said = [line for process in processes for line in finish(process)]
    library = reopen(tmp_path)
    assert len(said) == 3 * 5 * 3
    assert_kept(library, said)
    assert len(library.lectures.list(LOCAL_OWNER, MODEL)) == 15
    assert library.lectures.generation(MODEL) == 15
    assert library.history.find(LOCAL_OWNER, HistoryQuery(), 1).total == 15
    assert library.check() == []
    library.close()


def test_the_same_files_added_by_processes_at_once_are_one_lecture_each(tmp_path: Path) -> None:
    said = [finish(process) for process in [start("add_same", tmp_path, f"p{i}", 8) for i in range(3)]]
    ids = [[number for _, number in one] for one in said]
    assert ids[0] == ids[1] == ids[2]
    assert sum(what == "new" for one in said for what, _ in one) == 8
    library = reopen(tmp_path)
    assert len(library.lectures.list(LOCAL_OWNER, MODEL)) == len(library.jobs.list(LOCAL_OWNER)) == 8
    assert library.check() == []
    library.close()


def test_shared_sound_is_never_removed_under_another_owner(tmp_path: Path) -> None:
    for process in [start("add_and_delete", tmp_path, str(i), 10) for i in range(3)]:
        assert finish(process) == [["done"]]
    library = reopen(tmp_path)
    assert library.disk_usage()["sound"] == 0
    assert library.check() == []
    library.close()


@pytest.mark.crash
def test_a_process_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(7)
    said: list[list[str]] = []
    reopen(tmp_path).close()
    for number in range(6):
        process = start("write_all", tmp_path, f"k{number}", 1000)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(rng.randrange(1, 8))]
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        complete = "".join(lines) + rest
        said += [line.split(maxsplit=1) for line in complete[: complete.rfind("\n") + 1].splitlines()]
        library = reopen(tmp_path)
        library.sweep()
        assert library.check() == []
        assert list((tmp_path / "library" / "incoming").iterdir()) == []
        library.close()
    library = reopen(tmp_path)
    assert_kept(library, said)
    lectures = library.lectures.list(LOCAL_OWNER, MODEL)
    assert len({info.lecture.title for info in lectures}) == len(lectures)
    assert len(library.jobs.list(LOCAL_OWNER)) == len(lectures)
    library.close()


@pytest.mark.crash
def test_half_written_sound_of_a_killed_process_is_swept_and_of_a_living_one_is_not(tmp_path: Path) -> None:
    living, killed = start("hold_sound", tmp_path, "living", 2000), start("hold_sound", tmp_path, "killed", 2000)
    for process in (living, killed):
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
    killed.kill()
    killed.communicate()
    library = reopen(tmp_path)
    parts = list((tmp_path / "library" / "incoming").glob("*.part"))
    assert [f"-{living.pid}-" in part.name for part in parts] == [True]
    living.kill()
    living.communicate()
    library.sweep()
    assert list((tmp_path / "library" / "incoming").iterdir()) == []
    library.close()


def test_a_full_disk_is_said_so_and_nothing_half_written_stays(tmp_path: Path) -> None:
    said = finish(start("fill_disk", tmp_path, "big", 200_000))
    assert [what for what, _ in said] == ["full", "full", "full"]
    assert all("delete lectures" in message for _, message in said)
    library = reopen(tmp_path)
    assert [info.lecture.title for info in library.lectures.list(LOCAL_OWNER, MODEL)] == ["small"]
    assert not library.lectures.has_sound(library.lectures.list(LOCAL_OWNER, MODEL)[0].lecture.id)
    assert list((tmp_path / "library" / "incoming").iterdir()) == []
    assert library.check() == []
    library.close()


def test_a_database_locked_for_too_long_is_said_so(tmp_path: Path) -> None:
    reopen(tmp_path).close()
    process = start("hold_write", tmp_path, "x", 600)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    library = open_library(StorageConfig(tmp_path / "library", busy_timeout_s=0.2, min_free_bytes=0))
    assert library.jobs.worker_seen_at() is None  # who reads does not wait
    with pytest.raises(DatabaseUnusable, match="locked by another process"):
        library.jobs.beat("me")
    process.kill()
    process.communicate()
    library.jobs.beat("me")
    assert library.jobs.worker_seen_at() is not None
    library.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_uses_connections_of_its_own(tmp_path: Path) -> None:
    library = reopen(tmp_path)
    library.jobs.beat("parent")
    child = os.fork()
    if child == 0:
        try:
            for _ in range(20):
                library.jobs.beat("child")
            with library._db.engine.connect() as connection:
                os._exit(0 if connection.connection.info["pid"] == os.getpid() else 2)
        finally:
            os._exit(1)
    for _ in range(20):
        library.jobs.beat("parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert library.check() == []
    library.close()


def test_readers_see_whole_transactions_while_writers_write(tmp_path: Path) -> None:
    process = start("write_all", tmp_path, "w", 10)
    library = reopen(tmp_path)
    seen: list[int] = []

    def watch() -> None:
        while process.poll() is None:
            generation = library.lectures.generation(MODEL)
            seen.append(len(library.lectures.embedded_ids(MODEL)) - generation)

    thread = threading.Thread(target=watch)
    thread.start()
    finish(process)
    thread.join()
    assert min(seen) >= 0  # a generation read first never promises more than is there
    for info in library.lectures.list(LOCAL_OWNER, MODEL):
        clip = library.lectures.clip(info.lecture.id, Span(0, 1600)).samples
        assert clip.dtype == np.float32
        assert len(clip) == 1600
    library.close()
