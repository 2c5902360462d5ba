"""Heads as they leave the gateway."""

from collections.abc import Sequence

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import REFUSALS, Refusal
from gateway.fields import is_hop_by_hop
from gateway.framing import decide_request, decide_response
from gateway.headers import (
    PHRASES,
    build_cookie,
    build_page_head,
    build_request_head,
    build_response_head,
    forwards_interim,
)
from gateway.heads import Body, RequestHead, ResponseHead

Field = tuple[bytes, bytes]

HOST = (b"Host", b"App.test:8443")
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
DATE = b"Mon, 24 Nov 2025 08:00:00 GMT"
CHUNKED = (b"Transfer-Encoding", b"chunked")
WRITTEN = (
    b"x-forwarded-for: 192.0.2.7\r\n"
    b"x-forwarded-proto: https\r\n"
    b"x-forwarded-port: 8443\r\n"
    b"x-forwarded-host: App.test:8443\r\n"
    b'forwarded: for=192.0.2.7;proto=https;host="App.test:8443"\r\n'
    b"via: 1.1 lockgate\r\n"
    b"x-request-id: r1\r\n"
    b"\r\n"
)


def ask(*fields: Field, method: bytes = b"GET", version: str = "1.1") -> RequestHead:
    """A decided request with Host and these fields."""
    return decide_request(method, b"/a?b", version, [HOST, *fields])


def build_request(head: RequestHead, peer_ip: str = "192.0.2.7") -> bytes:
    """The head as it goes to the app."""
    return build_request_head(head, peer_ip, "https", 8443, "r1")


def build_response(
    status: int,
    *fields: Field,
    version: bytes = b"1.1",
    keep_alive: bool = True,
    is_tls: bool = True,
    hsts: bytes | None = b"max-age=1",
) -> list[bytes]:
    """The lines of the head as it goes to the visitor, without the empty ones at its end."""
    head = decide_response(ask(), status, "1.1", fields)
    raw = build_response_head(head, version, keep_alive, is_tls, date=DATE, hsts=hsts)
    assert raw.endswith(b"\r\n\r\n")
    return raw[:-4].split(b"\r\n")


