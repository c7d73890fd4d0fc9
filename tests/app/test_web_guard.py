"""The guard against other sites."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.web.guard import OwnPagesOnly, own_hosts

LOCAL = own_hosts("127.0.0.1")


def ask(kind: str, headers: dict[str, str], hosts: frozenset[str] = LOCAL) -> list[Message]:
    """Return what the guarded application answers to one request."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ours"})

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "path": "/",
        "method": "GET",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(OwnPagesOnly(app, hosts)(scope, receive, send))
    return sent


@pytest.mark.parametrize("host", ["localhost:8501", "127.0.0.1:8501", "[::1]:8501", "LOCALHOST"])
def test_own_addresses_are_served(host: str) -> None:
    assert ask("http", {"host": host, "origin": f"http://{host}"})[0]["status"] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8501"},
        {"host": ""},
        {},
        {"host": "localhost:8501", "origin": "http://evil.example"},
        {"host": "localhost:8501", "origin": "http://localhost:9999"},
        {"host": "localhost:8501", "origin": "null"},
        {"host": "[::1"},
        {"host": "localhost:8501", "origin": "http://[::1"},
    ],
)
def test_other_addresses_and_other_sites_are_refused(headers: dict[str, str]) -> None:
    assert ask("http", headers)[0]["status"] == 403
    assert ask("websocket", headers)[0]["type"] == "websocket.close"


def test_a_server_on_the_network_knows_no_names_but_still_checks_the_origin() -> None:
    hosts = own_hosts("0.0.0.0")
    assert ask("http", {"host": "lectures.example:8501"}, hosts)[0]["status"] == 200
    assert ask("http", {"host": "lectures.example:8501", "origin": "http://evil.example"}, hosts)[0]["status"] == 403


def test_a_proxy_serves_under_the_names_that_the_settings_give() -> None:
    hosts = own_hosts("127.0.0.1", ["Lectures.example.org"])
    assert ask("http", {"host": "lectures.example.org", "origin": "https://lectures.example.org"}, hosts)[0]["status"] == 200
    assert ask("http", {"host": "other.example.org"}, hosts)[0]["status"] == 403


def test_pages_may_load_nothing_from_elsewhere() -> None:
    start = ask("http", {"host": "localhost:8501"})[0]
    policy = dict(start["headers"])[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "ws://localhost:8501" in policy
    assert "http:" not in policy.replace("http://localhost", "")
    assert "*" not in policy
