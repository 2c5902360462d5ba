"""Which idle connection to an upstream serves the next request.

Theory of operation: the pool never opens or closes anything. `acquire` hands out an idle
connection, or says OPEN (a place is reserved: open one, then `adopt` it or `abandon` the
place), or FULL. Whatever must be closed is returned to the caller.

Invariants: a connection is leased to at most one request; the most recently used one is handed
out first, so that spare ones grow old and expire; an upstream never has more than
`per_upstream` connections, leased, opening and idle together; time is an argument.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, TypeVar

Connection = TypeVar("Connection")


class Answer(Enum):
    """What `acquire` says when it has no connection to give."""

    open = "open"
    full = "full"


OPEN: Literal[Answer.open] = Answer.open
FULL: Literal[Answer.full] = Answer.full


@dataclass(slots=True)
class _Shelf(Generic[Connection]):
    """What is known of one upstream's connections; idle ones from oldest to youngest."""

    idle: deque[tuple[Connection, float]] = field(default_factory=deque)
    leased: set[Connection] = field(default_factory=set)
    retired: set[Connection] = field(default_factory=set)
    opening: int = 0

    @property
    def size(self) -> int:
        return len(self.idle) + len(self.leased) + self.opening


class Pool(Generic[Connection]):
    """Connections to all upstreams; `idle_s` is how long, in seconds, an idle one is kept.

    `per_upstream` bounds connections, `idle_per_upstream` bounds the idle ones among them.
    """

    def __init__(
        self, *, per_upstream: int = 1024, idle_per_upstream: int = 64, idle_s: float = 15.0
    ) -> None:
        self._per_upstream = per_upstream
        self._idle_per_upstream = idle_per_upstream
        self._idle_s = idle_s
        self._shelves: dict[str, _Shelf[Connection]] = {}
        self._homes: dict[Connection, str] = {}

    def __repr__(self) -> str:
        shelves = self._shelves.values()
        return (
            f"Pool(upstreams={len(shelves)}, idle={sum(len(s.idle) for s in shelves)},"
            f" leased={sum(len(s.leased) for s in shelves)},"
            f" opening={sum(s.opening for s in shelves)})"
        )

    def acquire(self, upstream: str) -> Connection | Literal[Answer.open] | Literal[Answer.full]:
        """The youngest idle connection, now leased; or OPEN with a place reserved; or FULL."""
        shelf = self._shelves.get(upstream)
        if shelf is None:
            shelf = self._shelves[upstream] = _Shelf()
        if shelf.idle:
            connection, _ = shelf.idle.pop()
            shelf.leased.add(connection)
            return connection
        if shelf.size >= self._per_upstream:
            return FULL
        shelf.opening += 1
        return OPEN

    def adopt(self, upstream: str, connection: Connection) -> None:
        """A connection was opened in the place that OPEN reserved; it is leased."""
        shelf = self._take_place(upstream)
        shelf.leased.add(connection)
        self._homes[connection] = upstream

    def abandon(self, upstream: str) -> None:
        """No connection came of OPEN; the place is free again."""
        self._take_place(upstream)
        self._forget_if_empty(upstream)

    def _take_place(self, upstream: str) -> _Shelf[Connection]:
        shelf = self._shelves.get(upstream)
        if shelf is None or shelf.opening == 0:
            raise ValueError(f"no place is reserved for {upstream}")
        shelf.opening -= 1
        return shelf

    def release(self, connection: Connection, reusable: bool, now: float) -> list[Connection]:
        """End a lease at the instant `now`; returns what to close: it, or the oldest idle one."""
        upstream = self._homes.get(connection)
        shelf = None if upstream is None else self._shelves[upstream]
        if upstream is None or shelf is None or connection not in shelf.leased:
            raise ValueError(f"{connection!r} is not leased")
        shelf.leased.remove(connection)
        if not reusable or connection in shelf.retired or self._idle_per_upstream == 0:
            self._forget(upstream, shelf, connection)
            return [connection]
        shelf.idle.append((connection, now))
        if len(shelf.idle) <= self._idle_per_upstream:
            return []
        oldest, _ = shelf.idle.popleft()
        self._forget(upstream, shelf, oldest)
        return [oldest]

    def discard(self, connection: Connection) -> None:
        """A connection has ended by itself; a stranger to the pool is ignored."""
        upstream = self._homes.get(connection)
        if upstream is None:
            return
        shelf = self._shelves[upstream]
        shelf.leased.discard(connection)
        shelf.idle = deque(entry for entry in shelf.idle if entry[0] != connection)
        self._forget(upstream, shelf, connection)

    def expire(self, now: float) -> list[Connection]:
        """Idle connections whose time is over at the instant `now`, no longer in the pool."""
        overdue: list[Connection] = []
        for upstream, shelf in list(self._shelves.items()):
            while shelf.idle and now - shelf.idle[0][1] >= self._idle_s:
                connection, _ = shelf.idle.popleft()
                self._forget(upstream, shelf, connection)
                overdue.append(connection)
        return overdue

    def retire(self, upstream: str | None = None) -> list[Connection]:
        """Stop reusing the present connections (of one upstream, or all): a drain, a new leaf.

        Returns the idle ones to close; leased ones are closed when they are released.
        """
        names = list(self._shelves) if upstream is None else [upstream]
        idle: list[Connection] = []
        for name in names:
            shelf = self._shelves.get(name)
            if shelf is None:
                continue
            shelf.retired |= shelf.leased
            ended = [connection for connection, _ in shelf.idle]
            shelf.idle.clear()
            for connection in ended:
                self._forget(name, shelf, connection)
            idle += ended
        return idle

    def _forget(self, upstream: str, shelf: _Shelf[Connection], connection: Connection) -> None:
        del self._homes[connection]
        shelf.retired.discard(connection)
        self._forget_if_empty(upstream)

    def _forget_if_empty(self, upstream: str) -> None:
        shelf = self._shelves.get(upstream)
        if shelf is not None and shelf.size == 0:
            del self._shelves[upstream]
