"""What heads mean, and every head that is refused."""

import base64
from collections.abc import Callable
from typing import Any, TypeVar

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refusal
from gateway.framing import (
    METHODS,
    Body,
    Limits,
    RequestHead,
    ResponseHead,
    build_accept,
    check_request_line,
    decide_request,
    decide_response,
    pick_visitor_body,
)

Field = tuple[bytes, bytes]
Head = TypeVar("Head", RequestHead, ResponseHead)

HOST = (b"Host", b"app.test")
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = [
    HOST,
    (b"Upgrade", b"websocket"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
]
CHUNKED = (b"Transfer-Encoding", b"chunked")


def ask(*fields: Field, method: bytes = b"GET", version: str = "1.1", **more: Any) -> RequestHead:
    """A decided request with Host and these fields."""
    return decide_request(method, b"/", version, [HOST, *fields], **more)


def answer(
    status: int, *fields: Field, request: RequestHead | None = None, version: str = "1.1"
) -> ResponseHead:
    """A decided response to a plain GET, or to `request`."""
    return decide_response(request or ask(), status, version, fields)


# --- the request line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"GET /a?b HTTP/1.0",
        b"OPTIONS * HTTP/1.1",
        b"GET http://app.test/ HTTP/1.1",
        b"PROPFIND /a HTTP/1.1",
    ],
)
def test_request_line_passes(line: bytes) -> None:
    """A well-formed line of a known method and version is let through to the parser."""
    check_request_line(line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "bad_request_line"),
        (b"GET /", "bad_request_line"),
        (b"GET  / HTTP/1.1", "bad_request_line"),
        (b"GET /  HTTP/1.1", "bad_request_line"),
        (b" GET / HTTP/1.1", "bad_request_line"),
        (b"GET / HTTP/1.1 ", "bad_request_line"),
        (b"GET\t/ HTTP/1.1", "bad_request_line"),
        (b"GET /a b HTTP/1.1", "bad_request_line"),
        (b"GET /a\nX: 1 HTTP/1.1", "bad_request_line"),
        (b"GET / HTTP/1.1\n", "bad_request_line"),
        (b"GET / HTTP/1.1\r", "bad_request_line"),
        (b"GET /\x00 HTTP/1.1", "bad_request_line"),
        (b"GET / http/1.1", "bad_request_line"),
        (b"GET / HTTP/11", "bad_request_line"),
        (b"GET / HTTP/1.10", "bad_request_line"),
        (b"GET / RTSP/1.0", "bad_request_line"),
        (b"SOURCE / ICE/1.0", "bad_request_line"),
        (b"G" * 33 + b" / HTTP/1.1", "bad_request_line"),
        (b"\x16\x03\x01\x02\x00", "bad_request_line"),
        (b"GET / HTTP/2.0", "bad_version"),
        (b"PRI * HTTP/2.0", "bad_version"),
        (b"GET / HTTP/0.9", "bad_version"),
        (b"GET / HTTP/1.2", "bad_version"),
        (b"get / HTTP/1.1", "bad_method"),
        (b"FOO / HTTP/1.1", "bad_method"),
        (b"CONNECT app.test:443 HTTP/1.1", "method_not_allowed"),
        (b"TRACE / HTTP/1.1", "method_not_allowed"),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1", "url_too_long"),
        (b"GET /" + b"a b" * 8192, "url_too_long"),
    ],
)
def test_request_line_is_refused(line: bytes, reason: str) -> None:
    """What the parser would take for something else never reaches it."""
    with pytest.raises(Refusal) as refusal:
        check_request_line(line)
    assert refusal.value.reason == reason


# --- requests --------------------------------------------------------------------------------