class Parsed:
    """What llhttp makes of a head."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[Field] = []

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.fields.append((name, value))


# --- to the app ------------------------------------------------------------------------------


def test_request_goes_on_with_what_the_gateway_knows() -> None:
    """Host first and untouched, end-to-end fields in order, then what the gateway writes."""
    head = ask(
        (b"Cookie", b"a=1"), (b"Accept", b"*/*"), (b"Cookie", b"b=2"), (b"X-XSRFToken", b"t")
    )
    assert build_request(head) == (
        b"GET /a?b HTTP/1.1\r\n"
        b"host: App.test:8443\r\n"
        b"cookie: a=1\r\n"
        b"accept: */*\r\n"
        b"cookie: b=2\r\n"
        b"x-xsrftoken: t\r\n" + WRITTEN
    )


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"HTTP2-Settings"),
        *(b"Proxy-Authorization", b"Proxy", b"Upgrade"),
        *(b"X-Forwarded-For", b"x-forwarded-host", b"X-FORWARDED-SERVER", b"X-Forwarded"),
        *(b"X_Forwarded_For", b"X-Forwarded_For", b"x.forwarded.for", b"Forwarded", b"X-Real-IP"),
        *(b"Remote-User", b"Remote_User", b"X-Auth-Request-User", b"Ssl-Client-Verify", b"Via"),
        *(b"X-Request-ID", b"X-Envoy-Internal", b"Client-Cert", b"X-Original-URL"),
    ],
)
def test_spoofed_and_hop_by_hop_fields_do_not_reach_the_app(name: bytes) -> None:
    """A visitor cannot speak for the gateway, in whatever spelling."""
    assert build_request(ask((name, b"keep-alive"))) == (
        b"GET /a?b HTTP/1.1\r\nhost: App.test:8443\r\n" + WRITTEN
    )


def test_nominated_fields_do_not_reach_the_app() -> None:
    """What Connection names is for this hop only."""
    head = ask((b"X-A", b"1"), (b"X-B", b"2"), (b"Connection", b"x-a"), (b"X-A", b"3"))
    assert b"x-b: 2" in build_request(head)
    assert b"x-a" not in build_request(head)


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ((b"Content-Length", b"007"), b"content-length: 7"),
        ((b"Content-Length", b"0"), b"content-length: 0"),
        (CHUNKED, b"transfer-encoding: chunked"),
    ],
)
def test_framing_is_written_anew(field: Field, line: bytes) -> None:
    """Length and coding are what was decided, once."""
    raw = build_request(ask(field, (b"Expect", b"100-continue"), method=b"POST"))
    assert raw.count(line + b"\r\n") == 1
    assert raw.count(b"content-length") + raw.count(b"transfer-encoding") == 1
    assert b"expect" not in raw


def test_websocket_handshake_reaches_the_app_whole() -> None:
    """Key, protocols (order and all) and extensions pass; the upgrade is written by us."""
    head = ask(
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"WebSocket"),
        (b"Sec-WebSocket-Key", KEY),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Protocol", b"streamlit, 2|ab|cd, SESSION"),
        (b"Origin", b"https://App.test:8443"),
    )
    lines = build_request(head).split(b"\r\n")
    assert lines[2:8] == [
        b"sec-websocket-key: " + KEY,
        b"sec-websocket-version: 13",
        b"sec-websocket-protocol: streamlit, 2|ab|cd, SESSION",
        b"origin: https://App.test:8443",
        b"connection: Upgrade",
        b"upgrade: websocket",
    ]


@pytest.mark.parametrize(
    ("peer_ip", "written", "node"),
    [
        ("192.0.2.7", b"192.0.2.7", b"192.0.2.7"),
        ("2001:db8::1", b"2001:db8::1", b'"[2001:db8::1]"'),
        ("fe80::1%eth0", b"fe80::1", b'"[fe80::1]"'),
        ("::ffff:192.0.2.7", b"192.0.2.7", b"192.0.2.7"),
    ],
)
def test_peer_is_written_in_each_notation(peer_ip: str, written: bytes, node: bytes) -> None:
    """IPv6 is quoted in Forwarded (RFC 7239 section 6), zones go, mapped IPv4 is IPv4."""
    raw = build_request(ask(), peer_ip)
    assert b"x-forwarded-for: " + written + b"\r\n" in raw
    assert b"forwarded: for=" + node + b";" in raw


@pytest.mark.parametrize(("peer_ip", "scheme"), [("a\r\nb", "https"), ("", "https"), ("::1", "x")])
def test_peer_that_is_none_raises(peer_ip: str, scheme: str) -> None:
    """What did not come from the kernel is a mistake of ours."""
    with pytest.raises(ValueError, match="not a peer"):
        build_request_head(ask(), peer_ip, scheme, 8443, "r1")


def test_version_of_the_visitor_is_said_in_via() -> None:
    """Via names the version that was received; the app is asked in 1.1."""
    raw = build_request(ask(version="1.0"))
    assert raw.startswith(b"GET /a?b HTTP/1.1\r\n")
    assert b"via: 1.0 lockgate\r\n" in raw


# --- to the visitor --------------------------------------------------------------------------


def test_response_gets_what_the_app_did_not_set() -> None:
    """Security fields, date and server are added; the app's own phrase is not used."""
    assert build_response(200, (b"Content-Type", b"text/html"), (b"Content-Length", b"5")) == [
        b"HTTP/1.1 200 OK",
        b"content-type: text/html",
        b"date: " + DATE,
        b"strict-transport-security: max-age=1",
        b"x-content-type-options: nosniff",
        b"referrer-policy: strict-origin-when-cross-origin",
        b"server: lockgate",
        b"content-length: 5",
    ]


