"""The visitor's side of HTTP/1.1: one connection, one request at a time.

Theory of operation: bytes go through `_pending`; they are a head while no exchange runs, a body
while one is open, and wait otherwise, with reading paused. A deadline is an attribute that a
sweep compares once a second; a timer is made only for the moment before a close.

Invariants: answers leave in the order of the requests; at most one read's worth of bytes waits;
after a framing error nothing more is understood; what a visitor still sends after an early
answer is read and dropped for a moment, so that the answer is not lost to a reset.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from gateway.access_log import Line
from gateway.errors import Refusal
from gateway.exchange import Exchange
from gateway.headers import build_page_head, build_response_head
from gateway.heads import Body
from gateway.messages import BodyReader, RequestReader
from gateway.pages import build_page
from gateway.site import Site
from gateway.tls import get_sni
from gateway.tunnel import End

_LINGER_S = 2.0
_LINGER_QUIET_S = 0.5
_LINGER_BYTES = 4 * 1024 * 1024
_JOIN_BYTES = 64 * 1024

_HELD_BY_ORDER = 1
_HELD_BY_APP = 2


class Visitor(asyncio.Protocol):
    """A visitor's connection; `gone` is called once, when its transport is."""

    __slots__ = (
        "_body",
        "_gone",
        "_heir",
        "_holds",
        "_is_advancing",
        "_is_closing",
        "_is_write_paused",
        "_linger_bytes",
        "_pending",
        "_reader",
        "_served",
        "_site",
        "_transport",
        "_unsent",
        "deadline",
        "exchange",
        "peer_ip",
        "sni",
    )

    _transport: asyncio.Transport

    def __init__(self, site: Site, peer_ip: str, gone: Callable[[], None]) -> None:
        self.peer_ip = peer_ip
        self.sni: str | None = None
        self.exchange: Exchange | None = None
        self.deadline = site.now() + site.limits.request_head
        self._site = site
        self._gone = gone
        self._reader = RequestReader(site.heads)
        self._body: BodyReader | None = None
        self._heir: End | None = None
        self._pending = b""
        self._holds = 0
        self._served = 0
        self._linger_bytes = 0
        self._is_advancing = False
        self._is_closing = False
        self._is_write_paused = False
        self._unsent = 0

    def __repr__(self) -> str:
        state = "closing" if self._is_closing else "busy" if self.exchange else "idle"
        return f"<Visitor {self.peer_ip} {self.sni} {state} served={self._served}>"

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(self._site.limits.window_bytes)
        tls = transport.get_extra_info("ssl_object")
        self.sni = None if tls is None else get_sni(tls)
        self._site.waiting.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head, of a body, or of what must wait."""
        if self._heir is not None:
            self._heir.data_received(data)
            return
        if not self._is_closing:
            self._pending = self._pending + data if self._pending else data
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """The visitor is gone."""
        if self._heir is not None:
            self._heir.connection_lost(exc)
            return
        self._is_closing = True
        self._site.waiting.discard(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.visitor_lost()
        self._gone()

    def pause_writing(self) -> None:
        """The visitor is slow to read."""
        self._is_write_paused = True
        self._unsent = self._transport.get_write_buffer_size()
        if self.exchange is not None:
            self.exchange.pause_answer(True)

    def resume_writing(self) -> None:
        """The visitor has caught up."""
        self._is_write_paused = False
        if self.exchange is not None:
            self.exchange.pause_answer(False)
        else:
            self._advance()

    # What the exchange asks.

    @property
    def is_body_open(self) -> bool:
        """Whether more of the request's body is to come."""
        return self._body is not None

    @property
    def can_keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        site = self._site
        return self._served < site.limits.keep_alive_requests and not site.is_draining

    def write(self, pieces: list[bytes]) -> None:
        """Send; small pieces leave as one record, large ones are not copied."""
        if self._is_closing:
            return
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif sum(map(len, pieces)) <= _JOIN_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def hold_body(self, is_held: bool) -> None:
        """Stop or go on reading, for the app's sake."""
        self._hold(_HELD_BY_APP, is_held)

    def exchange_over(self, keep_alive: bool) -> None:
        """The exchange is done: go on with the next request, or end."""
        self.exchange = None
        if self._body is not None:
            self._linger()
        elif keep_alive:
            self.deadline = self._site.now() + self._site.limits.keep_alive
            self._hold(_HELD_BY_APP, False)
            self._advance()
        else:
            self._close()

    def abort(self) -> None:
        """End so that the visitor sees that the answer was cut."""
        self.exchange = None
        if not self._is_closing:
            self._is_closing = True
            self._transport.abort()

    def hand_over(self, end: End) -> bytes:
        """Give the transport to a tunnel; returns what came after the request."""
        self._heir = end
        self.exchange = None
        self._site.waiting.discard(self)
        end.take(self._transport)
        early, self._pending = self._pending, b""
        return early

    def gone(self) -> None:
        """The tunnel that took the transport is over."""
        self._gone()

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = self._site.now() + self._site.limits.write_stall
        if self._is_write_paused and self._has_read_some():
            return
        if self.exchange is not None:
            self.exchange.expire()
        elif self._is_closing:
            self._transport.abort()
        elif self._linger_bytes or self._reader.is_idle:
            self._close()
        else:
            self._refuse(Refusal.of("header_timeout"))

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way, or written and not yet gone."""
        return self.exchange is not None or self._transport.get_write_buffer_size() > 0

    def drain(self) -> None:
        """Close if nothing is under way; otherwise the answer under way is the last."""
        if self.exchange is None and self._reader.is_idle and not self._pending:
            self._close()

    # Inside.

    def _advance(self) -> None:
        """Make what can be made of the bytes that wait."""
        if self._is_advancing:
            return
        self._is_advancing = True
        while self._pending and not self._is_closing:
            data, self._pending = self._pending, b""
            if self._linger_bytes:
                self._drop(data)
            elif self._body is not None:
                self._take_body(self._body, data)
            elif self.exchange is None and not self._is_write_paused:
                self._take_head(data)
            else:
                self._pending = data
                break
        self._is_advancing = False
        if self._pending or self._holds & _HELD_BY_ORDER:
            self._hold(_HELD_BY_ORDER, bool(self._pending))

    def _take_head(self, data: bytes) -> None:
        reader = self._reader
        was_idle = reader.is_idle
        try:
            head = reader.feed(data)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if head is None:
            if was_idle:
                self.deadline = self._site.now() + self._site.limits.request_head
            return
        self._served += 1
        self._pending = reader.leftover
        if head.body is not Body.none:
            body = reader.open_body(head)
            self._body = None if body.is_complete else body
        exchange = self.exchange = Exchange(self._site, self, head, self._site.now())
        exchange.start()
        if head.body is not Body.none and self._body is None and self.exchange is exchange:
            exchange.end_body()

    def _take_body(self, body: BodyReader, data: bytes) -> None:
        exchange = self.exchange
        try:
            piece = body.feed(data)
        except Refusal as refusal:
            if exchange is not None:
                exchange.refuse(refusal)
            return
        if body.is_complete:
            self._body = None
            self._pending = body.leftover
        if piece and exchange is not None:
            exchange.send_body(piece)
        if body.is_complete and exchange is not None and self.exchange is exchange:
            exchange.end_body()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what could not be understood as a request, log it, and understand no more."""
        site = self._site
        page, content_type = build_page(refusal.status, refusal.reason)
        head = build_page_head(refusal.reason, content_type, len(page))
        built = build_response_head(head, b"1.1", False, True, date=site.date, hsts=site.hsts)
        self.write([built, page])
        site.log.add(
            Line(
                event="request",
                time=site.wall(),
                status=refusal.status,
                duration_s=0.0,
                reason=refusal.reason,
                request_id=site.build_request_id(),
                peer_ip=self.peer_ip,
                bytes_out=len(page),
            )
        )
        self._linger()

    def _has_read_some(self) -> bool:
        """Whether a slow visitor has taken anything since it was last looked at."""
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        return self._unsent < before

    def _hold(self, reason: int, is_held: bool) -> None:
        holds = self._holds | reason if is_held else self._holds & ~reason
        if bool(holds) != bool(self._holds) and not self._is_closing:
            if holds:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        self._holds = holds

    def _linger(self) -> None:
        """Read and drop what is on its way, then close (RFC 9112 section 9.6)."""
        self._body = None
        self._pending = b""
        self._linger_bytes = _LINGER_BYTES
        self._hold(_HELD_BY_APP, False)
        self._await_quiet(0, self._site.now() + _LINGER_S)

    def _await_quiet(self, seen_bytes: int, end: float) -> None:
        """Close once nothing came for a moment, or at the instant `end`."""
        if self._linger_bytes == seen_bytes or self._site.now() >= end:
            self._close()
        else:
            self._site.later(_LINGER_QUIET_S, self._await_quiet, self._linger_bytes, end)

    def _drop(self, data: bytes) -> None:
        self._linger_bytes -= len(data)
        if self._linger_bytes <= 0:
            self._close()

    def _close(self) -> None:
        """Close once everything written has left, or at the deadline."""
        if not self._is_closing:
            self._hold(_HELD_BY_APP | _HELD_BY_ORDER, False)
            self._is_closing = True
            self.deadline = self._site.now() + self._site.limits.write_stall
            self._transport.close()
