"""Partial uploads on disk: limits, offsets, names, room, age."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.uploads import UploadOutOfStep, UploadRefused, Uploads, UploadTooLarge, UploadUnknown, clean_name
from storage.errors import DiskFull

LIMIT = 1000


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", max_bytes=LIMIT, min_free_bytes=0)


def test_pieces_make_the_whole(uploads: Uploads) -> None:
    upload = uploads.begin("talk.MP3", 10, "k")
    uploads.append(upload.id, 0, b"hello")
    assert uploads.get(upload.id).received_bytes == 5
    assert uploads.append(upload.id, 5, b"world").is_whole
    path = uploads.finish(upload.id)
    assert path.read_bytes() == b"helloworld"
    assert path.suffix == ".mp3"
    with pytest.raises(UploadUnknown):
        uploads.get(upload.id)


def test_the_same_file_announced_again_goes_on(uploads: Uploads) -> None:
    first = uploads.begin("talk.mp3", 10, "k")
    uploads.append(first.id, 0, b"hello")
    again = uploads.begin("talk.mp3", 10, "k")
    assert (again.id, again.received_bytes) == (first.id, 5)


def test_another_content_of_the_same_name_is_another_upload(uploads: Uploads) -> None:
    assert uploads.begin("talk.mp3", 10, "k").id != uploads.begin("talk.mp3", 10, "other").id


def test_a_piece_at_the_wrong_place_is_refused(uploads: Uploads) -> None:
    upload = uploads.begin("talk.mp3", 10, "k")
    uploads.append(upload.id, 0, b"hello")
    for offset in (0, 4, 6, -1):
        with pytest.raises(UploadOutOfStep, match="begins at byte 5"):
            uploads.append(upload.id, offset, b"world")
    assert uploads.get(upload.id).received_bytes == 5


def test_more_bytes_than_announced_are_refused(uploads: Uploads) -> None:
    upload = uploads.begin("talk.mp3", 10, "k")
    with pytest.raises(UploadTooLarge, match="announced with 10 bytes"):
        uploads.append(upload.id, 0, b"x" * 11)
    assert uploads.get(upload.id).received_bytes == 0


def test_the_limit_is_exact(uploads: Uploads) -> None:
    assert uploads.begin("talk.mp3", LIMIT, "k").size_bytes == LIMIT
    with pytest.raises(UploadTooLarge, match="the limit is"):
        uploads.begin("talk.mp3", LIMIT + 1, "k")


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_file_is_refused(uploads: Uploads, size: int) -> None:
    with pytest.raises(UploadRefused, match="empty"):
        uploads.begin("talk.mp3", size, "k")


def test_an_incomplete_upload_cannot_be_finished(uploads: Uploads) -> None:
    upload = uploads.begin("talk.mp3", 10, "k")
    with pytest.raises(UploadOutOfStep, match="0 of 10 bytes"):
        uploads.finish(upload.id)


def test_a_cancelled_upload_leaves_nothing(uploads: Uploads) -> None:
    upload = uploads.begin("talk.mp3", 10, "k")
    uploads.append(upload.id, 0, b"hello")
    uploads.cancel(upload.id)
    uploads.cancel(upload.id)
    assert list(uploads.folder.iterdir()) == []


def test_room_promised_to_other_uploads_is_not_promised_twice(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    num_free = free.f_bavail * free.f_frsize
    uploads = Uploads(tmp_path, max_bytes=2 * num_free, min_free_bytes=0)
    uploads.begin("half.wav", num_free * 6 // 10, "k")
    with pytest.raises(DiskFull, match="make room"):
        uploads.begin("other half.wav", num_free * 6 // 10, "k")


@pytest.mark.parametrize("left", ["data", "note"])
def test_half_an_upload_that_a_crash_left_stops_neither_others_nor_the_same_again(uploads: Uploads, left: str) -> None:
    upload = uploads.begin("talk.mp3", 10, "k")
    note, data = (uploads.folder / f"{upload.id}.{ending}" for ending in ("json", "part"))
    if left == "data":
        note.write_text("")  # cut short by the crash
    else:
        data.unlink()
    assert uploads.begin("other.mp3", 10, "k").name == "other.mp3"
    assert uploads.begin("talk.mp3", 10, "k") == upload


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: a full disk cannot be had")
def test_a_full_disk_while_writing_is_said(uploads: Uploads) -> None:
    upload = uploads.begin("talk.mp3", 10, "k")
    (uploads.folder / f"{upload.id}.part").unlink()
    (uploads.folder / f"{upload.id}.part").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"talk\.mp3 cannot be kept"):
        uploads.append(upload.id, 0, b"hello")


def test_what_nobody_went_on_with_for_a_day_is_swept(uploads: Uploads) -> None:
    old, young = uploads.begin("old.mp3", 10, "k"), uploads.begin("young.mp3", 10, "k")
    yesterday = time.time() - 25 * 3600
    for path in uploads.folder.glob(f"{old.id}*"):
        os.utime(path, (yesterday, yesterday))
    os.utime(uploads.folder / f"{young.id}.json", (yesterday, yesterday))  # announced long ago, still growing
    assert uploads.sweep() == 2
    assert uploads.get(young.id).name == "young.mp3"
    with pytest.raises(UploadUnknown):
        uploads.get(old.id)


@pytest.mark.parametrize("upload_id", ["", "..", "../../etc/passwd", "a" * 31, "A" * 32, "g" * 32, "a" * 32 + "/x", "a" * 32])
def test_only_numbers_of_uploads_are_looked_for(uploads: Uploads, upload_id: str) -> None:
    with pytest.raises(UploadUnknown):
        uploads.get(upload_id)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\talk.mp3", "talk.mp3"),
        ("a\x00b\nc.mp3", "a b c.mp3"),
        ("Übung 3 – 音.mp3", "Übung 3 – 音.mp3"),
    ],
)
def test_a_name_is_text_without_folders(name: str, expected: str) -> None:
    assert clean_name(name) == expected


@pytest.mark.parametrize("name", ["", "..", "/", "a/..", " . ", "\x00", "x" * 256])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(UploadRefused, match="rename it"):
        clean_name(name)


@given(st.text(max_size=60))
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    uploads = Uploads(folder / "uploads", LIMIT, 0)
    try:
        upload = uploads.begin(name, 1, "k")
    except UploadRefused:
        return
    uploads.append(upload.id, 0, b"x")
    path = uploads.finish(upload.id)
    assert path.parent == folder / "uploads"
    assert [one.name for one in folder.iterdir()] == ["uploads"]
