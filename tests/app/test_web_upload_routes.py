"""The upload route in a real server: announcing, pieces, limits, broken lines, foreign pages, hostile names."""

import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.build import build_app, build_parts
from app.settings import load_settings
from app.web.guard import OwnPagesOnly, own_hosts
from app.web.parts import Served
from app.web.upload_routes import MAX_PIECE_BYTES, PREFIX, UploadRoutes
from app.web.uploads import Uploads

MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, object]


@dataclass(frozen=True)
class Browser:
    """Speaks to the server as our page does."""

    port: int
    served: Served

    def send(self, method: str, path: str = "", body: bytes | None = None, **changes: str | None) -> Reply:
        headers: dict[str, str | None] = {"Origin": f"http://127.0.0.1:{self.port}", "x-askaloud-token": self.served.token}
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with closing(connection):
            connection.request(method, PREFIX + path, body, {name: value for name, value in headers.items() if value is not None})
            answer = connection.getresponse()
            text = answer.read()
        return Reply(answer.status, json.loads(text) if text.startswith(b"{") else {"message": text.decode()})

    def announce(self, name: str, size_bytes: int, key: str = "k", **changes: str | None) -> Reply:
        return self.send("POST", "", json.dumps({"name": name, "size_bytes": size_bytes, "key": key}).encode(), **changes)

    def upload(self, name: str, data: bytes, piece_bytes: int = 2**16) -> Reply:
        upload_id = self.announce(name, len(data)).body["id"]
        for offset in range(0, len(data), piece_bytes):
            assert self.send("PUT", f"/{upload_id}?offset={offset}", data[offset : offset + piece_bytes]).status == 200
        return self.send("POST", f"/{upload_id}/complete")


@pytest.fixture
def browser(home: Path) -> Iterator[Browser]:
    settings = load_settings()
    parts = build_parts(settings)
    served = Served(settings, build_app(parts), Uploads(settings.upload_folder, MAX_BYTES, 0))
    app = Starlette(routes=UploadRoutes(lambda: served).routes(), middleware=[Middleware(OwnPagesOnly, hosts=own_hosts("127.0.0.1"))])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Browser(listener.getsockname()[1], served)
        server.should_exit = True
        thread.join()
    parts.library.close()
    parts.retriever.close()


def test_a_file_sent_in_pieces_becomes_a_lecture(browser: Browser, short_lecture: Path) -> None:
    reply = browser.upload("My volcano_talk.opus", short_lecture.read_bytes())
    assert reply.status == 200
    assert (reply.body["title"], reply.body["new"]) == ("My volcano talk", True)
    info = browser.served.qa.lectures()[0]
    assert str(info.lecture.id) == reply.body["lecture_id"]
    assert info.file_name == "My volcano_talk.opus"
    assert browser.served.qa.library.lectures.original_path(info.lecture.id).read_bytes() == short_lecture.read_bytes()
    assert list(browser.served.uploads.folder.iterdir()) == []


def test_the_same_file_sent_twice_is_one_lecture(browser: Browser, short_lecture: Path) -> None:
    first = browser.upload("a.opus", short_lecture.read_bytes())
    second = browser.upload("b.opus", short_lecture.read_bytes())
    assert (second.body["new"], second.body["lecture_id"]) == (False, first.body["lecture_id"])
    assert list(browser.served.uploads.folder.iterdir()) == []