def test_response_keeps_what_the_app_did_set() -> None:
    """The app's date and policies win, and are sent once."""
    lines = build_response(
        200,
        (b"Date", b"then"),
        (b"X-Content-Type-Options", b"x"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Strict-Transport-Security", b"max-age=2"),
        (b"Server", b"uvicorn"),
        CHUNKED,
    )
    assert sorted(lines[1:]) == [
        b"date: then",
        b"referrer-policy: no-referrer",
        b"server: lockgate",
        b"strict-transport-security: max-age=2",
        b"transfer-encoding: chunked",
        b"x-content-type-options: x",
    ]


def test_plain_http_never_speaks_of_tls() -> None:
    """Without TLS there is neither HSTS, not even the app's, nor Secure."""
    lines = build_response(
        200,
        CHUNKED,
        (b"Set-Cookie", b"a=1"),
        (b"Strict-Transport-Security", b"max-age=2"),
        is_tls=False,
    )
    assert b"set-cookie: a=1" in lines
    assert not any(line.startswith(b"strict") for line in lines)


def test_hsts_may_be_left_to_the_app() -> None:
    """Without a policy of ours none is added."""
    lines = build_response(200, CHUNKED, hsts=None)
    assert not any(line.startswith(b"strict") for line in lines)


def test_cookies_stay_apart_and_become_secure() -> None:
    """Each Set-Cookie keeps its own line and its order."""
    lines = build_response(
        200, CHUNKED, (b"Set-Cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2; Secure; HttpOnly")
    )
    assert [line for line in lines if line.startswith(b"set-cookie")] == [
        b"set-cookie: a=1; Path=/; Secure",
        b"set-cookie: b=2; Secure; HttpOnly",
    ]


@pytest.mark.parametrize(
    ("value", "is_tls", "keeps_domain", "built"),
    [
        (b"a=1", True, False, b"a=1; Secure"),
        (b"a=1", False, False, b"a=1"),
        (b"a=1;secure", True, False, b"a=1;secure"),
        (b"a=1; SECURE ; Path=/", True, False, b"a=1; SECURE ; Path=/"),
        (b"a=1; Secure=x", True, False, b"a=1; Secure=x"),
        (b"secure=1; Path=/", True, False, b"secure=1; Path=/; Secure"),
        (b"a=secure", True, False, b"a=secure; Secure"),
        (b"a=1; Domain=test; Path=/", True, False, b"a=1; Path=/; Secure"),
        (b"a=1; Domain=test", True, True, b"a=1; Domain=test; Secure"),
        (b"domain=test; Path=/", False, False, b"domain=test; Path=/"),
        (b"", True, False, b"; Secure"),
    ],
)
def test_cookie_is_built(value: bytes, is_tls: bool, keeps_domain: bool, built: bytes) -> None:
    """Secure is added where it is missing, Domain taken away, the rest left alone."""
    assert build_cookie(value, is_tls, keeps_domain) == built


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Authenticate", b"Upgrade"),
        *(b"Trailer", b"TE", b"Alt-Svc", b"X-Request-ID", b"Server"),
    ],
)
def test_fields_of_the_inner_hop_do_not_reach_the_visitor(name: bytes) -> None:
    """What the app says to the gateway stays with the gateway."""
    lines = build_response(200, CHUNKED, (name, b"keep-alive"))
    assert not any(line.startswith(name.lower() + b": keep") for line in lines)


def test_nominated_fields_do_not_reach_the_visitor() -> None:
    """What the app nominates is removed, and counts as not set."""
    lines = build_response(
        200, CHUNKED, (b"Connection", b"x-a, referrer-policy"), (b"X-A", b"1"),
        (b"Referrer-Policy", b"x"),
    )  # fmt: skip
    assert not any(line.startswith(b"x-a") for line in lines)
    assert b"referrer-policy: strict-origin-when-cross-origin" in lines


