"""One request from its decided head to its line in the log.

Theory of operation: the visitor's protocol drives it forward (`start`, `send_body`, `end_body`),
the app's connection answers into it (`response_…`), and either may end it; no task is made for a
request that finds a pooled connection.

Invariants: whatever happens, in-flight goes down once and one line is written; what was decided
by one table is carried out under that table; an answer is never completed that the app did not
complete.
"""

import asyncio
from enum import Enum

from gateway.access_log import Line
from gateway.admission import check_request, pick_route, pick_upstream
from gateway.errors import Refusal
from gateway.framing import pick_visitor_body
from gateway.headers import (
    build_page_head,
    build_request_head,
    build_response_head,
    forwards_interim,
)
from gateway.heads import Body, RequestHead, ResponseHead
from gateway.messages import is_event_stream
from gateway.pages import build_page, wants_json
from gateway.pool import FULL, OPEN
from gateway.relay import AppConnection, Asker
from gateway.routes import Route
from gateway.site import Site
from gateway.tunnel import Tunnel
from gateway.upstream import Upstream

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PROPFIND", b"DELETE"})
_STATUS_VISITOR_GONE = 499


class Phase(Enum):
    """How far an exchange has come, as seen from the answer."""

    waiting = "waiting"
    answering = "answering"
    over = "over"


