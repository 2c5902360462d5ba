"""What strangers send to be read in two ways: requests, bodies and answers, as data.

Each vector has a name, the status that must come back, and the bytes. Whatever follows a vector
on its connection must never be read as a request.
"""

HOST = b"hello.localhost"
H = b"Host: " + HOST + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + H + b"\r\n"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n"
)


def post(fields: bytes, body: bytes = b"0\r\n\r\n" + SMUGGLED) -> bytes:
    """A POST with Host, these field lines, and a body that ends early for some readers."""
    return b"POST /a HTTP/1.1\r\n" + H + fields + b"\r\n" + body


def get(fields: bytes, first: bytes = b"GET /a HTTP/1.1") -> bytes:
    """A GET with Host and these field lines."""
    return first + b"\r\n" + H + fields + b"\r\n"


def line(first: bytes) -> bytes:
    """A request with this first line."""
    return get(b"", first)


_CL = b"Content-Length: 5\r\n"

LENGTHS = [
    ("cl-te", 400, post(_CL + CHUNKED)),
    ("te-cl", 400, post(CHUNKED + _CL)),
    ("te-cl-zero", 400, post(CHUNKED + b"Content-Length: 0\r\n")),
    ("cl-te-lower-case", 400, post(b"content-length: 5\r\ntransfer-encoding: chunked\r\n")),
    ("cl-te-tab", 400, post(_CL + b"Transfer-Encoding:\tchunked\r\n")),
    ("cl-te-unknown", 400, post(_CL + b"Transfer-Encoding: xchunked\r\n")),
    ("cl-dup-same", 400, post(_CL + _CL)),
    ("cl-dup-different", 400, post(_CL + b"Content-Length: 6\r\n")),
    ("cl-comma-same", 400, post(b"Content-Length: 5, 5\r\n")),
    ("cl-comma-different", 400, post(b"Content-Length: 0, 5\r\n")),
    ("cl-plus", 400, post(b"Content-Length: +5\r\n")),
    ("cl-minus", 400, post(b"Content-Length: -5\r\n")),
    ("cl-hex", 400, post(b"Content-Length: 0x5\r\n")),
    ("cl-underscore", 400, post(b"Content-Length: 1_0\r\n")),
    ("cl-float", 400, post(b"Content-Length: 5.0\r\n")),
    ("cl-space-inside", 400, post(b"Content-Length: 0 5\r\n")),
    ("cl-empty", 400, post(b"Content-Length:\r\n")),
    ("cl-arabic-digit", 400, post("Content-Length: \u0665\r\n".encode())),
    ("cl-overflow-64", 400, post(b"Content-Length: 18446744073709551621\r\n")),
    ("cl-overflow-63", 400, post(b"Content-Length: 9223372036854775808\r\n")),
    ("cl-space-before-colon", 400, post(b"Content-Length : 5\r\n")),
    ("cl-vertical-tab", 400, post(b"Content-Length: 5\x0b\r\n")),
    ("cl-nul", 400, post(b"Content-Length: 5\x00\r\n")),
    ("cl-folded", 400, post(b"Content-Length:\r\n 5\r\n")),
    ("cl-bare-cr", 400, post(b"Content-Length: 0\rContent-Length: 5\r\n")),
    ("cl-bare-lf", 400, post(b"X: y\nContent-Length: 5\r\n")),
]

