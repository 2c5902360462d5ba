"""Opens, lends and takes back the connections to apps.

Invariants: traffic and probes open connections by the same code; a place in the pool is given
back however an attempt ends; every attempt is an owned task.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from gateway.config import GatewayLimits
from gateway.heads import Limits
from gateway.pool import Answer, Pool
from gateway.relay import AppConnection
from gateway.sockets import connect
from gateway.tasks import Tasks
from gateway.upstream import Upstream

Opened = Callable[[AppConnection], None]
Failed = Callable[[str], None]


class DialError(Exception):
    """A connection could not be had; `reason` is a word of `REFUSALS`, the text says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Place:
    """Where an upstream is and who must be there."""

    name: str
    address: str
    server_name: str
    spiffe_id: str


class Dialer:
    """The pool of connections to every upstream and the attempts to open more."""

    def __init__(self, limits: GatewayLimits, heads: Limits, tasks: Tasks) -> None:
        self._limits = limits
        self._tasks = tasks
        self._heads = heads
        self._context: ssl.SSLContext | None = None
        self._loop = asyncio.get_running_loop()
        self.pool: Pool[AppConnection] = Pool(
            per_upstream=limits.connections_per_upstream,
            idle_per_upstream=limits.idle_per_upstream,
            idle_s=limits.upstream_keep_alive,
        )

    def __repr__(self) -> str:
        return f"<Dialer {self.pool!r}>"

    def swap_context(self, context: ssl.SSLContext) -> None:
        """Present another leaf and trust other roots from the next connection on."""
        self._context = context
        for connection in self.pool.retire():
            connection.close()

    def take(self, upstream: Upstream) -> AppConnection | Answer:
        """A pooled connection, now leased; or Answer.open: call `open`; or Answer.full."""
        return self.pool.acquire(upstream.name)

    def open(self, upstream: Upstream, opened: Opened, failed: Failed) -> asyncio.Task[None]:
        """Fill the place that `take` reserved; exactly one of the two is called, later.

        A task that is cancelled, even before its first step, calls neither and gives the
        place back.
        """
        seat = _Seat(self.pool, upstream.name)
        attempt = self._tasks.start(self._attempt, upstream, opened, failed, seat)
        attempt.add_done_callback(seat.abandon)
        return attempt

    def retire(self, upstream: str) -> None:
        """Close the idle connections to an upstream, and the others when they are given back."""
        for connection in self.pool.retire(upstream):
            connection.close()

    def expire(self, now: float) -> None:
        """Close connections that were idle for too long at the instant `now`."""
        for connection in self.pool.expire(now):
            connection.close()

    def close(self) -> None:
        """Close what is idle."""
        for connection in self.pool.retire():
            connection.close()

    async def dial(
        self, place: Place, on_over: Callable[[AppConnection, bool], None]
    ) -> AppConnection:
        """A fresh connection whose peer has proved its identity; raises DialError."""
        if self._context is None:
            raise DialError("upstream_unreachable", "the gateway has no certificate of its own yet")

        def build() -> AppConnection:
            return AppConnection(
                place.name, place.spiffe_id, self._heads, self._limits.window_bytes, on_over
            )

        try:
            sock = await connect(place.address, self._limits.connect)
        except (OSError, TimeoutError) as error:
            raise translate_connect(error) from error
        try:
            _, connection = await self._loop.create_connection(
                build,
                sock=sock,
                ssl=self._context,
                server_hostname=place.server_name,
                ssl_handshake_timeout=self._limits.upstream_handshake,
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            raise translate_handshake(error) from error
        if connection.fault is not None:
            raise DialError("upstream_identity", str(connection.fault)) from connection.fault
        return connection

    async def _attempt(
        self, upstream: Upstream, opened: Opened, failed: Failed, seat: "_Seat"
    ) -> None:
        place = Place(upstream.name, upstream.address, upstream.server_name, upstream.spiffe_id)
        try:
            connection = await self.dial(place, self._take_back)
            if connection.is_closed:
                raise DialError("upstream_closed", "closed right after the handshake")
        except DialError as error:
            seat.abandon()
            failed(error.reason)
            return
        seat.adopt(connection)
        opened(connection)

    def _take_back(self, connection: AppConnection, is_reusable: bool) -> None:
        if not is_reusable:
            self.pool.discard(connection)
            return
        for spare in self.pool.release(connection, True, self._loop.time()):
            spare.close()


class _Seat:
    """A place in the pool that was reserved for an attempt; it is used or given back once."""

    __slots__ = ("_is_settled", "_pool", "_upstream")

    def __init__(self, pool: Pool[AppConnection], upstream: str) -> None:
        self._pool = pool
        self._upstream = upstream
        self._is_settled = False

    def adopt(self, connection: AppConnection) -> None:
        self._is_settled = True
        self._pool.adopt(self._upstream, connection)

    def abandon(self, _: object = None) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._pool.abandon(self._upstream)


def translate_connect(error: Exception) -> DialError:
    """What an operator is told of an address that cannot be reached."""
    if isinstance(error, TimeoutError):
        return DialError("upstream_unreachable", "connecting timed out")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return DialError("upstream_unreachable", "connection refused")
    return DialError("upstream_unreachable", str(error) or type(error).__name__)


def translate_handshake(error: Exception) -> DialError:
    """What an operator is told of a handshake that failed.

    A TLS 1.3 server that refuses our certificate is heard only later, as an answer that never
    begins (RFC 8446 section 4.4.2.4).
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return DialError("upstream_identity", f"certificate refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return DialError("upstream_tls", f"TLS failed: {getattr(error, 'reason', None) or error}")
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        return DialError("upstream_tls", "the TLS handshake timed out")
    return DialError("upstream_tls", "the connection ended during the TLS handshake")