@pytest.mark.parametrize(
    ("fields", "version", "keep_alive", "last"),
    [
        ([CHUNKED], b"1.1", True, [b"transfer-encoding: chunked"]),
        ([CHUNKED], b"1.1", False, [b"transfer-encoding: chunked", b"connection: close"]),
        ([CHUNKED], b"1.0", True, [b"connection: close"]),
        ([], b"1.1", True, [b"transfer-encoding: chunked"]),
        ([], b"1.0", True, [b"connection: close"]),
        (
            [(b"Content-Length", b"3")],
            b"1.0",
            True,
            [b"content-length: 3", b"connection: keep-alive"],
        ),
        ([(b"Content-Length", b"3")], b"1.0", False, [b"content-length: 3", b"connection: close"]),
    ],
)
def test_framing_suits_the_visitor(
    fields: list[Field], version: bytes, keep_alive: bool, last: list[bytes]
) -> None:
    """Length, coding and connection are written for the version that the visitor speaks."""
    lines = build_response(200, *fields, version=version, keep_alive=keep_alive)
    assert lines[lines.index(b"server: lockgate") + 1 :] == last


@pytest.mark.parametrize(
    ("status", "field", "framing"),
    [
        (204, (b"Content-Length", b"3"), []),
        (204, CHUNKED, []),
        (304, (b"Content-Length", b"3"), [b"content-length: 3"]),
        (304, CHUNKED, []),
    ],
)
def test_bodiless_status_has_no_framing(status: int, field: Field, framing: list[bytes]) -> None:
    """204 has neither length nor coding, 304 may state a length."""
    lines = build_response(status, field)
    assert lines[lines.index(b"server: lockgate") + 1 :] == framing


def test_unknown_status_is_sent_without_a_phrase() -> None:
    """A status without a phrase of ours keeps its number, and the space that ends it."""
    assert build_response(299, CHUNKED)[0] == b"HTTP/1.1 299 "
    assert all(100 <= status < 600 for status in PHRASES)


def test_switch_of_protocols_reaches_the_visitor() -> None:
    """A 101 keeps proof and protocol and has the upgrade written by us."""
    request = ask(
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", KEY),
        (b"Sec-WebSocket-Version", b"13"),
    )
    accept = (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    head = decide_response(
        request,
        101,
        "1.1",
        [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            accept,
            (b"Sec-WebSocket-Protocol", b"streamlit"),
        ],
    )
    lines = build_response_head(head, b"1.1", True, True, date=DATE).split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"sec-websocket-accept: " + accept[1] in lines
    assert b"sec-websocket-protocol: streamlit" in lines
    assert lines[-4:] == [b"connection: Upgrade", b"upgrade: websocket", b"", b""]


def test_early_hints_are_links_only() -> None:
    """A provisional answer passes its links and nothing else."""
    head = decide_response(ask(), 103, "1.1", [(b"Link", b"</a>"), (b"Set-Cookie", b"a=1")])
    built = build_response_head(head, b"1.1", True, True, date=DATE)
    assert built == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "version", "forwarded"),
    [(103, b"1.1", True), (103, b"1.0", False), (100, b"1.1", False), (102, b"1.1", False)],
)
def test_only_early_hints_are_forwarded(status: int, version: bytes, forwarded: bool) -> None:
    """A 100 is ours to give, and HTTP/1.0 knows no 1xx."""
    assert forwards_interim(decide_response(ask(), status, "1.1", []), version) is forwarded


# --- pages of the gateway's own --------------------------------------------------------------


@pytest.mark.parametrize("reason", REFUSALS)
def test_page_head_says_whose_fault_it_was(reason: str) -> None:
    """Every refusal has a head with its status, its reason and nothing to cache."""
    head = build_page_head(reason, b"text/html", 7)
    fields = dict(head.headers)
    assert head.status == REFUSALS[reason][0]
    assert fields[b"cache-control"] == b"no-store"
    assert fields[b"proxy-status"].startswith(b"lockgate; error=")
    assert fields[b"proxy-status"].endswith(b'; details="' + reason.encode() + b'"')
    assert (b"retry-after" in fields) is (head.status == 503)
    assert (b"allow" in fields) is (head.status == 405)