def test_plain_request_is_decided() -> None:
    """Names are folded, order and cookie lines are kept, the ambiguous name is gone."""
    head = decide_request(
        b"GET",
        b"/a?b",
        "1.1",
        [
            (b"Cookie", b"a=1"),
            (b"HOST", b"App.Test:8443"),
            (b"X_Real_Ip", b"1.2.3.4"),
            (b"Accept", b"*/* \t"),
            (b"cookie", b"b=2"),
        ],
    )
    assert head == RequestHead(
        method=b"GET",
        target=b"/a?b",
        host="app.test",
        authority=b"App.Test:8443",
        version=b"1.1",
        headers=(
            (b"cookie", b"a=1"),
            (b"host", b"App.Test:8443"),
            (b"accept", b"*/*"),
            (b"cookie", b"b=2"),
        ),
        body=Body.none,
        length=None,
        keep_alive=True,
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_parser_knows_every_method_that_we_know(method: bytes) -> None:
    """No allowed method is refused by llhttp."""
    raw = method + b" / HTTP/1.1\r\nHost: app.test\r\n\r\n"
    parser = httptools.HttpRequestParser(object())
    parser.feed_data(raw)
    assert ask(method=method).method == method


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (b"CONNECT", "method_not_allowed"),
        (b"TRACE", "method_not_allowed"),
        (b"PRI", "bad_method"),
        (b"SOURCE", "bad_method"),
        (b"get", "bad_method"),
        (b"DESCRIBE", "bad_method"),
    ],
)
def test_method_is_refused(method: bytes, reason: str) -> None:
    """Methods that change what a connection is, and those of other protocols, do not pass."""
    with pytest.raises(Refusal, match=reason):
        ask(method=method)


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "0.0", ""])
def test_version_is_refused(version: str) -> None:
    """Only 1.0 and 1.1 are spoken here."""
    with pytest.raises(Refusal, match="505 bad_version"):
        ask(version=version)


@pytest.mark.parametrize(
    ("fields", "body", "length"),
    [
        ([], Body.none, None),
        ([(b"Content-Length", b"0")], Body.none, 0),
        ([(b"Content-Length", b"5 ")], Body.length, 5),
        ([(b"Content-Length", b"005")], Body.length, 5),
        ([(b"Content-Length", b"9223372036854775807")], Body.length, 2**63 - 1),
        ([CHUNKED], Body.chunked, None),
        ([(b"Transfer-Encoding", b"\tChunked ")], Body.chunked, None),
    ],
)
def test_end_of_a_request_is_found(fields: list[Field], body: Body, length: int | None) -> None:
    """A request's length is a number, or it is chunked, or there is no body."""
    head = ask(*fields, method=b"POST")
    assert (head.body, head.length) == (body, length)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(b"Content-Length", b"3"), CHUNKED], "length_and_coding"),
        ([CHUNKED, (b"Content-Length", b"0")], "length_and_coding"),
        ([(b"Content-Length", b"3"), (b"Content-Length", b"3")], "bad_length"),
        ([(b"Content-Length", b"3"), (b"content-length", b"4")], "bad_length"),
        ([(b"Content-Length", b"3, 3")], "bad_length"),
        ([(b"Content-Length", b"+3")], "bad_length"),
        ([(b"Content-Length", b"-3")], "bad_length"),
        ([(b"Content-Length", b"0x3")], "bad_length"),
        ([(b"Content-Length", b"3_0")], "bad_length"),
        ([(b"Content-Length", b"3.0")], "bad_length"),
        ([(b"Content-Length", b"")], "bad_length"),
        ([(b"Content-Length", "\u0663".encode())], "bad_length"),
        ([(b"Content-Length", b"9223372036854775808")], "bad_length"),
        ([(b"Content-Length", b"00000000000000000003")], "bad_length"),
        ([(b"Transfer-Encoding", b"gzip, chunked")], "bad_coding"),
        ([(b"Transfer-Encoding", b"identity")], "bad_coding"),
        ([(b"Transfer-Encoding", b"identity, chunked")], "bad_coding"),
        ([(b"Transfer-Encoding", b"chunked, chunked")], "bad_coding"),
        ([(b"Transfer-Encoding", b"chunked;x=y")], "bad_coding"),
        ([(b"Transfer-Encoding", b"xchunked")], "bad_coding"),
        ([(b"Transfer-Encoding", b"")], "bad_coding"),
        ([CHUNKED, CHUNKED], "bad_coding"),
    ],
)
def test_request_with_an_unclear_end_is_refused(fields: list[Field], reason: str) -> None:
    """Nothing that two parsers could cut in two ways is accepted."""
    with pytest.raises(Refusal) as refusal:
        ask(*fields, method=b"POST")
    assert refusal.value.reason == reason
    assert refusal.value.close


