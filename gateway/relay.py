"""The app's side: one mutual-TLS connection, one exchange at a time.

Invariants: no byte is sent to a peer that did not prove the upstream's identity; one request is
in flight per connection; what an app says unasked, or beyond its answer, ends the connection; a
body that was cut short is never reported as ended.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from gateway.errors import Refusal
from gateway.heads import Limits, RequestHead, ResponseHead
from gateway.messages import BodyReader, EndlessBody, ResponseReader
from gateway.tls import PeerIdentityError, check_peer
from gateway.tunnel import End


class Answers(Protocol):
    """Whoever asked: told of the answer as it arrives, then exactly once that it is over.

    Over is `response_ended`, `response_failed` or `response_upgraded`; after it the connection
    is no longer theirs, except that after `response_upgraded` its transport is.
    """

    def response_interim(self, head: ResponseHead) -> None:
        """A 1xx came."""

    def response_started(self, head: ResponseHead) -> None:
        """The final head came."""

    def response_body(self, body: bytes) -> None:
        """Some of the body came, decoded."""

    def response_flush(self) -> None:
        """Nothing more has come for now: what was kept back should leave."""

    def response_ended(self) -> None:
        """The answer is whole."""

    def response_upgraded(self, head: ResponseHead, leading: bytes) -> None:
        """A valid 101 came, followed by `leading`."""

    def response_failed(self, reason: str, is_untouched: bool) -> None:
        """It will not be whole; `is_untouched` = not a byte of an answer had come."""

    def request_paused(self, is_paused: bool) -> None:
        """Whether more of the request's body should wait."""


class Asker(Protocol):
    """Whoever sent a request: `sni` is the folded name its connection was opened for."""

    peer_ip: str
    sni: str | None
    deadline: float

    @property
    def is_body_open(self) -> bool:
        """Whether more of the request's body is to come."""

    @property
    def can_keep_alive(self) -> bool:
        """Whether the connection may serve another request."""

    def write(self, pieces: list[bytes]) -> None:
        """Send; the list is not kept."""

    def hold_body(self, is_held: bool) -> None:
        """Whether reading more of the body should wait."""

    def exchange_over(self, keep_alive: bool) -> None:
        """This exchange is done and the next may begin."""

    def abort(self) -> None:
        """End the connection so that the answer is seen to be cut."""

    def hand_over(self, end: End) -> bytes:
        """Give the transport away; returns the bytes that came after the head."""

    def gone(self) -> None:
        """The transport that was given away is gone."""