def test_what_came_before_the_line_broke_is_kept(browser: Browser) -> None:
    data = bytes(range(256)) * 8192  # 2 MiB, of which the first half arrives
    upload_id = browser.announce("talk.wav", len(data)).body["id"]
    with socket.create_connection(("127.0.0.1", browser.port)) as line:
        head = (
            f"PUT {PREFIX}/{upload_id}?offset=0 HTTP/1.1\r\nHost: 127.0.0.1:{browser.port}\r\n"
            f"x-askaloud-token: {browser.served.token}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        line.sendall(head.encode() + data[: len(data) // 2])
        time.sleep(0.2)
    deadline = time.monotonic() + 10
    while (offset := browser.send("GET", f"/{upload_id}").body["offset"]) != len(data) // 2:
        assert time.monotonic() < deadline, offset
        time.sleep(0.05)
    reply = browser.announce("talk.wav", len(data))  # chosen again after the page was reloaded
    assert (reply.body["id"], reply.body["offset"]) == (upload_id, offset)
    assert browser.send("PUT", f"/{upload_id}?offset={offset}", data[len(data) // 2 :]).body["offset"] == len(data)
    assert browser.served.uploads.finish(str(upload_id)).read_bytes() == data


def test_a_piece_at_the_wrong_place_is_told_the_right_one(browser: Browser) -> None:
    upload_id = browser.announce("talk.wav", 100).body["id"]
    browser.send("PUT", f"/{upload_id}?offset=0", b"x" * 40)
    reply = browser.send("PUT", f"/{upload_id}?offset=0", b"x" * 40)
    assert reply.status == 409
    assert "begins at byte 40" in str(reply.body["message"])


@pytest.mark.parametrize("query", ["", "?offset=", "?offset=x", "?offset=1.5"])
def test_a_piece_without_a_place_is_refused(browser: Browser, query: str) -> None:
    upload_id = browser.announce("talk.wav", 100).body["id"]
    assert browser.send("PUT", f"/{upload_id}{query}", b"x").status == 400


def test_a_file_over_the_limit_is_refused_before_a_byte_is_sent(browser: Browser) -> None:
    reply = browser.announce("talk.wav", MAX_BYTES + 1)
    assert reply.status == 413
    assert "the limit is 64.0 MB" in str(reply.body["message"])


def test_a_piece_that_goes_on_beyond_what_was_announced_is_stopped(browser: Browser) -> None:
    upload_id = browser.announce("talk.wav", 100).body["id"]
    assert browser.send("PUT", f"/{upload_id}?offset=0", b"x" * 101).status == 413
    assert browser.send("GET", f"/{upload_id}").body["offset"] == 0


def test_an_endless_piece_is_stopped_while_it_is_read(browser: Browser) -> None:
    upload_id = browser.announce("talk.wav", MAX_BYTES).body["id"]
    num_sent = 0
    with socket.create_connection(("127.0.0.1", browser.port), timeout=10) as line:
        head = (
            f"PUT {PREFIX}/{upload_id}?offset=0 HTTP/1.1\r\nHost: 127.0.0.1:{browser.port}\r\n"
            f"x-askaloud-token: {browser.served.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        line.sendall(head.encode())
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while num_sent < MAX_BYTES:
                line.sendall(block)
                num_sent += 65536
        except OSError:
            pass  # the server hung up, as it should
        else:
            assert b" 413 " in line.recv(4096)
    deadline = time.monotonic() + 10
    while browser.served.uploads.get(str(upload_id)).received_bytes < MAX_PIECE_BYTES // 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert browser.served.uploads.get(str(upload_id)).received_bytes <= MAX_PIECE_BYTES


def test_a_piece_announced_too_large_is_refused_at_once(browser: Browser) -> None:
    upload_id = browser.announce("talk.wav", MAX_BYTES).body["id"]
    reply = browser.send("PUT", f"/{upload_id}?offset=0", b"x", content_length=str(MAX_PIECE_BYTES + 1))
    assert reply.status == 413


def test_a_disk_without_room_is_said(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.uploads.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    reply = browser.announce("talk.wav", 100)
    assert reply.status == 507
    assert "make room" in str(reply.body["message"])


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..\\..\\x.wav", "/etc/cron.d/x.wav", "a\x00b.wav", "<img src=x>.wav", "x.wav/../y"]
)
def test_a_hostile_name_is_only_text(browser: Browser, home: Path, name: str) -> None:
    before = {path for path in home.parent.rglob("*") if browser.served.uploads.folder not in path.parents}
    reply = browser.upload(name, b"this is no sound at all" * 100)
    assert reply.status == 422
    after = {path for path in home.parent.rglob("*") if browser.served.uploads.folder not in path.parents}
    assert after - before <= {browser.served.uploads.folder, *home.glob("*.db-*")}
    assert list(browser.served.uploads.folder.iterdir()) == []


def test_a_file_that_is_no_sound_is_refused_by_the_name_its_owner_knows(browser: Browser) -> None:
    reply = browser.upload("essay.mp3", b"this is no sound at all" * 100)
    assert reply.status == 422
    assert "essay.mp3" in str(reply.body["message"])
    assert browser.served.qa.lectures() == []


@pytest.mark.parametrize(
    "changes",
    [{"x_askaloud_token": "wrong"}, {"x_askaloud_token": None}, {"Origin": "http://evil.example"}, {"Host": "evil.example"}],
)
def test_requests_that_are_not_from_our_page_are_refused(browser: Browser, changes: dict[str, str | None]) -> None:
    assert browser.announce("talk.wav", 100, **changes).status == 403
    assert not browser.served.uploads.folder.exists() or list(browser.served.uploads.folder.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"name": "a.wav"}',
        b'{"name": 1, "size_bytes": 1, "key": "k"}',
        b'{"name": "a", "size_bytes": true, "key": "k"}',
    ],
)
def test_an_announcement_that_makes_no_sense_is_refused(browser: Browser, body: bytes) -> None:
    assert browser.send("POST", "", body).status == 400


def test_an_announcement_is_short(browser: Browser) -> None:
    assert browser.send("POST", "", b"x" * 5000).status == 413


def test_unknown_uploads_are_not_found(browser: Browser) -> None:
    unknown = "0" * 32
    assert browser.send("GET", f"/{unknown}").status == 404
    assert browser.send("PUT", f"/{unknown}?offset=0", b"x").status == 404
    assert browser.send("POST", f"/{unknown}/complete").status == 404
    assert browser.send("DELETE", f"/{unknown}").status == 200  # gone is gone


def test_an_incomplete_upload_is_no_lecture(browser: Browser) -> None:
    upload_id = browser.announce("talk.wav", 100).body["id"]
    assert browser.send("POST", f"/{upload_id}/complete").status == 409
    assert browser.send("DELETE", f"/{upload_id}").status == 200
    assert browser.send("GET", f"/{upload_id}").status == 404


def test_memory_stays_flat_however_large_the_file(browser: Browser) -> None:
    piece = bytes(4 * 2**20)
    upload_id = browser.announce("long.wav", MAX_BYTES).body["id"]
    browser.send("PUT", f"/{upload_id}?offset=0", piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for offset in range(len(piece), MAX_BYTES, len(piece)):
        assert browser.send("PUT", f"/{upload_id}?offset={offset}", piece).status == 200
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown_bytes < MAX_BYTES // 4