CODINGS = [
    ("te-xchunked", 400, post(b"Transfer-Encoding: xchunked\r\n")),
    ("te-chunked-twice", 400, post(b"Transfer-Encoding: chunked, chunked\r\n")),
    ("te-gzip-chunked", 501, post(b"Transfer-Encoding: gzip, chunked\r\n")),
    ("te-identity", 400, post(b"Transfer-Encoding: identity\r\n")),
    ("te-identity-chunked", 501, post(b"Transfer-Encoding: identity, chunked\r\n")),
    ("te-chunked-identity", 400, post(b"Transfer-Encoding: chunked, identity\r\n")),
    ("te-cow", 400, post(b"Transfer-Encoding: cow\r\n")),
    ("te-empty", 400, post(b"Transfer-Encoding:\r\n")),
    ("te-quoted", 400, post(b'Transfer-Encoding: "chunked"\r\n')),
    ("te-parameter", 400, post(b"Transfer-Encoding: chunked;q=1\r\n")),
    ("te-two-lines", 400, post(CHUNKED + CHUNKED)),
    ("te-then-identity", 400, post(CHUNKED + b"Transfer-Encoding: identity\r\n")),
    ("identity-then-te", 501, post(b"Transfer-Encoding: identity\r\n" + CHUNKED)),
    ("te-space-before-colon", 400, post(b"Transfer-Encoding : chunked\r\n")),
    ("te-tab-before-colon", 400, post(b"Transfer-Encoding\t: chunked\r\n")),
    ("te-folded", 400, post(b"Transfer-Encoding:\r\n chunked\r\n")),
    ("te-folded-tail", 400, post(CHUNKED[:-2] + b"\r\n , identity\r\n")),
    ("te-indented", 400, post(b" Transfer-Encoding: chunked\r\n")),
    ("te-hidden-by-lf", 400, post(b"X: y\nTransfer-Encoding: chunked\r\n")),
    ("te-hidden-by-cr", 400, post(b"X: y\rTransfer-Encoding: chunked\r\n")),
    ("te-cr-at-end", 400, post(b"Transfer-Encoding: chunked\r\r\n")),
    ("te-vertical-tab", 400, post(b"Transfer-Encoding: \x0bchunked\r\n")),
    ("te-form-feed", 400, post(b"Transfer-Encoding: chunked\x0c\r\n")),
    ("te-nul", 400, post(b"Transfer-Encoding: chunked\x00\r\n")),
    ("te-nul-in-name", 400, post(b"Transfer\x00-Encoding: chunked\r\n")),
    ("te-in-http10", 400, b"POST /a HTTP/1.0\r\n" + H + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED),
]

