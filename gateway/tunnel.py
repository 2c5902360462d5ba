"""After a 101: bytes in both directions, untouched, until one side ends.

Invariants: what came before the switch leaves first; each direction waits for its reader; when
one side ends, what it had sent still arrives before the other side is closed; a tunnel counts as
a socket of its upstream until both sides are gone.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.access_log import Line
from gateway.upstream import Upstream

_CUT_S = 2.0


class Registry(Protocol):
    """Where tunnels are known while they live; `now` is the loop's clock, `wall` Unix time."""

    now: Callable[[], float]
    wall: Callable[[], float]

    def open_tunnel(self, tunnel: "Tunnel") -> None:
        """It has begun to wait."""

    def close_tunnel(self, tunnel: "Tunnel", upstream: Upstream, line: Line) -> None:
        """It is over; `line` says what passed."""


class End(asyncio.Protocol):
    """One side of a tunnel."""

    __slots__ = ("_tunnel", "bytes_in", "is_gone", "other", "transport")

    other: "End"
    transport: asyncio.Transport

    def __init__(self, tunnel: "Tunnel") -> None:
        self._tunnel = tunnel
        self.bytes_in = 0
        self.is_gone = False

    def take(self, transport: asyncio.Transport) -> None:
        """Be this transport's protocol from now on."""
        self.transport = transport
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self.bytes_in += len(data)
        self._tunnel.touch()
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        """This side reads slowly: the other waits."""
        if not self.other.is_gone:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side has caught up."""
        if not self.other.is_gone:
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """This side sends no more: so says the other, if its transport can say it.

        TLS transports cannot be half closed, so for them both directions end, after what was
        written has left.
        """
        other = self.other
        if other.is_gone:
            return False
        if other.transport.can_write_eof():
            other.transport.write_eof()
            return True
        other.transport.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """This side is gone; what it had sent still reaches the other."""
        self.is_gone = True
        if not self.other.is_gone:
            if exc is None:
                self.other.transport.close()
            else:
                self.other.transport.abort()
        self._tunnel.end_lost()


class Tunnel:
    """Two ends and what is counted of them.

    `opened` is the line that was logged at the start; `gone` is called once when both are gone.
    """

    __slots__ = (
        "_gone",
        "_idle_s",
        "_is_over",
        "_line",
        "_reason",
        "_registry",
        "_started",
        "_upstream",
        "app",
        "deadline",
        "visitor",
    )

    def __init__(
        self,
        registry: Registry,
        upstream: Upstream,
        opened: Line,
        idle_s: float,
        gone: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._line = opened
        self._idle_s = idle_s
        self._gone = gone
        self._reason = ""
        self._is_over = False
        self._started = registry.now()
        self.deadline = self._started + idle_s
        self.visitor, self.app = End(self), End(self)
        self.visitor.other, self.app.other = self.app, self.visitor

    def __repr__(self) -> str:
        return f"<Tunnel {self._line.request_id} {'over' if self._is_over else 'open'}>"

    def start(self, early: bytes, leading: bytes) -> None:
        """Let it flow once both ends have a transport.

        `early` came from the visitor before the switch, `leading` from the app with it.
        """
        self._registry.open_tunnel(self)
        self.visitor.transport.resume_reading()
        if early:
            self.visitor.data_received(early)
        if leading:
            self.app.data_received(leading)

    def touch(self) -> None:
        """Something passed."""
        self.deadline = self._registry.now() + self._idle_s

    @property
    def is_busy(self) -> bool:
        """Never: a tunnel would keep a stop waiting for as long as a page is open."""
        return False

    def drain(self) -> None:
        """Live on until everything else is done."""

    def expire(self) -> None:
        """Nothing passed for too long, or a cut took too long."""
        self._reason = self._reason or "tunnel_timeout"
        for end in (self.visitor, self.app):
            if not end.is_gone:
                end.transport.abort()

    def cut(self) -> None:
        """End in order: what was written still leaves, if it can within a moment."""
        self._reason = self._reason or "cut"
        self.deadline = self._registry.now() + _CUT_S
        for end in (self.visitor, self.app):
            if not end.is_gone:
                end.transport.close()

    def end_lost(self) -> None:
        """One end is gone; the tunnel is over when both are."""
        if not self._is_over and self.visitor.is_gone and self.app.is_gone:
            self._is_over = True
            self._registry.close_tunnel(self, self._upstream, self._build_line())
            self._gone()

    def _build_line(self) -> Line:
        return self._line._replace(
            event="close",
            time=self._registry.wall(),
            bytes_in=self.visitor.bytes_in,
            bytes_out=self.app.bytes_in,
            duration_s=self._registry.now() - self._started,
            reason=self._reason,
        )
