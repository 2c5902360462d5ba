"""Heads as they leave the gateway: rebuilt from decided values, never copied from the wire.

Invariants: what is meant for one hop stays on that hop; what speaks of the visitor is written
here and nowhere else; a field is stripped before one of ours is added; no value holds CR, LF
or NUL (framing refused those). Each build is one join: this is the hot path.
"""

import re
from functools import lru_cache

from gateway.errors import REFUSALS
from gateway.fields import is_hop_by_hop, is_own
from gateway.framing import Body, RequestHead, ResponseHead, pick_visitor_body

PRODUCT = b"lockgate"
HSTS = b"max-age=31536000"

_RETRY_AFTER_S = 5

_IP = re.compile(r"[0-9A-Fa-f:.]{2,45}")

_WRITTEN_TO_UPSTREAM = frozenset({b"host", b"content-length", b"expect"})
_WRITTEN_TO_VISITOR = frozenset(
    {
        b"content-length",
        b"server",
        b"alt-svc",
        b"x-request-id",
        b"set-cookie",
        b"strict-transport-security",
    }
)

PHRASES: dict[int, bytes] = {
    100: b"Continue",
    101: b"Switching Protocols",
    103: b"Early Hints",
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    203: b"Non-Authoritative Information",
    204: b"No Content",
    205: b"Reset Content",
    206: b"Partial Content",
    207: b"Multi-Status",
    208: b"Already Reported",
    226: b"IM Used",
    300: b"Multiple Choices",
    301: b"Moved Permanently",
    302: b"Found",
    303: b"See Other",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    406: b"Not Acceptable",
    407: b"Proxy Authentication Required",
    408: b"Request Timeout",
    409: b"Conflict",
    410: b"Gone",
    411: b"Length Required",
    412: b"Precondition Failed",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
    423: b"Locked",
    424: b"Failed Dependency",
    425: b"Too Early",
    426: b"Upgrade Required",
    428: b"Precondition Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    451: b"Unavailable For Legal Reasons",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    506: b"Variant Also Negotiates",
    507: b"Insufficient Storage",
    508: b"Loop Detected",
    511: b"Network Authentication Required",
}
"""Reason phrases of RFC 9110 and its neighbours; any other status is sent without one."""

_STATUS_LINES = {status: b"HTTP/1.1 %d %b" % (status, phrase) for status, phrase in PHRASES.items()}


@lru_cache(maxsize=1024)
def _passes_upstream(name: bytes) -> bool:
    return not (name in _WRITTEN_TO_UPSTREAM or is_hop_by_hop(name) or is_own(name))


@lru_cache(maxsize=1024)
def _passes_downstream(name: bytes) -> bool:
    return not (name in _WRITTEN_TO_VISITOR or is_hop_by_hop(name))


@lru_cache(maxsize=1024)
def _build_peer_lines(peer_ip: str, scheme: str, port: int) -> tuple[bytes, bytes]:
    """The forwarded lines that are the same for every request of one connection."""
    ip = peer_ip.partition("%")[0]
    mapped = ip.lower().removeprefix("::ffff:")
    ip = mapped if "." in mapped else ip
    if not _IP.fullmatch(ip) or scheme not in {"http", "https"}:
        raise ValueError(f"not a peer of ours: {peer_ip!r} over {scheme!r}")
    node = f'"[{ip}]"' if ":" in ip else ip
    return (
        f"x-forwarded-for: {ip}\r\nx-forwarded-proto: {scheme}\r\n"
        f"x-forwarded-port: {port}\r\nx-forwarded-host: ".encode(),
        f'\r\nforwarded: for={node};proto={scheme};host="'.encode(),
    )


def _drop_nominated(head: RequestHead | ResponseHead) -> tuple[tuple[bytes, bytes], ...]:
    if not head.nominated:
        return head.headers
    return tuple(entry for entry in head.headers if entry[0] not in head.nominated)


def _build_status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def build_request_head(
    head: RequestHead, peer_ip: str, scheme: str, port: int, request_id: str
) -> bytes:
    """The request head to send to the upstream, always HTTP/1.1, ready with its empty line.

    `peer_ip` is the visitor's address as the kernel gave it, `port` the gateway's own public
    port. Host, cookies and Sec-WebSocket-Protocol pass unchanged. Expect is consumed: the
    gateway answers 100 itself.
    """
    parts = [b"%b %b HTTP/1.1\r\nhost: %b" % (head.method, head.target, head.authority)]
    parts += [
        name + b": " + value for name, value in _drop_nominated(head) if _passes_upstream(name)
    ]
    if head.websocket is not None:
        parts.append(b"connection: Upgrade\r\nupgrade: websocket")
    elif head.body is Body.chunked:
        parts.append(b"transfer-encoding: chunked")
    elif head.length is not None:
        parts.append(b"content-length: %d" % head.length)
    forwarded, rfc7239 = _build_peer_lines(peer_ip, scheme, port)
    authority = head.authority
    parts.append(
        forwarded + authority + rfc7239 + authority + b'"\r\nvia: %b %b' % (head.version, PRODUCT)
    )
    parts.append(b"x-request-id: %b\r\n\r\n" % request_id.encode("ascii"))
    return b"\r\n".join(parts)