def test_page_head_is_sent_with_its_proxy_status() -> None:
    """What the gateway says of itself is not stripped like an app's words."""
    head = build_page_head("unknown_host", b"text/html; charset=utf-8", 7)
    raw = build_response_head(head, b"1.1", False, True, date=DATE)
    assert raw.startswith(b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html; charset=utf-8\r\n")
    assert b'proxy-status: lockgate; error=destination_not_found; details="unknown_host"' in raw
    assert raw.endswith(b"content-length: 7\r\nconnection: close\r\n\r\n")


# --- whatever strangers send -----------------------------------------------------------------

TEXT = st.from_regex(rb"[\t -~\x80-\xff]{0,16}", fullmatch=True)
NAME = st.one_of(
    st.sampled_from(
        [
            *(b"Connection", b"Content-Length", b"Transfer-Encoding", b"Cookie", b"Upgrade"),
            *(b"X-Forwarded-For", b"TE", b"X-A", b"x-a", b"Set-Cookie", b"Expect"),
        ]
    ),
    st.from_regex(rb"[A-Za-z0-9_.!-]{1,12}", fullmatch=True),
)
VALUE = st.one_of(st.sampled_from([b"3", b"chunked", b"x-a", b"a=1; Domain=b", b"close"]), TEXT)
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=8)


def names_of(fields: Sequence[Field]) -> list[bytes]:
    """Names only."""
    return [name for name, _ in fields]


@given(st.from_regex(rb"[!-~]{0,12}", fullmatch=True), FIELDS)
def test_rebuilt_request_means_the_same_to_any_parser(url: bytes, fields: list[Field]) -> None:
    """llhttp reads the rebuilt head as it was decided, and rebuilding it again changes nothing."""
    try:
        head = decide_request(b"POST", b"/" + url, "1.1", [HOST, *fields])
    except Refusal:
        return
    raw = build_request(head)
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    parser.feed_data(raw)
    assert raw.count(b"\r\n") == len(parsed.fields) + 2
    assert raw.replace(b"\r\n", b"").translate(None, b"\x00\r\n") == raw.replace(b"\r\n", b"")
    again = decide_request(
        parser.get_method(), parsed.url, parser.get_http_version(), parsed.fields
    )
    assert (again.target, again.host, again.body, again.length) == (
        head.target,
        head.host,
        head.body,
        head.length,
    )
    assert not any(
        is_hop_by_hop(name) and name != b"transfer-encoding" for name in names_of(parsed.fields)
    )
    assert names_of(parsed.fields).count(b"x-forwarded-for") == 1
    assert build_request(again) == raw


@given(st.integers(min_value=200, max_value=599), FIELDS, st.sampled_from([b"1.0", b"1.1"]))
def test_rebuilt_response_means_the_same_to_any_parser(
    status: int, fields: list[Field], version: bytes
) -> None:
    """llhttp reads what visitors get as one head with the decided framing."""
    try:
        head = decide_response(ask(), status, "1.1", fields)
    except Refusal:
        return
    raw = build_response_head(head, version, True, True, date=DATE)
    parsed = Parsed()
    parser = httptools.HttpResponseParser(parsed)
    parser.feed_data(raw)
    assert parser.get_status_code() == status
    assert raw.count(b"\r\n") == len(parsed.fields) + 2
    again = decide_response(ask(), status, parser.get_http_version(), parsed.fields)
    if version == b"1.1" and status != 204:
        expected = Body.chunked if head.body is Body.until_close else head.body
        assert (again.body, again.length) == (expected, head.length)
    assert ResponseHead(*again) == again