def test_coding_is_refused_in_http10() -> None:
    """HTTP/1.0 has no transfer codings."""
    with pytest.raises(Refusal, match="coding_in_http10"):
        ask(CHUNKED, method=b"POST", version="1.0")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([], "missing_host"),
        ([HOST, HOST], "duplicate_host"),
        ([HOST, (b"host", b"evil.test")], "duplicate_host"),
        ([(b"Host", b"")], "bad_host"),
        ([(b"Host", b"app.test, evil.test")], "bad_host"),
        ([(b"Host", b"user@app.test")], "bad_host"),
    ],
)
def test_host_is_required_once(fields: list[Field], reason: str) -> None:
    """A request is for exactly one well-formed site, in HTTP/1.0 as well."""
    for version in ("1.0", "1.1"):
        with pytest.raises(Refusal) as refusal:
            decide_request(b"GET", b"/", version, fields)
        assert refusal.value.reason == reason


def test_underscore_does_not_make_a_host() -> None:
    """An ambiguous spelling is never read as the real name."""
    with pytest.raises(Refusal, match="bad_length"):
        ask((b"Content-Length", b"x"))
    assert ask((b"Content_Length", b"x")).body is Body.none


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(b"X-A", b"1")] * 100, "too_many_fields"),
        ([(b"X-A", b"1" * 32768)], "head_too_large"),
        ([(b"X-" + b"a" * 16384, b"1")], "bad_field_name"),
        ([(b"X A", b"1")], "bad_field_name"),
        ([(b"", b"1")], "bad_field_name"),
        ([(b"X-A", b"a\rb")], "bad_field_value"),
        ([(b"X-A", b"a\nb")], "bad_field_value"),
        ([(b"X-A", b"a\x00b")], "bad_field_value"),
        ([(b"X_A", b"a\x00b")], "bad_field_value"),
        ([(b"X-A", b"a\x1bb")], "bad_field_value"),
    ],
)
def test_fields_are_bounded_and_clean(fields: list[Field], reason: str) -> None:
    """Too much, or a byte that no field may hold, ends the request."""
    with pytest.raises(Refusal) as refusal:
        ask(*fields)
    assert refusal.value.reason == reason


def test_limits_are_arguments() -> None:
    """The bounds are those that were given."""
    limits = Limits(fields=2, head_bytes=40, url_bytes=4)
    assert decide_request(b"GET", b"/abc", "1.1", [HOST], limits=limits).target == b"/abc"
    with pytest.raises(Refusal, match="414 url_too_long"):
        decide_request(b"GET", b"/abcd", "1.1", [HOST], limits=limits)
    with pytest.raises(Refusal, match="431 too_many_fields"):
        decide_request(b"GET", b"/", "1.1", [HOST, (b"a", b""), (b"b", b"")], limits=limits)
    with pytest.raises(Refusal, match="431 head_too_large"):
        decide_request(b"GET", b"/", "1.1", [HOST, (b"a", b"b" * 30)], limits=limits)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", b"close", False),
        ("1.1", b"Keep-Alive, Close", False),
        ("1.0", None, False),
        ("1.0", b"keep-alive", True),
        ("1.0", b"keep-alive, close", False),
    ],
)
def test_persistence_is_decided(version: str, connection: bytes | None, keep_alive: bool) -> None:
    """The connection stays open when version and Connection say so, never after close."""
    fields = [] if connection is None else [(b"Connection", connection)]
    assert ask(*fields, version=version).keep_alive is keep_alive


