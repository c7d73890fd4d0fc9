"""Files on their way from the browser to the disk, piece by piece, so that memory stays flat and a dropped connection costs nothing.

A partial upload is two files in one folder: `<id>.part` holds the bytes that have come, `<id>.json` what was announced. The name a file has
on the user's machine is only ever text in the second; no path is made of it.
"""

import errno
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Final

from app.errors import AppError
from app.web.texts import in_size
from storage.errors import DiskFull

MAX_AGE_S: Final = 24 * 3600.0  # a partial upload that nobody went on with is swept away
MAX_NAME_LENGTH: Final = 255

_ID = re.compile(r"[0-9a-f]{32}")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")


class UploadRefused(AppError):
    """An upload cannot begin or go on; `status` is the HTTP status that says so."""

    status = HTTPStatus.BAD_REQUEST


class UploadTooLarge(UploadRefused):
    """More bytes than the limit allows, or than were announced."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class UploadUnknown(UploadRefused):
    """There is no such upload: it is complete, cancelled or swept away."""

    status = HTTPStatus.NOT_FOUND


class UploadOutOfStep(UploadRefused):
    """The piece does not begin where the last one ended."""

    status = HTTPStatus.CONFLICT


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is arriving.

    Attributes:
        name: what it is called on the user's machine, without folders.
        size_bytes: announced, and held to.
        received_bytes: safe on this machine's disk; the next piece begins there.
    """

    id: str
    name: str
    size_bytes: int
    received_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come."""
        return self.received_bytes == self.size_bytes


@dataclass(frozen=True, slots=True)
class Uploads:
    """The folder of partial uploads.

    Attributes:
        max_bytes: the largest file accepted.
        min_free_bytes: what must stay free on the disk.
    """

    folder: Path
    max_bytes: int
    min_free_bytes: int

    def begin(self, name: str, size_bytes: int, key: str) -> Upload:
        """Announce a file; the same name, size and key as before go on with what has come already.

        Raises:
            UploadRefused: the name or size is impossible.
            UploadTooLarge: over the limit.
            DiskFull: too little room for all that is on its way.
        """
        name = clean_name(name)
        if size_bytes <= 0:
            raise UploadRefused(f"{name} is empty: choose a file with sound")
        if size_bytes > self.max_bytes:
            raise UploadTooLarge(
                f"{name} has {in_size(size_bytes)}, the limit is {in_size(self.max_bytes)}: make it smaller, raise max_upload_bytes in the"
                " settings, or put it into the import folder"
            )
        self.sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        upload_id = hashlib.sha256(json.dumps([name, size_bytes, key]).encode()).hexdigest()[:32]
        try:
            return self.get(upload_id)
        except UploadUnknown:  # new, or a crash left half of it
            self._make_sure_of_room(name, size_bytes)
            self._data_path(upload_id).touch()
            self._note_path(upload_id).write_text(json.dumps({"name": name, "size_bytes": size_bytes}), encoding="utf-8")
        return self.get(upload_id)

    def get(self, upload_id: str) -> Upload:
        """Return how far an upload has come. Raises UploadUnknown."""
        try:
            note = json.loads(self._note_path(upload_id).read_text(encoding="utf-8"))
            upload = Upload(upload_id, note["name"], note["size_bytes"], self._data_path(upload_id).stat().st_size)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UploadUnknown(
                "this upload is not known here: it is complete, cancelled, or older than a day. Choose the file again"
            ) from error
        return upload

    def append(self, upload_id: str, offset: int, data: bytes) -> Upload:
        """Write a piece that begins at `offset`.

        Raises:
            UploadUnknown: no such upload.
            UploadOutOfStep: `offset` is not where the last piece ended.
            UploadTooLarge: the piece reaches past the announced size.
            DiskFull: no room.
        """
        upload = self.get(upload_id)
        if offset != upload.received_bytes:
            raise UploadOutOfStep(f"the next piece of {upload.name} begins at byte {upload.received_bytes}, not at {offset}")
        if offset + len(data) > upload.size_bytes:
            raise UploadTooLarge(f"{upload.name} was announced with {upload.size_bytes} bytes and sends more: choose the file again")
        try:
            with self._data_path(upload_id).open("ab") as file:
                file.write(data)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull(f"the disk is full, {upload.name} cannot be kept: make room, then go on with the upload") from error
            raise
        return self.get(upload_id)

    def finish(self, upload_id: str) -> Path:
        """Take a whole upload out of this care and return where the file lies; its suffix is the original's.

        Raises:
            UploadUnknown: no such upload.
            UploadOutOfStep: bytes are missing.
        """
        upload = self.get(upload_id)
        if not upload.is_whole:
            raise UploadOutOfStep(f"{upload.name} is not complete: {upload.received_bytes} of {upload.size_bytes} bytes have come")
        suffix = PurePosixPath(upload.name).suffix.lower()
        path = self.folder / f"{upload_id}{suffix if _SUFFIX.fullmatch(suffix) else '.bin'}"
        self._data_path(upload_id).rename(path)
        self._note_path(upload_id).unlink(missing_ok=True)
        return path

    def cancel(self, upload_id: str) -> None:
        """Remove an upload; one that is not there is removed already."""
        self._note_path(upload_id).unlink(missing_ok=True)
        self._data_path(upload_id).unlink(missing_ok=True)

    def sweep(self, max_age_s: float = MAX_AGE_S) -> int:
        """Remove what has not grown for so long; return how many files went."""
        if not self.folder.is_dir():
            return 0
        old = [path for path in self.folder.iterdir() if path.is_file() and time.time() - path.stat().st_mtime > max_age_s]
        # A note is written once: it is as young as the bytes beside it.
        old = [path for path in old if path.suffix != ".json" or path.with_suffix(".part") in old or not path.with_suffix(".part").exists()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _make_sure_of_room(self, name: str, size_bytes: int) -> None:
        still_to_come = sum(upload.size_bytes - upload.received_bytes for upload in self._waiting())
        free = shutil.disk_usage(self.folder).free - still_to_come - self.min_free_bytes
        if size_bytes > free:
            raise DiskFull(
                f"{name} has {in_size(size_bytes)}, there is room for {in_size(max(0, free))}: make room on the disk, then try again"
            )

    def _waiting(self) -> Iterator[Upload]:
        for path in self.folder.glob("*.json"):
            with suppress(UploadUnknown):  # it ends at this moment, or a crash left only its note
                yield self.get(path.stem)

    def _data_path(self, upload_id: str) -> Path:
        return self.folder / f"{_checked(upload_id)}.part"

    def _note_path(self, upload_id: str) -> Path:
        return self.folder / f"{_checked(upload_id)}.json"


def clean_name(name: str) -> str:
    """Return the last part of a file's name as plain text. Raises UploadRefused when nothing is left, or it is too long."""
    last = re.split(r"[/\\]", name)[-1]
    last = " ".join("".join(c if c.isprintable() else " " for c in last).split())
    if last.strip(". ") == "":
        raise UploadRefused("the file has no name: rename it, then choose it again")
    if len(last) > MAX_NAME_LENGTH:
        raise UploadRefused(
            f"the file's name has {len(last)} letters, at most {MAX_NAME_LENGTH} are possible: rename it, then choose it again"
        )
    return last


def _checked(upload_id: str) -> str:
    if not _ID.fullmatch(upload_id):
        raise UploadUnknown("this is not the number of an upload: choose the file again")
    return upload_id