class AppConnection(asyncio.Protocol):
    """A connection to an agent; `on_over` gives it back, reusable or not, after each exchange."""

    __slots__ = (
        "_answers",
        "_body",
        "_has_ended",
        "_heir",
        "_is_sent",
        "_limits",
        "_on_over",
        "_reader",
        "_response",
        "_spiffe_id",
        "_window_bytes",
        "fault",
        "is_closed",
        "served",
        "transport",
        "upstream",
    )

    def __init__(
        self,
        upstream: str,
        spiffe_id: str,
        limits: Limits,
        window_bytes: int,
        on_over: Callable[["AppConnection", bool], None],
    ) -> None:
        self.upstream = upstream
        self.transport: asyncio.Transport | None = None
        self.fault: PeerIdentityError | None = None
        self.is_closed = False
        self.served = 0
        self._spiffe_id = spiffe_id
        self._limits = limits
        self._window_bytes = window_bytes
        self._on_over = on_over
        self._answers: Answers | None = None
        self._reader: ResponseReader | None = None
        self._response: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._heir: End | None = None
        self._is_sent = False
        self._has_ended = False

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "busy" if self._answers else "idle"
        return f"<AppConnection {self.upstream} {state} served={self.served}>"

    # The exchange, as its asker drives it.

    def start(self, answers: Answers, request: RequestHead, head: bytes) -> None:
        """Send a request's head; the body follows by `send_body`, then `end_request`."""
        self._answers = answers
        self._reader = ResponseReader(request, self._limits)
        self._response = None
        self._body = None
        self._is_sent = False
        self.served += 1
        self._write(head)

    def send_body(self, body: bytes) -> None:
        """Send more of the request, framed."""
        self._write(body)

    def end_request(self) -> None:
        """The request is whole."""
        self._is_sent = True

    def pause(self, is_paused: bool) -> None:
        """Stop or go on reading the answer."""
        if self.transport is None or self.is_closed:
            return
        if is_paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def abandon(self) -> None:
        """The asker is gone: nobody is told anything more, and the connection ends."""
        self._answers = None
        self.close()

    def close(self) -> None:
        """End the connection at once."""
        if not self.is_closed:
            self.is_closed = True
            if self.transport is not None:
                self.transport.abort()
            self._on_over(self, False)

    def hand_over(self, end: End) -> None:
        """Give the transport to a tunnel after an upgrade."""
        if self.transport is None:
            raise RuntimeError("a connection that was never made has no transport")
        self._heir = end
        self.is_closed = True
        end.take(self.transport)
        self._on_over(self, False)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done: check who is there before anything is said."""
        self.transport = cast(asyncio.Transport, transport)
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            check_peer(tls, self._spiffe_id)
        except PeerIdentityError as error:
            self.fault = error
            self.is_closed = True
            self.transport.abort()
            return
        self.transport.set_write_buffer_limits(self._window_bytes)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer, or of nothing that was asked for."""
        answers = self._answers
        if answers is None:
            if self._heir is not None:
                self._heir.data_received(data)
            else:
                self.close()
            return
        try:
            self._take(answers, data)
        except Refusal as refusal:
            self._fail(refusal.reason)

    def eof_received(self) -> None:
        """The peer said that it is done (close_notify); uvloop tells only an honest end."""
        self._has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        if self._heir is not None:
            self._heir.connection_lost(exc)
            return
        if self._answers is not None and self._has_ended and isinstance(self._body, EndlessBody):
            self._finish(self._answers, b"")
            return
        self._fail("upstream_closed")

    def pause_writing(self) -> None:
        """The app is slow to read."""
        if self._answers is not None:
            self._answers.request_paused(True)

    def resume_writing(self) -> None:
        """The app has caught up."""
        if self._answers is not None:
            self._answers.request_paused(False)

    # Inside.

    def _write(self, data: bytes) -> None:
        if self.transport is not None and not self.is_closed:
            self.transport.write(data)

    def _take(self, answers: Answers, data: bytes) -> None:
        body = self._body
        if body is None:
            body = self._take_heads(answers, data)
            if body is None or self._reader is None:
                return
            data = self._reader.leftover
        if data and not body.is_complete:
            piece = body.feed(data)
            if piece:
                answers.response_body(piece)
            data = body.leftover
        if self._answers is not answers:
            return
        if body.is_complete:
            self._finish(answers, data)
        else:
            answers.response_flush()

    def _take_heads(self, answers: Answers, data: bytes) -> BodyReader | None:
        reader = self._reader
        while reader is not None and self._answers is answers:
            head = reader.feed(data)
            if head is None:
                return None
            if head.is_upgrade:
                self._answers = None
                answers.response_upgraded(head, reader.leftover)
                return None
            if not head.is_interim:
                self._response = head
                self._body = reader.open_body(head)
                answers.response_started(head)
                return self._body if self._answers is answers else None
            answers.response_interim(head)
            data = reader.leftover
            if not data:
                return None
        return None

    def _finish(self, answers: Answers, surplus: bytes) -> None:
        response, self._response = self._response, None
        self._answers = self._reader = self._body = None
        is_reusable = (
            response is not None
            and response.keep_alive
            and self._is_sent
            and not surplus
            and not self.is_closed
        )
        if is_reusable:
            self._on_over(self, True)
        else:
            self.close()
        answers.response_ended()

    def _fail(self, reason: str) -> None:
        answers, self._answers = self._answers, None
        is_untouched = self._response is None and (self._reader is None or self._reader.is_idle)
        self._reader = self._body = None
        self.close()
        if answers is not None:
            answers.response_failed(reason, is_untouched)
