"""What all connections share: the table in force, the upstreams, and the work under way.

Invariants: a table is swapped by one assignment; an upstream that the table no longer names gets
no new request and keeps what it has until it is idle or cut; every piece of work is known here
from its admission to its end.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Protocol

from gateway.access_log import AccessLog, Line
from gateway.config import GatewayConfig
from gateway.dial import Dialer
from gateway.headers import HSTS
from gateway.heads import Limits
from gateway.routes import EMPTY_TABLE, Route, RouteTable, build_table
from gateway.table import RouteEntry, TableDocument, UpstreamEntry, UpstreamReport
from gateway.tunnel import Tunnel
from gateway.upstream import Event, State, Upstream


class Work(Protocol):
    """An exchange or a tunnel: something that can be cut short."""

    def cut(self) -> None:
        """End at once, on both sides."""


class Waiting(Protocol):
    """Something with a deadline (an instant on the loop's clock)."""

    deadline: float

    @property
    def is_busy(self) -> bool:
        """Whether a stop should wait for it."""

    def expire(self) -> None:
        """The deadline has passed."""

    def drain(self) -> None:
        """A stop has begun: end when nothing is under way."""


def build_limits(config: GatewayConfig) -> Limits:
    """The bounds of one message, as configured."""
    limits = config.limits
    return Limits(head_bytes=limits.head_bytes, fields=limits.fields, url_bytes=limits.url_bytes)


class Site:
    """The gateway's state, read by every request and changed by the control socket.

    `now` is the loop's clock in seconds, `wall` Unix time.
    """

    def __init__(
        self, config: GatewayConfig, dialer: Dialer, log: AccessLog, wall: Callable[[], float]
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.heads = build_limits(config)
        self.hsts = HSTS if config.hsts else None
        self.dialer = dialer
        self.log = log
        loop = asyncio.get_running_loop()
        self.now, self.later = loop.time, loop.call_later
        self.wall = wall
        self.table: RouteTable = EMPTY_TABLE
        self.table_version = 0
        self.https_port = 443
        self.is_draining = False
        self.upstreams: dict[str, Upstream] = {}
        self.waiting: set[Waiting] = set()
        self.date = b""
        self._draining: list[Upstream] = []
        self._work: dict[Upstream, set[Work]] = {}
        self._id_prefix = secrets.token_hex(6)
        self._requests = 0
        self.refresh_date()

    def __repr__(self) -> str:
        return f"<Site {self.table!r} {len(self.upstreams)} upstreams, {len(self.waiting)} open>"

    def check(self, document: TableDocument) -> RouteTable:
        """The table of a document; raises ValueError when it contradicts itself."""
        names = [entry.name for entry in document.upstreams]
        if len(set(names)) != len(names):
            raise ValueError("an upstream is named twice")
        for route in document.routes:
            if route.upstream is not None and route.upstream not in names:
                raise ValueError(f"route of {route.app}: there is no upstream {route.upstream}")
        return build_table(map(_build_route, document.routes))

    def publish(self, document: TableDocument) -> None:
        """Put a table in force; raises ValueError, and changes nothing, as `check` does.

        Whoever publishes an upstream has probed it: it takes requests at once.
        """
        table = self.check(document)
        upstreams = {entry.name: self._keep_or_add(entry) for entry in document.upstreams}
        vanished = [known for known in self.upstreams.values() if known not in upstreams.values()]
        self.upstreams = upstreams
        self.table, self.table_version = table, document.version
        self._drain(vanished)

    def admit(self, upstream: Upstream, work: Work) -> None:
        """Count `work` as in flight; raises TransitionError when the upstream takes none."""
        upstream.acquire()
        self._work.setdefault(upstream, set()).add(work)

    def hand_over(self, upstream: Upstream, exchange: Work, tunnel: Tunnel) -> None:
        """An exchange became a tunnel: from now on it counts as a socket."""
        upstream.open_socket()
        self._work.setdefault(upstream, set()).add(tunnel)
        self.dismiss(upstream, exchange)

    def dismiss(self, upstream: Upstream, work: Work) -> None:
        """A piece of work in flight is over."""
        upstream.release()
        self._forget(upstream, work)

    def open_tunnel(self, tunnel: Tunnel) -> None:
        """A tunnel waits for its idle deadline from now on."""
        self.waiting.add(tunnel)

    def close_tunnel(self, tunnel: Tunnel, upstream: Upstream, line: Line) -> None:
        """A tunnel is over."""
        self.waiting.discard(tunnel)
        upstream.close_socket()
        self._forget(upstream, tunnel)
        self.log.add(line)

    def cut(self, name: str | None = None) -> None:
        """End all work on the upstreams of that name, or on every one."""
        for upstream, works in list(self._work.items()):
            if name is None or upstream.name == name:
                for work in list(works):
                    work.cut()

    def report(self) -> tuple[UpstreamReport, ...]:
        """How each upstream is doing, those that are draining included."""
        self._finish_drained()
        return tuple(
            UpstreamReport(
                name=upstream.name,
                state=upstream.state.value,
                in_flight=upstream.in_flight,
                sockets=upstream.sockets,
            )
            for upstream in (*self.upstreams.values(), *self._draining)
        )

    def count_in_flight(self) -> int:
        """Requests under way on all upstreams, tunnels not counted."""
        return sum(upstream.in_flight for upstream in self._work)

    def sweep(self, now: float) -> None:
        """What is done once a second: deadlines, idle connections, the date, the log."""
        for waiting in [entry for entry in self.waiting if entry.deadline <= now]:
            waiting.expire()
        self.dialer.expire(now)
        self._finish_drained()
        self.refresh_date()
        self.log.flush()

    def refresh_date(self) -> None:
        """Set `date` to the wall clock (RFC 9110 section 6.6.1)."""
        self.date = formatdate(self.wall(), usegmt=True).encode("ascii")

    def build_request_id(self) -> str:
        """An id that no other request of this installation has."""
        self._requests += 1
        return f"{self._id_prefix}{self._requests:08x}"

    def _keep_or_add(self, entry: UpstreamEntry) -> Upstream:
        known = self.upstreams.get(entry.name)
        if known is not None and _is_same(known, entry):
            return known
        for draining in self._draining:
            if draining.name == entry.name and _is_same(draining, entry):
                self._draining.remove(draining)
                draining.apply(Event.restore)
                draining.apply(Event.probe_passed)
                return draining
        added = Upstream(entry.name, entry.address, entry.server_name, entry.spiffe_id)
        added.apply(Event.probe_passed)
        return added

    def _drain(self, vanished: Iterable[Upstream]) -> None:
        for upstream in vanished:
            upstream.apply(Event.drain)
            self._draining.append(upstream)
            self.dialer.retire(upstream.name)
        self._finish_drained()

    def _finish_drained(self) -> None:
        for upstream in [entry for entry in self._draining if entry.is_idle]:
            upstream.apply(Event.finish)
            self._draining.remove(upstream)

    def _forget(self, upstream: Upstream, work: Work) -> None:
        works = self._work[upstream]
        works.discard(work)
        if not works and upstream.state is not State.healthy:
            del self._work[upstream]


def _build_route(entry: RouteEntry) -> Route:
    return Route(
        entry.hosts, entry.app, entry.upstream, entry.state, entry.reason, entry.max_body_bytes
    )


def _is_same(upstream: Upstream, entry: UpstreamEntry) -> bool:
    return (upstream.address, upstream.server_name, upstream.spiffe_id) == (
        entry.address,
        entry.server_name,
        entry.spiffe_id,
    )
