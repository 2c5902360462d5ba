"""The life of an upstream: one generation of an app as the gateway knows it.

Invariants: a state changes only by an event that the table lists for it; an event that it does
not list raises and changes nothing; counts never go below zero; only a healthy upstream gets
new requests, and one that is draining keeps what it has.
"""

from enum import Enum


class State(Enum):
    """Values are what the log and `GET /upstreams` say."""

    adding = "adding"
    healthy = "healthy"
    unhealthy = "unhealthy"
    draining = "draining"
    gone = "gone"


class Event(Enum):
    """What can happen to an upstream."""

    probe_passed = "probe_passed"
    probe_failed = "probe_failed"
    drain = "drain"
    restore = "restore"
    finish = "finish"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.adding, Event.probe_passed): State.healthy,
    (State.adding, Event.probe_failed): State.unhealthy,
    (State.adding, Event.drain): State.draining,
    (State.healthy, Event.probe_passed): State.healthy,
    (State.healthy, Event.probe_failed): State.unhealthy,
    (State.healthy, Event.drain): State.draining,
    (State.unhealthy, Event.probe_passed): State.healthy,
    (State.unhealthy, Event.probe_failed): State.unhealthy,
    (State.unhealthy, Event.drain): State.draining,
    # A probe that was under way when the drain began tells nothing new.
    (State.draining, Event.probe_passed): State.draining,
    (State.draining, Event.probe_failed): State.draining,
    # The table names it again (a rollback): it has to prove itself again.
    (State.draining, Event.restore): State.adding,
    (State.draining, Event.finish): State.gone,
}
"""(state, event) → next state; every pair that is absent is illegal."""


class TransitionError(Exception):
    """An event or a count that the upstream's state does not allow; nothing was changed."""


class Upstream:
    """One generation of an app: where it is, who it must prove to be, what it is doing.

    `address` is `host:port` or `unix:/path`; `in_flight` counts requests from admission to
    their last byte; `sockets` counts tunnels (open WebSockets).
    """

    __slots__ = ("address", "in_flight", "name", "server_name", "sockets", "spiffe_id", "state")

    def __init__(self, name: str, address: str, server_name: str, spiffe_id: str) -> None:
        self.name = name
        self.address = address
        self.server_name = server_name
        self.spiffe_id = spiffe_id
        self.state = State.adding
        self.in_flight = 0
        self.sockets = 0

    def __repr__(self) -> str:
        return (
            f"Upstream({self.name!r} at {self.address}, {self.state.value},"
            f" in_flight={self.in_flight}, sockets={self.sockets})"
        )

    @property
    def can_accept(self) -> bool:
        """Whether a new request may be sent to it."""
        return self.state is State.healthy

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way on it."""
        return self.in_flight == 0 and self.sockets == 0

    def apply(self, event: Event) -> State:
        """Move to the next state and return it; TransitionError for an illegal event."""
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise TransitionError(f"{self!r} cannot take {event.value}")
        self.state = following
        return following

    def acquire(self) -> None:
        """Admit a request; TransitionError unless `can_accept`."""
        if not self.can_accept:
            raise TransitionError(f"{self!r} takes no new request")
        self.in_flight += 1

    def release(self) -> None:
        """A request that was admitted has ended, however it ended."""
        if self.in_flight == 0:
            raise TransitionError(f"{self!r} has no request to release")
        self.in_flight -= 1

    def open_socket(self) -> None:
        """A request in flight became a tunnel; it stays in flight until it is released."""
        if self.in_flight == 0:
            raise TransitionError(f"{self!r} has no request that could become a socket")
        self.sockets += 1

    def close_socket(self) -> None:
        """A tunnel has ended."""
        if self.sockets == 0:
            raise TransitionError(f"{self!r} has no socket to close")
        self.sockets -= 1