def test_nominated_fields_are_remembered() -> None:
    """What Connection names is kept for stripping, its own options are not."""
    head = ask((b"Connection", b"keep-alive, X-Custom"), (b"Connection", b"TE"))
    assert head.nominated == {b"x-custom", b"te"}


@pytest.mark.parametrize(
    "named",
    [
        b"Host",
        b"Content-Length",
        b"Transfer-Encoding",
        b"X-Forwarded-For",
        b"X-Real-IP",
        b"Forwarded",
        b"Remote-User",
        b"Cookie",
        b"Sec-WebSocket-Key",
        b"close, a b",
        b'"close"',
    ],
)
def test_nomination_of_what_must_stay_is_refused(named: bytes) -> None:
    """Nobody may ask us to remove what tells the app where, how long, or who."""
    with pytest.raises(Refusal, match="400 bad_connection"):
        ask((b"Connection", named))


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
def test_expectation_asks_for_a_100(value: bytes) -> None:
    """A body that waits for permission is said to wait."""
    assert ask((b"Expect", value), (b"Content-Length", b"3"), method=b"POST").expect_continue
    assert ask((b"Expect", value), CHUNKED, method=b"POST").expect_continue


def test_expectation_without_a_body_or_in_http10_is_ignored() -> None:
    """No 100 is owed where no body comes, or to a version that lacks it."""
    expect = (b"Expect", b"100-continue")
    assert not ask(expect).expect_continue
    assert not ask(expect, (b"Content-Length", b"0")).expect_continue
    assert not ask(expect, (b"Content-Length", b"3"), method=b"POST", version="1.0").expect_continue


@pytest.mark.parametrize(
    "values", [[b"x"], [b""], [b"y 100-continue"], [b"100-continue, x"], [b"100-continue"] * 2]
)
def test_other_expectations_fail(values: list[bytes]) -> None:
    """One known expectation, once; anything else is 417."""
    with pytest.raises(Refusal, match="417 bad_expect"):
        ask(*[(b"Expect", value) for value in values], (b"Content-Length", b"3"), method=b"POST")


def test_whole_handshake_is_a_websocket() -> None:
    """The key of a complete handshake is the decision."""
    head = decide_request(b"GET", b"/", "1.1", HANDSHAKE, True)
    assert head.websocket == KEY
    assert head.keep_alive


def without(name: bytes) -> list[Field]:
    """The handshake without one field."""
    return [field for field in HANDSHAKE if field[0] != name]


@pytest.mark.parametrize(
    ("method", "version", "fields"),
    [
        (b"POST", "1.1", HANDSHAKE),
        (b"GET", "1.0", HANDSHAKE),
        (b"GET", "1.1", without(b"Upgrade")),
        (b"GET", "1.1", without(b"Connection")),
        (b"GET", "1.1", without(b"Sec-WebSocket-Key")),
        (b"GET", "1.1", without(b"Sec-WebSocket-Version")),
        (b"GET", "1.1", [*HANDSHAKE, (b"Sec-WebSocket-Version", b"13")]),
        (b"GET", "1.1", [*HANDSHAKE, (b"Sec-WebSocket-Key", KEY)]),
        (b"GET", "1.1", [*HANDSHAKE, (b"Upgrade", b"websocket")]),
        (b"GET", "1.1", [*without(b"Upgrade"), (b"Upgrade", b"h2c")]),
        (b"GET", "1.1", [*without(b"Upgrade"), (b"Upgrade", b"websocket, h2c")]),
        (b"GET", "1.1", [*without(b"Sec-WebSocket-Version"), (b"Sec-WebSocket-Version", b"8")]),
        (b"GET", "1.1", [*without(b"Sec-WebSocket-Key"), (b"Sec-WebSocket-Key", b"short")]),
        (b"GET", "1.1", [*without(b"Sec-WebSocket-Key"), (b"Sec-WebSocket-Key", b"x" * 24)]),
        (
            b"GET",
            "1.1",
            [*without(b"Sec-WebSocket-Key"), (b"Sec-WebSocket-Key", KEY[:21] + b"R==")],
        ),
    ],
)
def test_anything_less_is_a_plain_request(method: bytes, version: str, fields: list[Field]) -> None:
    """An incomplete handshake, or one for another protocol, changes nothing."""
    assert decide_request(method, b"/", version, fields).websocket is None


