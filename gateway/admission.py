"""Whether a request may go to an app, and to which one.

Invariants: values in, a value or a Refusal out; a connection serves only the name that it was
opened for; the table looked at is the one that was handed in.
"""

from collections.abc import Mapping

from gateway.address import is_private_path, parse_authority
from gateway.errors import Refusal, pick_state_reason
from gateway.heads import RequestHead
from gateway.routes import Route, RouteTable
from gateway.upstream import Upstream

_HTTPS = b"https://"
_DEFAULT_PORT = 443


def pick_route(table: RouteTable, head: RequestHead, sni: str | None) -> Route:
    """The route for a request on a connection opened for `sni`; raises Refusal.

    RFC 9110 section 7.4: a name that the connection was not opened for is misdirected. Who
    named none gets the certificate for strangers, which no app's name is on.
    """
    route = table.lookup(head.host)
    if sni != head.host and (route is not None or sni is not None):
        raise Refusal.of("misdirected")
    if route is None:
        raise Refusal.of("unknown_host", close=False)
    return route


def check_request(head: RequestHead, route: Route, body_limit_bytes: int) -> None:
    """Raises Refusal for what no app is asked: private paths, large bodies, foreign sockets."""
    if is_private_path(head.target):
        raise Refusal.of("private_path", close=False)
    if head.length is not None and head.length > body_limit_bytes:
        raise Refusal.of("body_too_large")
    if head.websocket is not None and not is_own_origin(head, route):
        raise Refusal.of("cross_origin", close=False)


def pick_upstream(upstreams: Mapping[str, Upstream], route: Route) -> Upstream:
    """What serves the route now; raises Refusal with the word for the app's state."""
    upstream = None if route.upstream is None else upstreams.get(route.upstream)
    if upstream is None or not upstream.can_accept:
        raise Refusal.of(pick_state_reason(route.state), close=False)
    return upstream


def is_own_origin(head: RequestHead, route: Route) -> bool:
    """Whether a WebSocket is asked for by a page of the same app (RFC 6455 section 10.2).

    A browser always says whose page asks; who sends no Origin is not a browser.
    """
    origins = [value for name, value in head.headers if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1 or not origins[0].startswith(_HTTPS):
        return False
    origin = parse_authority(origins[0].removeprefix(_HTTPS))
    asked = parse_authority(head.authority)
    if origin is None or asked is None:
        return False
    if (origin.port or _DEFAULT_PORT) != (asked.port or _DEFAULT_PORT):
        return False
    wildcard = "*." + origin.host.partition(".")[2]
    return origin.host in route.hosts or wildcard in route.hosts