LINES = [
    ("rl-two-spaces", 400, line(b"GET  /a HTTP/1.1")),
    ("rl-two-spaces-after", 400, line(b"GET /a  HTTP/1.1")),
    ("rl-tab", 400, line(b"GET\t/a HTTP/1.1")),
    ("rl-leading-space", 400, line(b" GET /a HTTP/1.1")),
    ("rl-trailing-space", 400, line(b"GET /a HTTP/1.1 ")),
    ("rl-no-version", 400, line(b"GET /a")),
    ("rl-lf-injects", 400, line(b"GET /a\nX: 1 HTTP/1.1")),
    ("rl-cr-injects", 400, line(b"GET /a\rX: 1 HTTP/1.1")),
    ("rl-space-in-target", 400, line(b"GET /a b HTTP/1.1")),
    ("rl-bare-lf", 400, b"GET /a HTTP/1.1\n" + H + b"\r\n"),
    ("rl-bare-cr", 400, b"GET /a HTTP/1.1\r" + H + b"\r\n"),
    ("rl-all-lf", 400, b"GET /a HTTP/1.1\nHost: " + HOST + b"\n\n"),
    ("rl-nul", 400, line(b"GET /a\x00 HTTP/1.1")),
    ("rl-lower-http", 400, line(b"GET /a http/1.1")),
    ("rl-rtsp", 400, line(b"DESCRIBE /a RTSP/1.0")),
    ("rl-ice", 400, line(b"SOURCE /a ICE/1.0")),
    ("rl-long-method", 400, line(b"G" * 40 + b" /a HTTP/1.1")),
    ("rl-tls-hello", 400, b"\x16\x03\x01\x00\x05hello\r\n\r\n"),
    ("rl-only-crlf", 400, b"\r\n\r\n\r\n\r\n" + line(b"GET /a HTTP/1.1")),
    ("rl-http20", 505, line(b"GET /a HTTP/2.0")),
    ("rl-http12", 505, line(b"GET /a HTTP/1.2")),
    ("rl-http09", 505, line(b"GET /a HTTP/0.9")),
    ("rl-preface", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("rl-lower-method", 501, line(b"get /a HTTP/1.1")),
    ("rl-unknown-method", 501, line(b"SMUGGLE /a HTTP/1.1")),
    ("rl-connect", 405, line(b"CONNECT hello.localhost:443 HTTP/1.1")),
    ("rl-connect-path", 405, line(b"CONNECT /a HTTP/1.1")),
    ("rl-trace", 405, line(b"TRACE /a HTTP/1.1")),
    ("rl-long-url", 414, line(b"GET /" + b"a" * 9000 + b" HTTP/1.1")),
    ("rl-endless-url", 414, b"GET /" + b"a" * 30000),
    ("rl-fragment", 400, line(b"GET /a#b HTTP/1.1")),
    ("rl-backslash", 400, line(b"GET /\\evil.test HTTP/1.1")),
    ("rl-utf8", 400, line("GET /\u00fc HTTP/1.1".encode())),
    ("rl-no-slash", 400, line(b"GET a HTTP/1.1")),
    ("rl-asterisk", 400, line(b"GET * HTTP/1.1")),
    ("rl-authority-form", 400, line(b"GET hello.localhost:443 HTTP/1.1")),
    ("rl-ftp", 400, line(b"GET ftp://hello.localhost/ HTTP/1.1")),
    ("rl-other-site", 400, line(b"GET https://evil.test/a HTTP/1.1")),
    ("rl-other-port", 400, line(b"GET https://hello.localhost:1/a HTTP/1.1")),
    ("rl-userinfo", 400, line(b"GET https://hello.localhost@evil.test/ HTTP/1.1")),
]

HOSTS = [
    ("host-missing", 400, b"GET /a HTTP/1.1\r\n\r\n"),
    ("host-missing-10", 400, b"GET /a HTTP/1.0\r\n\r\n"),
    ("host-underscore", 400, b"GET /a HTTP/1.1\r\nHo_st: hello.localhost\r\n\r\n"),
    ("host-twice", 400, get(H)),
    ("host-twice-different", 400, get(b"Host: evil.test\r\n")),
    ("host-empty", 400, b"GET /a HTTP/1.1\r\nHost:\r\n\r\n"),
    ("host-comma", 400, b"GET /a HTTP/1.1\r\nHost: hello.localhost, evil.test\r\n\r\n"),
    ("host-userinfo", 400, b"GET /a HTTP/1.1\r\nHost: evil.test@hello.localhost\r\n\r\n"),
    ("host-path", 400, b"GET /a HTTP/1.1\r\nHost: hello.localhost/evil\r\n\r\n"),
    ("host-query", 400, b"GET /a HTTP/1.1\r\nHost: hello.localhost?evil\r\n\r\n"),
    ("host-space", 400, b"GET /a HTTP/1.1\r\nHost: hello.localhost evil.test\r\n\r\n"),
    ("host-port-text", 400, b"GET /a HTTP/1.1\r\nHost: hello.localhost:x\r\n\r\n"),
    ("host-port-large", 400, b"GET /a HTTP/1.1\r\nHost: hello.localhost:65536\r\n\r\n"),
    ("host-percent", 400, b"GET /a HTTP/1.1\r\nHost: hello%2elocalhost\r\n\r\n"),
    ("host-space-before-colon", 400, b"GET /a HTTP/1.1\r\nHost : hello.localhost\r\n\r\n"),
    ("host-other", 421, b"GET /a HTTP/1.1\r\nHost: other.localhost\r\n\r\n"),
]

FIELDS = [
    ("field-folded", 400, get(b"X: a\r\n b\r\n")),
    ("field-first-indented", 400, b"GET /a HTTP/1.1\r\n X: y\r\n" + H + b"\r\n"),
    ("field-no-colon", 400, get(b"X\r\n")),
    ("field-no-name", 400, get(b": x\r\n")),
    ("field-space-in-name", 400, get(b"X Y: z\r\n")),
    ("field-space-before-colon", 400, get(b"X : z\r\n")),
    ("field-parentheses", 400, get(b"X(Y): z\r\n")),
    ("field-high-name", 400, get(b"X\xc3\xa9: z\r\n")),
    ("field-control-in-name", 400, get(b"X\x01: z\r\n")),
    ("field-nul", 400, get(b"X: a\x00b\r\n")),
    ("field-escape", 400, get(b"X: a\x1bb\r\n")),
    ("field-delete", 400, get(b"X: a\x7fb\r\n")),
    ("field-bare-cr", 400, get(b"X: a\rb\r\n")),
    ("field-bare-lf", 400, get(b"X: a\nY: b\r\n")),
    ("field-long-name", 400, get(b"X" * 300 + b": a\r\n")),
    ("field-101", 431, get(b"X: a\r\n" * 100)),
    ("field-2000", 431, get(b"X: a\r\n" * 2000)),
    ("field-64k", 431, get(b"X: " + b"a" * 65536 + b"\r\n")),
    ("field-endless", 431, b"GET /a HTTP/1.1\r\n" + H + b"X: " + b"a" * 40000),
    ("connection-host", 400, get(b"Connection: host\r\n")),
    ("connection-length", 400, post(_CL + b"Connection: content-length\r\n")),
    ("connection-coding", 400, post(CHUNKED + b"Connection: transfer-encoding\r\n")),
    ("connection-forwarded", 400, get(b"Connection: close, X-Forwarded-For\r\n")),
    ("connection-identity", 400, get(b"Connection: Remote-User\r\n")),
    ("connection-cookie", 400, get(b"Connection: cookie\r\nCookie: a=b\r\n")),
    ("connection-no-token", 400, get(b"Connection: close; x\r\n")),
    ("expect-unknown", 417, post(_CL + b"Expect: tea\r\n")),
    ("expect-prefixed", 417, post(_CL + b"Expect: y 100-continue\r\n")),
    ("expect-twice", 417, post(_CL + b"Expect: 100-continue\r\nExpect: 100-continue\r\n")),
    ("upgrade-body", 400, post(_CL + b"Upgrade: h2c\r\nConnection: Upgrade\r\n")),
    ("upgrade-chunked", 400, post(CHUNKED + b"Upgrade: h2c\r\nConnection: Upgrade\r\n")),
    ("upgrade-unlisted-body", 400, post(_CL + b"Upgrade: h2c\r\n")),
    ("websocket-body", 400, get(HANDSHAKE + b"Content-Length: 50\r\n") + SMUGGLED),
    ("websocket-chunked", 400, get(HANDSHAKE + CHUNKED) + b"0\r\n\r\n" + SMUGGLED),
]

HEADS = {
    "lengths": LENGTHS,
    "codings": CODINGS,
    "lines": LINES,
    "hosts": HOSTS,
    "fields": FIELDS,
}
"""Nothing at all of these may reach an app."""


def chunked(body: bytes) -> bytes:
    """A chunked POST with this body as it is on the wire."""
    return post(CHUNKED, body)


BODIES = [
    ("chunk-size-lf", 400, chunked(b"3\nabc\r\n0\r\n\r\n")),
    ("chunk-size-cr", 400, chunked(b"3\rabc\r\n0\r\n\r\n")),
    ("chunk-data-lf", 400, chunked(b"3\r\nabc\n0\r\n\r\n")),
    ("chunk-last-lf", 400, chunked(b"3\r\nabc\r\n0\n\n")),
    ("chunk-size-0x", 400, chunked(b"0x3\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-plus", 400, chunked(b"+3\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-minus", 400, chunked(b"-3\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-underscore", 400, chunked(b"0_3\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-leading-space", 400, chunked(b" 3\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-trailing-space", 400, chunked(b"3 \r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-empty", 400, chunked(b"\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-text", 400, chunked(b"xyz\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-overflow", 400, chunked(b"10000000000000003\r\nabc\r\n0\r\n\r\n")),
    ("chunk-size-huge", 413, chunked(b"7fffffffffffffff\r\n" + b"a" * 4000)),
    ("chunk-too-short", 400, chunked(b"4\r\nabc\r\n0\r\n\r\n")),
    ("chunk-too-long", 400, chunked(b"2\r\nabc\r\n0\r\n\r\n")),
    ("chunk-extension-lf", 400, chunked(b"3;a\nb\r\nabc\r\n0\r\n\r\n")),
    ("chunk-extension-nul", 400, chunked(b"3;a=\x00\r\nabc\r\n0\r\n\r\n")),
    ("chunk-extension-quote", 400, chunked(b'3;a="b\r\nabc\r\n0\r\n\r\n')),
    ("chunk-extension-20k", 400, chunked(b"3;" + b"a" * 20000 + b"\r\nabc\r\n0\r\n\r\n")),
    ("chunk-extension-flood", 400, chunked(b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n" * 2000)),
    ("trailer-no-colon", 400, chunked(b"3\r\nabc\r\n0\r\nX\r\n\r\n")),
    ("trailer-bare-cr", 400, chunked(b"3\r\nabc\r\n0\r\nX: a\rb\r\n\r\n")),
    ("trailer-lf", 400, chunked(b"3\r\nabc\r\n0\r\nX: a\nY: b\r\n\r\n")),
    ("trailer-folded", 400, chunked(b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n")),
    ("trailer-200k", 431, chunked(b"3\r\nabc\r\n0\r\n" + b"X: aaaaaaaaaaaaaaaa\r\n" * 10000)),
]
"""Here the head is fine, so it may have been passed on; the request must never become whole."""

HARMLESS = [
    ("underscore-coding", post(_CL + b"Transfer_Encoding: chunked\r\n", b"abcde"), [b"/a"]),
    ("underscore-length", get(b"Content_Length: 5\r\n"), [b"/a"]),
    ("leading-zeros", post(b"Content-Length: 005\r\n", b"abcde"), [b"/a"]),
    ("length-in-tabs", post(b"Content-Length:\t5\t\r\n", b"abcde"), [b"/a"]),
    ("get-with-body", get(b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, [b"/a"]),
    ("upper-case-coding", post(b"TRANSFER-ENCODING: CHUNKED\r\n", b"1\r\na\r\n0\r\n\r\n"), [b"/a"]),
    ("extension", post(CHUNKED, b"3;a=b\r\nabc\r\n0;c\r\n\r\n"), [b"/a"]),
    (
        "trailers",
        post(CHUNKED, b"0\r\nHost: evil.test\r\nForwarded: for=x\r\n\r\n"),
        [b"/a"],
    ),
    ("body-like-an-end", post(CHUNKED, b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), [b"/a"]),
    ("leading-crlf", b"\r\n" + get(b""), [b"/a"]),
    ("upgrade-h2c", get(b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"), [b"/a"]),
    ("upgrade-refused", get(HANDSHAKE) + SMUGGLED, [b"/a", b"/smuggled"]),
    ("upgrade-bad-key", get(HANDSHAKE.replace(KEY, b"x")) + SMUGGLED, [b"/a", b"/smuggled"]),
    ("expect-without-body", get(b"Expect: 100-continue\r\n"), [b"/a"]),
    ("absolute-form", line(b"GET https://hello.localhost/a HTTP/1.1"), [b"/a"]),
    ("proxy-connection-close", get(b"Proxy-Connection: close\r\n"), [b"/a"]),
    ("pipelined", get(b"") + SMUGGLED, [b"/a", b"/smuggled"]),
]
"""Odd but clear: each target reaches the app once and the connection stays in step."""


def ok(fields: bytes, body: bytes = b"ok", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """An app's answer."""
    return first + b"\r\n" + fields + b"\r\n" + body


_LENGTH = b"Content-Length: 2\r\n"
_SWITCH = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"

ANSWERS = [
    ("length-twice", ok(_LENGTH + _LENGTH)),
    ("length-text", ok(b"Content-Length: two\r\n")),
    ("length-negative", ok(b"Content-Length: -2\r\n")),
    ("length-comma", ok(b"Content-Length: 2, 2\r\n")),
    ("length-and-coding", ok(_LENGTH + CHUNKED)),
    ("coding-and-length", ok(CHUNKED + _LENGTH)),
    ("coding-gzip", ok(b"Transfer-Encoding: gzip\r\n")),
    ("coding-gzip-chunked", ok(b"Transfer-Encoding: gzip, chunked\r\n", b"2\r\nok\r\n0\r\n\r\n")),
    ("coding-twice", ok(CHUNKED + CHUNKED, b"2\r\nok\r\n0\r\n\r\n")),
    ("coding-in-http10", ok(CHUNKED, b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.0 200 OK")),
    ("field-bare-cr", ok(_LENGTH + b"X: a\rSet-Cookie: b=c\r\n")),
    ("field-bare-lf", ok(_LENGTH + b"X: a\nSet-Cookie: b=c\r\n")),
    ("field-nul", ok(_LENGTH + b"X: a\x00\r\n")),
    ("field-folded", ok(_LENGTH + b"X: a\r\n b\r\n")),
    ("field-space-in-name", ok(_LENGTH + b"X Y: a\r\n")),
    ("field-no-colon", ok(_LENGTH + b"X\r\n")),
    ("phrase-nul", ok(_LENGTH, first=b"HTTP/1.1 200 O\x00K")),
    ("phrase-cr", ok(_LENGTH, first=b"HTTP/1.1 200 O\rK")),
    ("status-099", ok(_LENGTH, first=b"HTTP/1.1 099 OK")),
    ("status-999", ok(_LENGTH, first=b"HTTP/1.1 999 OK")),
    ("status-two-digits", ok(_LENGTH, first=b"HTTP/1.1 20 OK")),
    ("version-2", ok(_LENGTH, first=b"HTTP/2.0 200 OK")),
    ("version-icy", ok(_LENGTH, first=b"ICY 200 OK")),
    ("not-http", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ("http09", b"<html>hello</html>\r\n\r\n"),
    (
        "switch-unasked",
        ok(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"", b"HTTP/1.1 101 S"),
    ),
    ("switch-bare", ok(b"", b"", b"HTTP/1.1 101 S")),
    ("interim-flood", ok(b"Link: </a>\r\n", b"", b"HTTP/1.1 103 E") * 51 + ok(_LENGTH)),
    ("head-70k", ok(b"X: " + b"a" * 70000 + b"\r\n" + _LENGTH)),
    ("fields-201", ok(b"X: a\r\n" * 201 + _LENGTH)),
    ("closed-in-head", b"HTTP/1.1 200 OK\r\nContent-Le"),
    ("closed-at-once", b""),
]
"""Each of these is a 502 for the visitor and the end of the connection to the app."""
