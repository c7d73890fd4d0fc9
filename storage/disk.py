"""The small change of writing files safely: hash, copy, sync, rename, and errors of a full disk."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from storage.errors import DiskFull, SoundMissing

BLOCK_BYTES: Final = 2**20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the errors of a full disk into DiskFull; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskFull(
            f"the disk of {folder} is full ({error.strerror}); delete lectures or other files, nothing half written was kept"
        ) from error


def regular_file_bytes(path: Path) -> int:
    """Return a file's size. Raises SoundMissing unless it is a regular file."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise SoundMissing(f"{path} cannot be read ({error}); check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise SoundMissing(f"{path} is not a file; name a sound file")
    return status.st_size


def hash_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file, which is synced to the disk as well; a block at a time is in memory."""
    digest, num_bytes, block = sha256(), 0, memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
            num_bytes += count
        os.fsync(file.fileno())
    return digest.hexdigest(), num_bytes


def copy_hashed(source: Path, part: Path) -> tuple[str, int]:
    """Copy a file, synced; return SHA-256 and size of what was copied. Raises SoundMissing if the source cannot be read."""
    digest, num_bytes, block = sha256(), 0, memoryview(bytearray(BLOCK_BYTES))
    try:
        reader = source.open("rb", buffering=0)
    except OSError as error:
        raise SoundMissing(f"{source} cannot be read ({error.strerror}); check the path and its permissions") from error
    with reader, part.open("xb") as writer:
        while count := reader.readinto(block):
            digest.update(block[:count])
            writer.write(block[:count])
            num_bytes += count
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest(), num_bytes


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where the system can."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def replace_synced(part: Path, target: Path, top: Path) -> None:
    """Rename a synced part to its place below `top`; folders are made, and all names on the way are synced."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part.replace(target)
    folder = target.parent
    while folder != top.parent:
        sync_folder(folder)
        folder = folder.parent