@given(st.binary(min_size=16, max_size=16))
def test_every_sixteen_byte_key_is_a_key(nonce: bytes) -> None:
    """The grammar of keys takes each honest nonce."""
    key = base64.b64encode(nonce)
    head = decide_request(
        b"GET", b"/", "1.1", [*without(b"Sec-WebSocket-Key"), (b"Sec-WebSocket-Key", key)]
    )
    assert head.websocket == key


@pytest.mark.parametrize("extra", [(b"Content-Length", b"3"), CHUNKED])
def test_upgrade_with_a_body_is_refused(extra: Field) -> None:
    """The parser would read the body as the next request."""
    for fields in (HANDSHAKE, [HOST, (b"Upgrade", b"h2c")]):
        with pytest.raises(Refusal, match="400 upgrade_with_body"):
            decide_request(b"POST", b"/", "1.1", [*fields, extra])
    with pytest.raises(Refusal, match="400 upgrade_with_body"):
        ask(extra, method=b"POST", upgrade=True)


def test_upgrade_with_an_empty_body_is_not_refused() -> None:
    """A stated length of nothing is nothing."""
    head = decide_request(b"GET", b"/", "1.1", [*HANDSHAKE, (b"Content-Length", b"0")], True)
    assert head.websocket == KEY


# --- responses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fields", "body", "length", "keep_alive"),
    [
        (200, [(b"Content-Length", b"5")], Body.length, 5, True),
        (200, [(b"Content-Length", b"0")], Body.none, 0, True),
        (200, [CHUNKED], Body.chunked, None, True),
        (200, [], Body.until_close, None, False),
        (200, [(b"Content-Length", b"5"), (b"Connection", b"close")], Body.length, 5, False),
        (204, [], Body.none, None, True),
        (204, [(b"Content-Length", b"5")], Body.none, None, True),
        (304, [(b"Content-Length", b"5")], Body.none, 5, True),
        (304, [CHUNKED], Body.none, None, True),
        (103, [(b"Link", b"</a>")], Body.none, None, True),
        (599, [CHUNKED], Body.chunked, None, True),
        (401, [CHUNKED, (b"WWW-Authenticate", b"Basic")], Body.chunked, None, True),
        (401, [CHUNKED, (b"WWW-Authenticate", b"NTLM")], Body.chunked, None, False),
        (401, [CHUNKED, (b"WWW-Authenticate", b"negotiate x")], Body.chunked, None, False),
    ],
)
def test_end_of_a_response_is_found(
    status: int, fields: list[Field], body: Body, length: int | None, keep_alive: bool
) -> None:
    """Status, length and coding decide where a response ends and whether another may follow."""
    head = answer(status, *fields)
    assert (head.body, head.length, head.keep_alive) == (body, length, keep_alive)
    assert not head.is_upgrade


def test_response_to_head_has_no_body() -> None:
    """A stated length stays a statement."""
    request = ask(method=b"HEAD")
    assert answer(200, (b"Content-Length", b"5"), request=request)[2:4] == (Body.none, 5)
    assert answer(200, CHUNKED, request=request)[2:4] == (Body.none, None)
    assert answer(200, request=request)[2:4] == (Body.none, None)


