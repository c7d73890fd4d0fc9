"""Files by content hash: every file is complete or absent, whatever happens, and its name never comes from a user.

    <folder>/sounds/ab/<hash>/original.mp3    as it was given; only a short, checked extension is kept of its name
    <folder>/sounds/ab/<hash>/speech.flac     decoded: 16 kHz, mono, 16 bits
    <folder>/questions/ab/<hash>.flac         a spoken question
    <folder>/incoming/                        what is being written, and marks

A file is written in `incoming`, synced and renamed. SQL and files change together under one lock between processes, in the order that a
crash forgives: a file is kept before the row that refers to it, and removed after. Before either, a mark names the hash; after both, it
goes. A mark that is found later tells of a crash, and only what is marked is ever swept: a library opened with another database loses
nothing.
"""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil
from filelock import FileLock, Timeout

from storage.disk import copy_hashed, disk_errors, hash_file, regular_file_bytes, replace_synced, sync_folder
from storage.errors import DatabaseUnusable, DiskFull

STALE_S: Final = 24 * 3600.0  # after this long, a part of a process that cannot be asked (another host) is dead
_LOCK_TIMEOUT_S: Final = 120.0
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,8}")


class Kind(StrEnum):
    """What a hash stands for."""

    LECTURE = "lecture"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class Taken:
    """A file whose bytes are in `incoming` and safe, and that waits for its place."""

    part: Path
    content_hash: str
    num_bytes: int
    suffix: str