class Exchange:
    """A request and its answer; implements `relay.Answers` and `site.Work`."""

    __slots__ = (
        "_attempt",
        "_body_limit_bytes",
        "_connection",
        "_has_sent_all",
        "_held",
        "_idle_s",
        "_is_chunked",
        "_keep_alive",
        "_out",
        "_phase",
        "_retries",
        "_slow_s",
        "_slow_since",
        "_started",
        "_status",
        "_upstream",
        "asker",
        "bytes_in",
        "bytes_out",
        "head",
        "request_id",
        "route",
        "site",
    )

    def __init__(self, site: Site, asker: Asker, head: RequestHead, now: float) -> None:
        self.site = site
        self.asker = asker
        self.head = head
        self.route: Route | None = None
        self.request_id = site.build_request_id()
        self._started = now
        self._upstream: Upstream | None = None
        self._connection: AppConnection | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._phase = Phase.waiting
        self._held: list[bytes] = []
        self._has_sent_all = head.body is Body.none
        self._out: list[bytes] = []
        self._is_chunked = False
        self._keep_alive = False
        self._idle_s = site.limits.response_idle
        self._retries = 1
        self._slow_since = self._slow_s = 0.0
        self._body_limit_bytes = site.limits.body_bytes
        self._status = 0
        self.bytes_in = self.bytes_out = 0

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self._phase.value} {self._connection!r}>"

    # The visitor's side drives.

    def start(self) -> None:
        """Admit the request and send it on its way, or refuse it."""
        site, head = self.site, self.head
        try:
            route = self.route = pick_route(site.table, head, self.asker.sni)
            if route.max_body_bytes is not None:
                self._body_limit_bytes = route.max_body_bytes
            check_request(head, route, self._body_limit_bytes)
            upstream = pick_upstream(site.upstreams, route)
            site.admit(upstream, self)
            self._upstream = upstream
            self._connect(upstream)
        except Refusal as refusal:
            self.refuse(refusal)

    def send_body(self, body: bytes) -> None:
        """More of the request's body, decoded."""
        self.bytes_in += len(body)
        if self._phase is Phase.over:
            return
        if self.bytes_in > self._body_limit_bytes:
            self.refuse(Refusal.of("body_too_large"))
            return
        if self.head.body is Body.chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body)
        if self._connection is None:
            self._held.append(body)
            self.asker.hold_body(True)
        else:
            self._connection.send_body(body)
        self._set_body_deadline()

    def end_body(self) -> None:
        """The request's body is whole."""
        self._has_sent_all = True
        if self._connection is not None:
            self._end_request(self._connection)

    def visitor_lost(self) -> None:
        """The visitor is gone."""
        if self._phase is not Phase.over:
            self._end("visitor_closed", self._status or _STATUS_VISITOR_GONE)

    def pause_answer(self, is_paused: bool) -> None:
        """The visitor is slow to read, or has caught up."""
        if self._connection is not None:
            self._connection.pause(is_paused)
        if self._phase is Phase.answering:
            self._set_deadline(self.site.limits.write_stall if is_paused else self._idle_s)

    def expire(self) -> None:
        """A deadline has passed: whose fault it is decides what is answered."""
        if self._phase is Phase.answering:
            self._cut_answer("response_timeout")
        elif self.asker.is_body_open and not self._slow_since:
            self.refuse(Refusal.of("body_timeout"))
        else:
            self.refuse(Refusal.of("upstream_timeout", close=False))

    def cut(self) -> None:
        """The operator wants it ended."""
        if self._phase is Phase.answering:
            self._cut_answer("cut")
        else:
            self.refuse(Refusal.of("app_draining"))

    def refuse(self, refusal: Refusal) -> None:
        """Answer with a page of ours; an answer that has begun is cut instead."""
        if self._phase is Phase.over:
            return
        if self._phase is Phase.answering:
            self._cut_answer(refusal.reason)
            return
        keep_alive = not refusal.close and self._can_keep_alive()
        head, page = self._build_refusal(refusal)
        body = b"" if self.head.method == b"HEAD" else page
        self.bytes_out = len(body)
        self.asker.write([self._build_head(head, keep_alive), body])
        self._end(refusal.reason, refusal.status)
        self.asker.exchange_over(keep_alive)

    # The app's side answers.

    def response_interim(self, head: ResponseHead) -> None:
        """A 1xx: early hints go on, the rest is ours to say."""
        if forwards_interim(head, self.head.version):
            self.asker.write([self._build_head(head, True)])

    def response_started(self, head: ResponseHead) -> None:
        """The final head: what follows is streamed."""
        self._phase = Phase.answering
        self._status = head.status
        body = pick_visitor_body(head, self.head.version)
        self._is_chunked = body is Body.chunked
        self._keep_alive = body is not Body.until_close and self._can_keep_alive()
        self._out.append(self._build_head(head, self._keep_alive))
        if is_event_stream(head):
            self._idle_s = self.site.limits.tunnel_idle
        self._set_deadline(self._idle_s)

    def response_body(self, body: bytes) -> None:
        """Some of the answer's body."""
        self.bytes_out += len(body)
        if self._is_chunked:
            self._out += (b"%x\r\n" % len(body), body, b"\r\n")
        else:
            self._out.append(body)

    def response_flush(self) -> None:
        """Nothing more for now: what there is leaves at once."""
        if self._out:
            out, self._out = self._out, []
            self._set_deadline(self._idle_s)
            self.asker.write(out)

    def response_ended(self) -> None:
        """The answer is whole."""
        if self._is_chunked:
            self._out.append(_LAST_CHUNK)
        self.response_flush()
        self._connection = None
        if self._phase is not Phase.over:
            self._end("", self._status)
            self.asker.exchange_over(self._keep_alive)

    def response_upgraded(self, head: ResponseHead, leading: bytes) -> None:
        """A valid 101: the two sides are joined."""
        connection, upstream = self._connection, self._upstream
        if connection is None or upstream is None:
            return
        self._connection = None
        self._status = head.status
        self.asker.write([self._build_head(head, True)])
        line = self._build_line("open", "")
        self.site.log.add(line)
        tunnel = Tunnel(self.site, upstream, line, self.site.limits.tunnel_idle, self.asker.gone)
        self._phase = Phase.over
        self.site.hand_over(upstream, self, tunnel)
        connection.hand_over(tunnel.app)
        tunnel.start(self.asker.hand_over(tunnel.visitor), leading)

    def response_failed(self, reason: str, is_untouched: bool) -> None:
        """The app let us down: try again where that is safe, say so, or cut."""
        connection, self._connection = self._connection, None
        if self._phase is Phase.answering:
            self._cut_answer(reason)
        elif is_untouched and connection is not None and self._can_retry(connection):
            self._retry(connection)
        else:
            self.refuse(Refusal.of(reason, close=False))

    def request_paused(self, is_paused: bool) -> None:
        """The app is slow to read the request: that time is not the visitor's."""
        self.asker.hold_body(is_paused)
        now = self.site.now()
        if is_paused:
            self._slow_since = now
            self._set_deadline(self.site.limits.response_head)
        else:
            self._slow_s += now - self._slow_since
            self._slow_since = 0.0
            self._set_body_deadline()

    # Decisions.

    def _can_keep_alive(self) -> bool:
        return self.head.keep_alive and self.asker.can_keep_alive and not self.asker.is_body_open

    def _can_retry(self, connection: AppConnection) -> bool:
        """RFC 9110 section 9.2.2: only what may be repeated, on a connection that had idled."""
        return (
            self._retries > 0
            and connection.served > 1
            and self.head.body is Body.none
            and self.head.method in _REPEATABLE
        )

    # Steps.

    def _connect(self, upstream: Upstream) -> None:
        answer = self.site.dialer.take(upstream)
        if answer is FULL:
            raise Refusal.of("app_busy", close=False)
        self._set_deadline(self.site.limits.response_head)
        if answer is OPEN:
            self._attempt = self.site.dialer.open(upstream, self._opened, self._dial_failed)
        else:
            self._opened(answer)

    def _opened(self, connection: AppConnection) -> None:
        self._attempt = None
        self._connection = connection
        asker, head = self.asker, self.head
        connection.start(
            self,
            head,
            build_request_head(head, asker.peer_ip, "https", self.site.https_port, self.request_id),
        )
        if head.expect_continue and asker.is_body_open and not self.bytes_in:
            asker.write([_CONTINUE])
        if self._held:
            held, self._held = self._held, []
            connection.send_body(b"".join(held))
            asker.hold_body(False)
        if self._has_sent_all:
            self._end_request(connection)

    def _dial_failed(self, reason: str) -> None:
        self._attempt = None
        self.refuse(Refusal.of(reason, close=False))

    def _end_request(self, connection: AppConnection) -> None:
        if self.head.body is Body.chunked:
            connection.send_body(_LAST_CHUNK)
        connection.end_request()
        if self._phase is Phase.waiting:
            self._set_deadline(self.site.limits.response_head)

    def _retry(self, connection: AppConnection) -> None:
        self._retries -= 1
        self.site.dialer.retire(connection.upstream)
        upstream = self._upstream
        if upstream is None:
            return
        try:
            self._connect(upstream)
        except Refusal as refusal:
            self.refuse(refusal)

    def _build_refusal(self, refusal: Refusal) -> tuple[ResponseHead, bytes]:
        route = self.route
        detail = route.reason if route is not None and refusal.status == 503 else ""
        page, content_type = build_page(
            refusal.status,
            refusal.reason,
            detail=detail,
            request_id=self.request_id,
            wants_json=wants_json(dict(self.head.headers).get(b"accept", b"")),
        )
        return build_page_head(refusal.reason, content_type, len(page)), page

    def _build_head(self, head: ResponseHead, keep_alive: bool) -> bytes:
        site = self.site
        return build_response_head(
            head, self.head.version, keep_alive, True, date=site.date, hsts=site.hsts
        )

    def _set_deadline(self, seconds: float) -> None:
        self.asker.deadline = self.site.now() + seconds

    def _set_body_deadline(self) -> None:
        """A body may neither stop for long nor trickle below its rate (slow attacks)."""
        limits, now = self.site.limits, self.site.now()
        own_s = limits.request_body_idle + self.bytes_in / limits.request_body_rate
        self.asker.deadline = min(
            now + limits.request_body_idle, self._started + self._slow_s + own_s
        )

    def _cut_answer(self, reason: str) -> None:
        self._end(reason, self._status)
        self.asker.abort()

    def _end(self, reason: str, status: int) -> None:
        """Let go of everything, once, and write the line."""
        self._phase = Phase.over
        self._status = status
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
        upstream = self._upstream
        if upstream is not None:
            self.site.dismiss(upstream, self)
        self.site.log.add(self._build_line("request", reason))

    def _build_line(self, event: str, reason: str) -> Line:
        route, head = self.route, self.head
        return Line(
            event=event,
            time=self.site.wall(),
            status=self._status,
            duration_s=self.site.now() - self._started,
            reason=reason,
            request_id=self.request_id,
            peer_ip=self.asker.peer_ip,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            app="" if route is None else route.app,
            host=head.host,
            method=head.method.decode("ascii"),
            target=head.target,
            upstream="" if self._upstream is None else self._upstream.name,
        )
