"""Who may go where: pure decisions."""

from dataclasses import replace

import pytest

from gateway.admission import check_request, is_own_origin, pick_route, pick_upstream
from gateway.errors import Refusal
from gateway.heads import Body, RequestHead
from gateway.routes import Route, build_table
from gateway.upstream import Event, Upstream

ROUTE = Route(("a.test", "*.w.test"), "hello", "hello/1")
TABLE = build_table([ROUTE])
HEAD = RequestHead(b"GET", b"/", "a.test", b"a.test", b"1.1", (), Body.none, None, True)


@pytest.mark.parametrize(
    ("host", "sni", "reason"),
    [
        ("a.test", "a.test", None),
        ("x.w.test", "x.w.test", None),
        ("x.w.test", "y.w.test", "misdirected"),
        ("a.test", None, "misdirected"),
        ("b.test", "a.test", "misdirected"),
        ("b.test", "b.test", "unknown_host"),
        ("b.test", None, "unknown_host"),
    ],
)
def test_route_belongs_to_the_connection(host: str, sni: str | None, reason: str | None) -> None:
    """The name asked for is the one the connection was opened for, or the request is refused."""
    head = HEAD._replace(host=host)
    if reason is None:
        assert pick_route(TABLE, head, sni) is ROUTE
        return
    with pytest.raises(Refusal) as refused:
        pick_route(TABLE, head, sni)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target": b"/_stcore/metrics"}, "private_path"),
        ({"target": b"/_stcore/%6detrics?x"}, "private_path"),
        ({"body": Body.length, "length": 11}, "body_too_large"),
        ({"websocket": b"k", "headers": ((b"origin", b"https://b.test"),)}, "cross_origin"),
    ],
)
def test_refuses_what_no_app_is_asked(change: dict[str, object], reason: str) -> None:
    """Private paths, large bodies and foreign sockets stop here."""
    with pytest.raises(Refusal) as refused:
        check_request(HEAD._replace(**change), ROUTE, 10)
    assert refused.value.reason == reason


def test_lets_the_rest_pass() -> None:
    """A plain request and a body at the limit are fine."""
    check_request(HEAD, ROUTE, 10)
    check_request(HEAD._replace(body=Body.length, length=10), ROUTE, 10)


@pytest.mark.parametrize(
    ("origins", "authority", "is_own"),
    [
        ([], b"a.test", True),
        ([b"https://a.test"], b"a.test", True),
        ([b"https://a.test"], b"a.test:443", True),
        ([b"https://x.w.test:8443"], b"a.test:8443", True),
        ([b"https://a.test:8443"], b"a.test", False),
        ([b"https://a.test", b"https://a.test"], b"a.test", False),
        ([b"https://u@a.test"], b"a.test", False),
        ([b"https://"], b"a.test", False),
        ([b"null"], b"a.test", False),
    ],
)
def test_origin_is_a_page_of_the_same_app(
    origins: list[bytes], authority: bytes, is_own: bool
) -> None:
    """Scheme, host and port of the page have to be the app's."""
    headers = tuple((b"origin", origin) for origin in origins)
    assert is_own_origin(HEAD._replace(headers=headers, authority=authority), ROUTE) is is_own


def test_upstream_has_to_take_requests() -> None:
    """No upstream, an unknown one, or one that drains: the word is that of the app's state."""
    upstream = Upstream("hello/1", "127.0.0.1:1", "a", "spiffe://a/b")
    upstream.apply(Event.probe_passed)
    assert pick_upstream({"hello/1": upstream}, ROUTE) is upstream
    upstream.apply(Event.drain)
    for upstreams, route, reason in [
        ({"hello/1": upstream}, ROUTE, "app_unavailable"),
        ({}, replace(ROUTE, state="starting"), "app_starting"),
        ({}, replace(ROUTE, upstream=None, state="failed"), "app_failed"),
    ]:
        with pytest.raises(Refusal) as refused:
            pick_upstream(upstreams, route)
        assert refused.value.reason == reason
