"""Plain HTTP: one answer, which is the way to the TLS door.

Invariants: nothing is served and nothing is relayed in plain text; only a request that is well
formed, for a host that is well formed, is redirected; the connection ends with the answer.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.address import parse_authority
from gateway.errors import Refusal
from gateway.headers import build_page_head, build_response_head
from gateway.heads import Body, RequestHead, ResponseHead
from gateway.messages import RequestReader
from gateway.pages import build_page
from gateway.site import Site

_DEFAULT_PORT = 443
_LINGER_S = 2.0


def build_location(head: RequestHead, port: int) -> bytes:
    """The same address by https, at `port`."""
    authority = parse_authority(head.authority)
    if authority is None:
        raise Refusal.of("bad_host")
    suffix = "" if port == _DEFAULT_PORT else f":{port}"
    target = b"/" if head.target == b"*" else head.target
    return b"https://" + f"{authority.host}{suffix}".encode("ascii") + target


class Redirect(asyncio.Protocol):
    """A connection in plain text."""

    __slots__ = ("_gone", "_has_answered", "_reader", "_site", "_transport", "deadline")

    _transport: asyncio.Transport

    def __init__(self, site: Site, gone: Callable[[], None]) -> None:
        self._site = site
        self._gone = gone
        self._reader = RequestReader(site.heads)
        self._has_answered = False
        self.deadline = site.now() + site.limits.request_head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for one head."""
        self._transport = cast(asyncio.Transport, transport)
        self._site.waiting.add(self)

    def data_received(self, data: bytes) -> None:
        """A head, or what follows the answer and is dropped."""
        if self._has_answered:
            return
        try:
            head = self._reader.feed(data)
            if head is not None:
                self._redirect(head)
        except Refusal as refusal:
            page, content_type = build_page(refusal.status, refusal.reason)
            self._answer(build_page_head(refusal.reason, content_type, len(page)), page)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - all ends are alike
        """Over."""
        self._site.waiting.discard(self)
        self._gone()

    @property
    def is_busy(self) -> bool:
        """Never: the answer is one packet."""
        return False

    def drain(self) -> None:
        """End."""
        self._transport.close()

    def expire(self) -> None:
        """Too slow, or answered and still here."""
        self._transport.abort()

    def _redirect(self, head: RequestHead) -> None:
        location = build_location(head, self._site.https_port)
        fields = ((b"location", location), (b"cache-control", b"no-store"))
        self._answer(ResponseHead(308, fields, Body.none, 0), b"")

    def _answer(self, head: ResponseHead, body: bytes) -> None:
        """Say it, half close, and give the visitor a moment to read (RFC 9112 section 9.6)."""
        self._has_answered = True
        built = build_response_head(head, b"1.1", False, False, date=self._site.date)
        self._transport.write(built + body)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.deadline = self._site.now() + _LINGER_S
