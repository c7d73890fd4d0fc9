"""Files are complete or absent, nothing is lost or left, and names never come from users."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event, update

from generator.domain import Answer, Citation
from retriever.domain import Audio, EmbeddedSegment, Hit, HitFeatures, Question, Span, Word
from storage import catalogue
from storage.build import open_library
from storage.config import StorageConfig
from storage.domain import LOCAL_OWNER, HistoryQuery, NewLecture
from storage.errors import DatabaseUnusable, DiskFull, SoundMissing
from storage.files import STALE_S, Kind, SoundFiles
from storage.library import SqlLibrary
from storage.tables import QuestionRow


@pytest.fixture
def library(tmp_path: Path) -> Iterator[SqlLibrary]:
    library = open_library(StorageConfig(tmp_path / "library", min_free_bytes=0))
    yield library
    library.close()


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "library" / "incoming"


def give(folder: Path, content: bytes = b"bytes", name: str = "lecture.wav") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def files_of(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "askaloud.db" not in path.name and path.suffix != ".lock"
    }


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a.mp3", "original.mp3"),
        ("A.MP3", "original.mp3"),
        ("no suffix", "original"),
        ("evil.sh;rm -rf", "original"),
        ("x.超长", "original"),
        ("x.waytoolongforasuffix", "original"),
        (".wav", "original"),
        ("tab\there.m4a", "original.m4a"),
        ("a" * 240 + ".opus", "original.opus"),
    ],
)
def test_of_a_files_name_only_a_short_checked_suffix_reaches_the_disk(library: SqlLibrary, tmp_path: Path, name: str, kept: str) -> None:
    lecture = library.lectures.add(NewLecture(give(tmp_path, name=name), "x"), LOCAL_OWNER).lecture
    path = library.lectures.original_path(lecture.id)
    assert path.name == kept
    assert path.parent == tmp_path / "library" / "sounds" / lecture.content_hash[:2] / lecture.content_hash
    assert library.lectures.info(lecture.id, LOCAL_OWNER, "m").file_name == name


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 exist only here")
def test_a_name_that_is_not_text_is_kept_as_far_as_it_can_be(library: SqlLibrary, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    path.write_bytes(b"x")
    lecture = library.lectures.add(NewLecture(path, path.stem), LOCAL_OWNER).lecture
    assert lecture.title == "caf\ufffd"
    assert library.lectures.info(lecture.id, LOCAL_OWNER, "m").file_name == "caf\ufffd.wav"


def test_the_library_is_for_its_owner_only(library: SqlLibrary, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "library").stat().st_mode) & 0o077 == 0


def test_what_is_no_file_is_refused(library: SqlLibrary, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "nul\0.wav"):
        with pytest.raises(SoundMissing):
            library.lectures.add(NewLecture(path, "x"), LOCAL_OWNER)


def test_a_large_file_is_hashed_and_copied_in_little_memory(tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        file.truncate(100 * 2**20)
    code = (
        "import resource, sys; from pathlib import Path; from storage.build import *; from storage.config import *;"
        " from storage.domain import NewLecture, LOCAL_OWNER;"
        f" library = open_library(StorageConfig(Path({str(tmp_path / 'library')!r}), min_free_bytes=0));"
        " before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        f" library.lectures.add(NewLecture(Path({str(big)!r}), 'big'), LOCAL_OWNER);"
        " print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30 * 1024  # KiB


def test_a_moved_file_is_not_copied(library: SqlLibrary, tmp_path: Path) -> None:
    path = give(tmp_path)
    inode = path.stat().st_ino
    lecture = library.lectures.add(NewLecture(path, "x", move=True), LOCAL_OWNER).lecture
    assert library.lectures.original_path(lecture.id).stat().st_ino == inode
    assert not path.exists()


def test_a_file_is_moved_from_another_disk_too(library: SqlLibrary, tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk here")
    path = give(memory, b"from afar", f"askaloud-test-{os.getpid()}.wav")
    try:
        lecture = library.lectures.add(NewLecture(path, "x", move=True), LOCAL_OWNER).lecture
        assert not path.exists()
        assert library.lectures.original_path(lecture.id).read_bytes() == b"from afar"
    finally:
        path.unlink(missing_ok=True)


def test_moving_a_link_leaves_what_it_points_at(library: SqlLibrary, tmp_path: Path) -> None:
    path = give(tmp_path)
    link = tmp_path / "link.wav"
    link.symlink_to(path)
    lecture = library.lectures.add(NewLecture(link, "x", move=True), LOCAL_OWNER).lecture
    assert path.exists()
    assert not library.lectures.original_path(lecture.id).is_symlink()


def test_a_lecture_that_cannot_be_committed_leaves_no_file_and_keeps_the_source(
    library: SqlLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise DatabaseUnusable("locked")

    monkeypatch.setattr(catalogue, "_add", fails)  # the border to the database, at its worst moment: the file is in its place
    path = give(tmp_path)
    with pytest.raises(DatabaseUnusable):
        library.lectures.add(NewLecture(path, "x", move=True), LOCAL_OWNER)
    assert path.read_bytes() == b"bytes"
    assert files_of(tmp_path / "library") == set()


def test_too_little_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    library = open_library(StorageConfig(tmp_path / "library", min_free_bytes=2**60))
    with pytest.raises(DiskFull, match="delete lectures"):
        library.lectures.add(NewLecture(give(tmp_path), "x"), LOCAL_OWNER)
    assert files_of(tmp_path / "library") == set()
    question = Question(audio=Audio(np.zeros(100, np.float32)))
    library.history.add_question(question, LOCAL_OWNER)  # the reserve is for the history
    assert library.history.get(question.id, LOCAL_OWNER).has_audio
    library.close()


def test_sound_stops_when_the_reserve_is_reached(library: SqlLibrary, tmp_path: Path) -> None:
    lecture = library.lectures.add(NewLecture(give(tmp_path), "x"), LOCAL_OWNER).lecture
    library.close()
    poor = open_library(StorageConfig(tmp_path / "library", min_free_bytes=2**60))
    before = files_of(tmp_path / "library")
    with pytest.raises(DiskFull):
        list(poor.lectures.write_sound(lecture.id, [np.zeros(100, np.float32)]))
    assert files_of(tmp_path / "library") == before
    poor.close()


def test_files_kept_by_a_crashed_process_are_swept_when_the_library_is_opened(library: SqlLibrary, tmp_path: Path, incoming: Path) -> None:
    files = SoundFiles(tmp_path / "library", 0)
    with files.take(give(tmp_path), move=False) as taken:  # as far as `add` comes before it commits
        files.mark(Kind.LECTURE, [taken.content_hash])
        files.keep(taken.part, files.original(taken.content_hash, ".wav"))
    assert len(files_of(tmp_path / "library")) == 2
    open_library(StorageConfig(tmp_path / "library")).close()
    assert files_of(tmp_path / "library") == set()


def test_files_of_a_crashed_removal_are_swept(library: SqlLibrary, tmp_path: Path) -> None:
    lecture = library.lectures.add(NewLecture(give(tmp_path), "x"), LOCAL_OWNER).lecture
    files = SoundFiles(tmp_path / "library", 0)
    original = library.lectures.original_path(lecture.id)
    files.mark(Kind.LECTURE, [lecture.content_hash])
    assert library.sweep() == 0  # killed before SQL was committed: the lecture is still there
    assert original.exists()
    content = original.read_bytes()
    library.lectures.delete(lecture.id, LOCAL_OWNER)
    files.mark(Kind.LECTURE, [lecture.content_hash])  # killed after SQL, before the files were removed
    original.parent.mkdir(parents=True)
    original.write_bytes(content)
    assert library.sweep() == 1
    assert not original.exists()
    assert library.check() == []


def test_only_what_is_marked_is_swept(library: SqlLibrary, tmp_path: Path) -> None:
    lecture = library.lectures.add(NewLecture(give(tmp_path), "x"), LOCAL_OWNER).lecture
    original = library.lectures.original_path(lecture.id)
    library.close()
    for file in (tmp_path / "library").glob("askaloud.db*"):
        file.unlink()  # the database is lost: the sound must not follow
    again = open_library(StorageConfig(tmp_path / "library"))
    again.sweep()
    assert original.exists()
    assert "belong to no lecture" in " ".join(again.check())
    again.close()


def test_dead_parts_are_swept_and_young_ones_of_others_are_not(library: SqlLibrary, incoming: Path) -> None:
    incoming.mkdir(exist_ok=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with SoundFiles(incoming.parent, 0).part() as own:
        own.write_bytes(b"being written")
        of_dead = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
        of_other_host, old = incoming / f"00000000-{dead.pid}-x.part", incoming / "00000000-1-old.part"
        for part in (of_dead, of_other_host, old):
            part.write_bytes(b"x")
        os.utime(old, (time.time() - STALE_S - 60,) * 2)
        assert library.sweep() == 2
        assert (own.exists(), of_dead.exists(), of_other_host.exists(), old.exists()) == (True, False, True, False)


def test_an_old_file_that_is_being_moved_in_is_not_swept(library: SqlLibrary, tmp_path: Path) -> None:
    source = give(tmp_path)
    os.utime(source, (time.time() - STALE_S - 60,) * 2)
    with SoundFiles(tmp_path / "library", 0).take(source, move=True) as taken:
        assert library.sweep() == 0
        assert taken.part.read_bytes() == source.read_bytes()


def test_expired_questions_are_deleted_with_their_sound(library: SqlLibrary, tmp_path: Path) -> None:
    old, young = (Question(audio=Audio(np.full(100, level, np.float32))) for level in (0.25, 0.5))
    now = datetime.now(UTC)
    for question, expires_at in ((old, now - timedelta(hours=1)), (young, now + timedelta(hours=1))):
        library.history.add_question(question, LOCAL_OWNER)
        with library._db.write() as session:
            session.execute(update(QuestionRow).where(QuestionRow.id == question.id).values(expires_at=expires_at))
    assert library.lectures.delete_expired(now) == 1
    assert [entry.question.id for entry in library.history.find(LOCAL_OWNER, HistoryQuery(), 10).entries] == [young.id]
    assert len(files_of(tmp_path / "library")) == 1


def test_the_number_of_queries_does_not_grow_with_what_is_asked(library: SqlLibrary, tmp_path: Path) -> None:
    every = []
    for number in range(12):
        lecture = library.lectures.add(NewLecture(give(tmp_path, str(number).encode()), str(number), course="C"), LOCAL_OWNER).lecture
        segments = library.lectures.add_run(lecture.id, "{}", [Span(0, 100), Span(100, 200)], 200, "")
        vector = np.array([1, 0], np.float32)
        library.lectures.add_embedded([EmbeddedSegment(one, vector, (Word("w", 0, 1),), "m") for one in segments])
        every += segments
    hits = [Hit(one, 1.0, HitFeatures(0, 0, 0, 0)) for one in every]
    for number in range(12):
        question = Question(text=f"number {number}")
        library.history.add_question(question, LOCAL_OWNER)
        evidence = library.lectures.evidence(hits[:8], LOCAL_OWNER, "m")
        cited = tuple(Citation(one.segment, one.segment.span, "w") for one in evidence)
        library.history.add_answer(question.id, LOCAL_OWNER, Answer("a", cited, True, 1.0, "m", "{}"), evidence, "m", {})
    counted: list[str] = []
    event.listen(library._db.engine, "before_cursor_execute", lambda *args: counted.append(args[2]))

    def count(act: object) -> int:
        counted.clear()
        assert act()  # type: ignore[operator]
        return sum(statement.startswith("SELECT") for statement in counted)

    find = library.history.find
    assert count(lambda: find(LOCAL_OWNER, HistoryQuery(), 1).entries) == count(lambda: find(LOCAL_OWNER, HistoryQuery(), 12).entries) == 4
    assert (
        count(lambda: library.lectures.evidence(hits[:1], LOCAL_OWNER, "m"))
        == count(lambda: library.lectures.evidence(hits, LOCAL_OWNER, "m"))
        == 2
    )
    assert count(lambda: library.lectures.list(LOCAL_OWNER, "m")) == 2
    assert count(lambda: library.lectures.heard(every[0].lecture_id, LOCAL_OWNER, "m")) == 2