@pytest.mark.parametrize(
    ("fields", "keep_alive"),
    [([(b"Connection", b"keep-alive")], True), ([], False), ([(b"Connection", b"close")], False)],
)
def test_http10_upstream_is_reused_only_if_it_says_so(
    fields: list[Field], keep_alive: bool
) -> None:
    """HTTP/1.0 closes unless it promises not to."""
    head = answer(200, (b"Content-Length", b"1"), *fields, version="1.0")
    assert head.keep_alive is keep_alive


def test_response_remembers_what_it_nominates() -> None:
    """Fields that an app wants removed are removed."""
    assert answer(200, CHUNKED, (b"Connection", b"X-A, close")).nominated == {b"x-a"}


@pytest.mark.parametrize(
    ("status", "fields", "reason"),
    [
        (99, [], "upstream_status"),
        (600, [], "upstream_status"),
        (999, [], "upstream_status"),
        (200, [(b"Content-Length", b"1"), (b"Content-Length", b"1")], "upstream_length"),
        (200, [(b"Content-Length", b"x")], "upstream_length"),
        (200, [(b"Content-Length", b"1"), CHUNKED], "upstream_length"),
        (304, [(b"Content-Length", b"x")], "upstream_length"),
        (200, [(b"Transfer-Encoding", b"gzip, chunked")], "upstream_coding"),
        (200, [(b"Transfer-Encoding", b"identity")], "upstream_coding"),
        (200, [CHUNKED, CHUNKED], "upstream_coding"),
        (200, [(b"X A", b"1")], "upstream_field"),
        (200, [(b"X-A", b"1\rSet-Cookie: a=b")], "upstream_field"),
        (200, [(b"X-A", b"1\x00")], "upstream_field"),
        (200, [(b"Connection", b"a b")], "upstream_field"),
        (200, [(b"X-A", b"1" * 65536)], "upstream_head_too_large"),
        (200, [(b"X-A", b"1")] * 201, "upstream_head_too_large"),
        (101, [], "upstream_upgrade"),
    ],
)
def test_bad_response_is_a_502(status: int, fields: list[Field], reason: str) -> None:
    """An app's contradictions are its own fault and end with a 502."""
    with pytest.raises(Refusal) as refusal:
        answer(status, *fields)
    assert (refusal.value.status, refusal.value.reason) == (502, reason)


def test_bad_version_and_phrase_are_a_502() -> None:
    """Neither another version nor a hidden control byte in the phrase passes."""
    with pytest.raises(Refusal, match="upstream_version"):
        answer(200, version="2.0")
    with pytest.raises(Refusal, match="upstream_coding"):
        answer(200, CHUNKED, version="1.0")
    for phrase in (b"a\x00b", b"a\rb"):
        with pytest.raises(Refusal, match="upstream_status"):
            decide_response(ask(), 200, "1.1", [CHUNKED], phrase)
    assert decide_response(ask(), 200, "1.1", [CHUNKED], b"Fine, thank you").status == 200


SWITCH = [
    (b"Upgrade", b"WebSocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Accept", ACCEPT),
]


def test_accept_is_that_of_the_rfc() -> None:
    """The sample of RFC 6455 section 1.3 comes out."""
    assert build_accept(KEY) == ACCEPT


def test_upgrade_that_was_asked_for_is_accepted() -> None:
    """A 101 with the right proof turns the connection into a tunnel."""
    request = decide_request(b"GET", b"/", "1.1", HANDSHAKE, True)
    head = answer(101, *SWITCH, request=request)
    assert (head.is_upgrade, head.body, head.keep_alive) == (True, Body.none, False)


def test_upgrade_that_was_not_asked_for_is_a_502() -> None:
    """However well-formed, a 101 to a plain request opens no tunnel."""
    with pytest.raises(Refusal, match="502 upstream_upgrade"):
        answer(101, *SWITCH)


