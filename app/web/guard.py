"""Keeps other sites out: what the browser sends must be meant for this server and come from its own pages, and pages may load nothing else.

An address that another site made to point at this machine (DNS rebinding) is refused by its name; a page of another site that sends
requests here is refused by its origin. Both hold for sockets as well, before Streamlit sees them.
"""

from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose


class OwnPagesOnly:
    """ASGI middleware that serves only requests to `hosts` from pages of the same address.

    Attributes:
        hosts: names this server is reached by; empty means any (it listens to the network, under names we cannot know).
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._is_own(headers):
            await self.app(scope, receive, _with_policy(send, headers.get("host", "")))
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason="foreign page")(scope, receive, send)
        else:
            refusal = PlainTextResponse("This server answers only its own pages, at its own address.", HTTPStatus.FORBIDDEN)
            await refusal(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname
            sent_from = None if origin is None else urlsplit(origin).netloc
        except ValueError:  # no address at all
            return False
        if name is None or (self.hosts and name not in self.hosts):
            return False
        return sent_from is None or sent_from == host


def own_hosts(bound_host: str, public_hosts: Iterable[str] = ()) -> frozenset[str]:
    """Return the names by which a server bound to this address is reached; empty if they cannot be known."""
    named = {name.lower() for name in public_hosts}
    try:
        is_local = bound_host == "localhost" or ip_address(bound_host).is_loopback
    except ValueError:
        return frozenset({bound_host.lower(), *named})
    return frozenset({"localhost", "127.0.0.1", "::1", bound_host, *named}) if is_local else frozenset(named)


def _with_policy(send: Send, host: str) -> Send:
    policy = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        f"connect-src 'self' ws://{host} wss://{host} blob: data:; img-src 'self' data: blob:; media-src 'self' data: blob:; "
        "font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    )

    async def send_with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = policy  # no request of a page leaves this machine
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
        await send(message)

    return send_with_policy