def build_response_head(
    head: ResponseHead,
    version: bytes,
    keep_alive: bool,
    is_tls: bool,
    *,
    date: bytes,
    hsts: bytes | None = HSTS,
    keeps_cookie_domain: bool = False,
) -> bytes:
    """The response head to send to a visitor who spoke `version`, ready with its empty line.

    `date` is an IMF-fixdate for apps that send none. `keep_alive` is whether the visitor's
    connection stays open; it is overruled where the body ends with the connection. `hsts`
    None leaves Strict-Transport-Security to the app. Unless `keeps_cookie_domain`, cookies
    lose Domain: apps on neighbouring names do not trust each other.
    """
    if head.is_interim:
        return _build_interim_head(head)
    headers = _drop_nominated(head)
    lines = [_build_status_line(head.status)]
    lines += [name + b": " + value for name, value in headers if _passes_downstream(name)]
    present = dict(headers)
    if b"set-cookie" in present:
        lines += [
            b"set-cookie: " + build_cookie(value, is_tls, keeps_cookie_domain)
            for name, value in headers
            if name == b"set-cookie"
        ]
    if b"date" not in present:
        lines.append(b"date: " + date)
    if is_tls:
        given = present.get(b"strict-transport-security", hsts)
        if given is not None:
            lines.append(b"strict-transport-security: " + given)
    if b"x-content-type-options" not in present:
        lines.append(b"x-content-type-options: nosniff")
    if b"referrer-policy" not in present:
        lines.append(b"referrer-policy: strict-origin-when-cross-origin")
    lines.append(_build_framing(head, version, keep_alive))
    return b"\r\n".join(lines)


def _build_interim_head(head: ResponseHead) -> bytes:
    """Early hints are links; nothing else of a provisional answer reaches a visitor (RFC 8297)."""
    lines = [_build_status_line(head.status)]
    lines += [name + b": " + value for name, value in head.headers if name == b"link"]
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def forwards_interim(head: ResponseHead, version: bytes) -> bool:
    """Whether a provisional answer goes on to the visitor: only 103, never to HTTP/1.0.

    100 is the gateway's own to give, and 102 is obsolete.
    """
    return head.status == 103 and version == b"1.1"


def _build_framing(head: ResponseHead, version: bytes, keep_alive: bool) -> bytes:
    """The end of the head: length or coding, what becomes of the connection, the empty line.

    RFC 9112 sections 6.3 and 9.3.
    """
    if head.is_upgrade:
        return b"server: lockgate\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    body = pick_visitor_body(head, version)
    framing = b"server: lockgate\r\n"
    if body is Body.chunked:
        framing += b"transfer-encoding: chunked\r\n"
    elif head.length is not None:
        framing += b"content-length: %d\r\n" % head.length
    if not keep_alive or body is Body.until_close:
        return framing + b"connection: close\r\n\r\n"
    return framing + (b"\r\n" if version == b"1.1" else b"connection: keep-alive\r\n\r\n")


def build_cookie(value: bytes, is_tls: bool, keeps_domain: bool = False) -> bytes:
    """A Set-Cookie value with Secure where the visitor came by TLS, and without Domain.

    The cookie's own name and value, and every other attribute, stay as the app wrote them
    (RFC 6265 section 4.1).
    """
    first, *attributes = value.split(b";")
    names = [part.partition(b"=")[0].strip().lower() for part in attributes]
    if not keeps_domain and b"domain" in names:
        attributes = [
            part for part, name in zip(attributes, names, strict=True) if name != b"domain"
        ]
    if is_tls and b"secure" not in names:
        attributes.append(b" Secure")
    return b";".join([first, *attributes])


_PAGE_FIELDS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-frame-options", b"DENY"),
)
_PROXY_ERRORS = {
    404: b"destination_not_found",
    500: b"proxy_internal_error",
    502: b"http_protocol_error",
    503: b"destination_unavailable",
    504: b"http_response_timeout",
}


def build_page_head(reason: str, content_type: bytes, size_bytes: int) -> ResponseHead:
    """The head for a page of the gateway's own about a refusal, to give to `build_response_head`.

    Carries Proxy-Status (RFC 9209), Retry-After where trying again helps, and Allow with 405.
    """
    status = REFUSALS[reason][0]
    error = _PROXY_ERRORS.get(status, b"http_request_error")
    fields = [
        (b"content-type", content_type),
        *_PAGE_FIELDS,
        (b"proxy-status", b'%b; error=%b; details="%b"' % (PRODUCT, error, reason.encode())),
    ]
    if status == 503:
        fields.append((b"retry-after", b"%d" % _RETRY_AFTER_S))
    if status == 405:
        fields.append((b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"))
    return ResponseHead(status, tuple(fields), Body.length, size_bytes)
