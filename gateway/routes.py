"""The route table: which app answers for a host.

Invariants: immutable, so that a swap is one assignment and a request sees one table; a look-up
costs the same with one route and with ten thousand; an exact host wins over a wildcard; a
wildcard stands for exactly one label, as in certificates (RFC 6125 section 6.4.3).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from gateway.address import fold_host

_WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class Route:
    """Hosts of one app and what serves them now; `upstream` is None while nothing does.

    `state` and `reason` are the app's, for the page that visitors see meanwhile.
    """

    hosts: tuple[str, ...]
    app: str
    upstream: str | None = None
    state: str = "healthy"
    reason: str = ""
    max_body_bytes: int | None = None


class RouteTable:
    """Immutable map from folded host to route."""

    __slots__ = ("_exact", "_wildcard", "routes")

    def __init__(
        self, routes: tuple[Route, ...], exact: dict[str, Route], wildcard: dict[str, Route]
    ) -> None:
        self.routes = routes
        self._exact = MappingProxyType(exact)
        self._wildcard = MappingProxyType(wildcard)

    def lookup(self, host: str) -> Route | None:
        """The route of a folded host (see `fold_host`), or None."""
        route = self._exact.get(host)
        if route is None and self._wildcard:
            route = self._wildcard.get(host.partition(".")[2])
        return route

    def __len__(self) -> int:
        return len(self.routes)

    def __repr__(self) -> str:
        hosts = len(self._exact) + len(self._wildcard)
        return f"RouteTable({len(self.routes)} routes, {hosts} hosts)"


def build_table(routes: Iterable[Route]) -> RouteTable:
    """Build the table; ValueError when two routes claim one host, or a host is not usable."""
    entries = tuple(routes)
    exact: dict[str, Route] = {}
    wildcard: dict[str, Route] = {}
    for route in entries:
        for host in map(fold_host, route.hosts):
            is_wildcard = host.startswith(_WILDCARD)
            name = host.removeprefix(_WILDCARD)
            if not name or "*" in name:
                raise ValueError(f"route of {route.app}: {host!r} is not a host")
            hosts = wildcard if is_wildcard else exact
            if name in hosts:
                raise ValueError(f"{host} is claimed by {hosts[name].app} and by {route.app}")
            hosts[name] = route
    return RouteTable(entries, exact, wildcard)


EMPTY_TABLE = build_table(())