@pytest.mark.parametrize(
    ("fields", "version", "reason"),
    [
        (SWITCH, "1.0", "upstream_upgrade"),
        (SWITCH[1:], "1.1", "upstream_upgrade"),
        ([(b"Upgrade", b"h2c"), *SWITCH[1:]], "1.1", "upstream_upgrade"),
        ([SWITCH[0], SWITCH[2]], "1.1", "upstream_upgrade"),
        ([*SWITCH, SWITCH[0]], "1.1", "upstream_upgrade"),
        (SWITCH[:2], "1.1", "upstream_accept"),
        ([*SWITCH, SWITCH[2]], "1.1", "upstream_accept"),
        ([*SWITCH[:2], (b"Sec-WebSocket-Accept", ACCEPT.lower())], "1.1", "upstream_accept"),
        ([*SWITCH, (b"Content-Length", b"0")], "1.1", "upstream_length"),
        ([*SWITCH, CHUNKED], "1.1", "upstream_length"),
    ],
)
def test_upgrade_without_proof_is_a_502(fields: list[Field], version: str, reason: str) -> None:
    """A 101 that does not prove it read our key opens no tunnel."""
    request = decide_request(b"GET", b"/", "1.1", HANDSHAKE, True)
    with pytest.raises(Refusal) as refusal:
        answer(101, *fields, request=request, version=version)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("body", "version", "told"),
    [
        (Body.none, b"1.0", Body.none),
        (Body.length, b"1.1", Body.length),
        (Body.chunked, b"1.1", Body.chunked),
        (Body.until_close, b"1.1", Body.chunked),
        (Body.chunked, b"1.0", Body.until_close),
        (Body.until_close, b"1.0", Body.until_close),
    ],
)
def test_visitor_is_told_the_end_in_words_of_its_version(
    body: Body, version: bytes, told: Body
) -> None:
    """An unknown length is chunked for 1.1 and ends with the connection for 1.0."""
    assert pick_visitor_body(ResponseHead(200, (), body, None), version) is told


# --- whatever strangers send -----------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        [
            *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade"),
            *(b"Expect", b"Cookie", b"X_A", b"Sec-WebSocket-Key", b"x-forwarded-for"),
        ]
    ),
    st.binary(max_size=12),
)
VALUES = st.one_of(
    st.sampled_from(
        [b"app.test", b"3", b"chunked", b"close, x-a", b"websocket", b"100-continue", KEY]
    ),
    st.binary(max_size=20),
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


def decide(decision: Callable[[], Head]) -> Head | Refusal:
    """What was decided, or the refusal."""
    try:
        return decision()
    except Refusal as refusal:
        return refusal


@given(st.sampled_from([b"GET", b"POST"]), st.binary(max_size=12), FIELDS, st.booleans())
def test_any_request_is_decided_or_refused(
    method: bytes, url: bytes, fields: list[Field], upgrade: bool
) -> None:
    """No bytes raise anything but a refusal, and what is accepted is unambiguous."""
    head = decide(lambda: decide_request(method, b"/" + url, "1.1", [*fields, HOST], upgrade))
    if isinstance(head, Refusal):
        assert 400 <= head.status < 600
        return
    names = [name for name, _ in head.headers]
    assert names.count(b"host") == 1
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    for name, value in head.headers:
        assert name == name.lower()
        assert b"_" not in name
        assert not {0, 10, 13} & set(name + value)
    assert not {0, 10, 13, 32} & set(head.target + head.authority)
    assert head.websocket is None or head.body is Body.none


@given(st.integers(min_value=-1, max_value=1000), FIELDS, st.binary(max_size=8))
def test_any_response_is_decided_or_refused(
    status: int, fields: list[Field], phrase: bytes
) -> None:
    """No answer of an app raises anything but a 502."""
    head = decide(lambda: decide_response(ask(), status, "1.1", fields, phrase))
    if isinstance(head, Refusal):
        assert head.status == 502
        return
    assert not head.is_upgrade
    assert all(not {0, 10, 13} & set(name + value) for name, value in head.headers)