class SoundFiles:
    """The files of one library; safe to share between threads and processes."""

    def __init__(self, folder: Path, min_free_bytes: int) -> None:
        self.folder = folder
        self.min_free_bytes = min_free_bytes
        self._incoming = folder / "incoming"

    def original(self, content_hash: str, suffix: str) -> Path:
        """Return where the file as it was given lies."""
        return self._place(content_hash) / f"original{suffix}"

    def speech(self, content_hash: str) -> Path:
        """Return where the decoded sound lies."""
        return self._place(content_hash) / "speech.flac"

    def question(self, audio_hash: str) -> Path:
        """Return where a question's sound lies."""
        return self.folder / "questions" / audio_hash[:2] / f"{audio_hash}.flac"

    def num_bytes(self) -> int:
        """Return how much all files take."""
        tops = (self.folder / "sounds", self.folder / "questions", self._incoming)
        files = (Path(parent) / name for top in tops for parent, _, names in os.walk(top) for name in names)
        return sum(_size_of(file) for file in files)

    def free_bytes(self) -> int:
        """Return how much room the disk has."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return shutil.disk_usage(self.folder).free

    def require_room(self, num_bytes: int = 0) -> None:
        """Raise DiskFull if, with so many bytes more, less than the reserve would be left."""
        free = self.free_bytes()
        if free - num_bytes < self.min_free_bytes:
            raise DiskFull(
                f"{free / 2**20:.0f} MiB are free on the disk of {self.folder}, and {(num_bytes + self.min_free_bytes) / 2**20:.0f} MiB"
                " are needed (a reserve included): delete lectures or other files"
            )

    @contextmanager
    def lock(self, timeout_s: float = _LOCK_TIMEOUT_S) -> Iterator[None]:
        """Keep other threads and processes from keeping or removing files. Not reentrant.

        Raises:
            DatabaseUnusable: another process holds it for long.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(self.folder / "files.lock", timeout=timeout_s, poll_interval=0.01, preserve_lock_file=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise DatabaseUnusable(f"another process keeps {lock.lock_file} locked; let it finish or stop it, and try again") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def part(self) -> Iterator[Path]:
        """Give a path to write to; whatever is still there at the end is removed. Errors of a full disk become DiskFull."""
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = self._incoming / f"{_host()}-{os.getpid()}-{uuid4().hex}.part"
        with disk_errors(self.folder):
            try:
                yield part
            finally:
                part.unlink(missing_ok=True)

    @contextmanager
    def take(self, path: Path, *, move: bool) -> Iterator[Taken]:
        """Bring a file's bytes into `incoming`, hashed and synced; the caller keeps the part, or it is gone at the end.

        With `move`, a file of the same disk is linked, not copied; it is for the caller to unlink the source when all is committed, so
        that no crash loses it.

        Raises:
            SoundMissing: not a file that can be read.
            DiskFull: too little room; nothing is left behind.
        """
        num_bytes = regular_file_bytes(path)
        suffix = path.suffix.lower()
        with self.part() as part:
            linked = move and _link(path, part)
            self.require_room(0 if linked else num_bytes)
            content_hash, num_bytes = hash_file(part) if linked else copy_hashed(path, part)
            yield Taken(part, content_hash, num_bytes, suffix if _SUFFIX.fullmatch(suffix) else "")

    def keep(self, part: Path, target: Path) -> None:
        """Give a synced part its place, under the lock; what is there is replaced."""
        with disk_errors(self.folder):
            replace_synced(part, target, self.folder)

    def mark(self, kind: Kind, hashes: Iterable[str]) -> None:
        """Note that the files of these hashes are about to be kept or removed."""
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        with disk_errors(self.folder):
            for one in hashes:
                self._mark(kind, one).touch()
            sync_folder(self._incoming)

    def unmark(self, kind: Kind, content_hash: str) -> None:
        """Note that SQL and files agree again."""
        self._mark(kind, content_hash).unlink(missing_ok=True)

    def marked(self) -> list[tuple[Kind, str]]:
        """Return what was marked and not unmarked."""
        names = (mark.stem.partition("-") for mark in sorted(self._incoming.glob("*.mark")))
        return [(Kind(kind), content_hash) for kind, _, content_hash in names]

    def remove(self, kind: Kind, content_hash: str) -> None:
        """Remove the files of a hash, under the lock, and unmark it."""
        if kind is Kind.QUESTION:
            place = self.question(content_hash)
            place.unlink(missing_ok=True)
        else:
            place = self._place(content_hash)
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # another hash may begin alike
            place.parent.rmdir()
        if not place.exists():
            self.unmark(kind, content_hash)

    def remove_dead_parts(self) -> int:
        """Remove what killed processes left half written; return how many files."""
        dead = [part for part in self._incoming.glob("*.part") if _is_dead(part)]
        for part in dead:
            part.unlink(missing_ok=True)
        return len(dead)

    def has_leftovers(self) -> bool:
        """Whether anything is in `incoming`."""
        return self._incoming.is_dir() and any(self._incoming.iterdir())

    def kept(self) -> Iterator[tuple[Kind, str]]:
        """Yield the hashes of all files kept."""
        for place in (self.folder / "sounds").glob("??/*"):
            yield Kind.LECTURE, place.name
        for file in (self.folder / "questions").glob("??/*.flac"):
            yield Kind.QUESTION, file.stem

    def _place(self, content_hash: str) -> Path:
        return self.folder / "sounds" / content_hash[:2] / content_hash

    def _mark(self, kind: Kind, content_hash: str) -> Path:
        return self._incoming / f"{kind}-{content_hash}.mark"


def _link(source: Path, part: Path) -> bool:
    """Link the file if its disk is this one and can; a link to a file is not followed but copied."""
    if source.is_symlink():
        return False
    try:
        os.link(source, part)
    except OSError:  # another disk, or one that knows no links
        return False
    return True


def _host() -> str:
    return blake2b(platform.node().encode(), digest_size=4).hexdigest()


def _is_dead(part: Path) -> bool:
    host, _, rest = part.name.partition("-")
    pid = rest.partition("-")[0]
    if host == _host() and pid.isdecimal() and not psutil.pid_exists(int(pid)):
        return True
    try:
        status = part.stat()
    except FileNotFoundError:
        return False
    is_linked = status.st_nlink > 1  # then it is as old as its source, which tells nothing
    return not is_linked and time.time() - status.st_mtime > STALE_S


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # removed meanwhile
        return 0
