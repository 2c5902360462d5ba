"""What the head of a message means: where it ends, whom it is for, and every refusal.

Invariants: a head that could be read in two ways is refused, never repaired; lengths are
numbers once they leave; no byte is read or written here. The parser (llhttp) has refused most
malformed syntax before; what it lets pass is refused here, and what it should have refused is
checked again where that is cheap.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import chain

from gateway.address import Authority, decide_target, parse_authority
from gateway.errors import Refusal
from gateway.fields import has_controls, may_nominate, parse_list, read_name
from gateway.heads import DEFAULT_LIMITS, NO_TOKENS, Body, Limits, RequestHead, ResponseHead

__all__ = [
    "DEFAULT_LIMITS",
    "METHODS",
    "Body",
    "Limits",
    "RequestHead",
    "ResponseHead",
    "build_accept",
    "check_request_line",
    "decide_request",
    "decide_response",
    "pick_visitor_body",
]

Fields = Sequence[tuple[bytes, bytes]]
Governing = Mapping[bytes, list[bytes]]

METHODS = frozenset(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS QUERY ACL BIND CHECKOUT COPY LINK LOCK MERGE"
    b" MKACTIVITY MKCALENDAR MKCOL MOVE PROPFIND PROPPATCH REBIND REPORT SEARCH UNBIND UNLINK"
    b" UNLOCK".split()
)
"""Registered methods that an app may be asked; of all others the gateway knows no meaning."""

_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE"})
_VERSIONS = {"1.1": b"1.1", "1.0": b"1.0"}
_REQUEST_LINE = re.compile(rb"([!-~]{1,32}) ([^\x00-\x20\x7f]+) HTTP/([0-9]\.[0-9])")
_LONGEST_REST_OF_LINE_BYTES = 32 + len("  HTTP/1.1")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_LARGEST_LENGTH = 2**63 - 1
_CHUNKED = [b"chunked"]
_OWS = b" \t"

_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_CONNECTION_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade"})
_GOVERNING_REQUEST = frozenset(
    {
        b"host",
        b"connection",
        b"content-length",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
        b"sec-websocket-key",
        b"sec-websocket-version",
    }
)
_GOVERNING_RESPONSE = frozenset(
    {
        b"connection",
        b"content-length",
        b"transfer-encoding",
        b"upgrade",
        b"sec-websocket-accept",
        b"www-authenticate",
    }
)
_CONNECTION_BOUND_SCHEMES = (b"ntlm", b"negotiate")


def check_request_line(line: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
    r"""Refuse a first line (without its CRLF) that the parser would read too kindly.

    llhttp takes `GET  /`, `GET /` and `GET /a\nX: 1 HTTP/1.1` for HTTP/0.9, and RTSP and ICE
    for HTTP (RFC 9112 section 3). Raises Refusal.
    """
    if len(line) > limits.url_bytes + _LONGEST_REST_OF_LINE_BYTES:
        raise Refusal.of("url_too_long")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refusal.of("bad_request_line")
    method, target, version = match.groups()
    if version not in {b"1.1", b"1.0"}:
        raise Refusal.of("bad_version")
    _check_method(method)
    if len(target) > limits.url_bytes:
        raise Refusal.of("url_too_long")


def decide_request(
    method: bytes,
    url: bytes,
    version: str,
    fields: Fields,
    upgrade: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> RequestHead:
    """Decide what a request head means, or raise Refusal.

    `version` is "1.0" or "1.1" as the parser reports it; `fields` are names and values as they
    arrived; `upgrade` is the parser's own opinion that another protocol follows the head.
    """
    _check_method(method)
    known_version = _VERSIONS.get(version)
    if known_version is None:
        raise Refusal.of("bad_version")
    if len(url) > limits.url_bytes:
        raise Refusal.of("url_too_long")
    headers, governing = _sort_request_fields(fields, limits)
    host_value, authority = _decide_host(governing)
    target = decide_target(method, url, authority)
    is_current = version == "1.1"
    body, length = _decide_request_body(governing, is_current)
    if (upgrade or b"upgrade" in governing) and body is not Body.none:
        raise Refusal.of("upgrade_with_body")
    tokens = _decide_connection(governing)
    return RequestHead(
        method,
        target,
        authority.host,
        host_value,
        known_version,
        headers,
        body,
        length,
        _keeps_alive(is_current, tokens),
        _decide_websocket(method, is_current, tokens, governing),
        _decide_expect(governing) and is_current and body is not Body.none,
        _nominated(tokens),
    )


def _check_method(method: bytes) -> None:
    if method in METHODS:
        return
    raise Refusal.of("method_not_allowed" if method in _REFUSED_METHODS else "bad_method")


def _sort_request_fields(
    fields: Fields, limits: Limits
) -> tuple[tuple[tuple[bytes, bytes], ...], dict[bytes, list[bytes]]]:
    """Fold and bound the fields; the second answer holds those that decide something."""
    everything = b"".join(chain.from_iterable(fields))
    if len(fields) > limits.fields:
        raise Refusal.of("too_many_fields")
    if len(everything) + 4 * len(fields) > limits.head_bytes:
        raise Refusal.of("head_too_large")
    if has_controls(everything):
        raise Refusal.of("bad_field_value")
    kept: list[tuple[bytes, bytes]] = []
    governing: dict[bytes, list[bytes]] = {}
    try:
        for name, value in fields:
            folded, is_plain = read_name(name)
            value = value.strip(_OWS)
            if folded in _GOVERNING_REQUEST:
                governing.setdefault(folded, []).append(value)
            if is_plain:
                kept.append((folded, value))
    except ValueError as error:
        raise Refusal.of("bad_field_name") from error
    return tuple(kept), governing


def _decide_host(governing: Governing) -> tuple[bytes, Authority]:
    """RFC 9112 section 3.2: exactly one valid Host; asked of HTTP/1.0 as well."""
    values = governing.get(b"host")
    if values is None:
        raise Refusal.of("missing_host")
    if len(values) != 1:
        raise Refusal.of("duplicate_host")
    authority = parse_authority(values[0])
    if authority is None:
        raise Refusal.of("bad_host")
    return values[0], authority


def _decide_request_body(governing: Governing, is_current: bool) -> tuple[Body, int | None]:
    """RFC 9112 section 6.3, without its lenient branches."""
    codings = governing.get(b"transfer-encoding")
    lengths = governing.get(b"content-length")
    if codings is not None:
        if lengths is not None:
            raise Refusal.of("length_and_coding")
        if not is_current:
            raise Refusal.of("coding_in_http10")
        if not _is_chunked(codings):
            raise Refusal.of("bad_coding")
        return Body.chunked, None
    if lengths is None:
        return Body.none, None
    length = _parse_length(lengths)
    if length is None:
        raise Refusal.of("bad_length")
    return (Body.length if length else Body.none), length


def _is_chunked(codings: list[bytes]) -> bool:
    return codings == _CHUNKED or (len(codings) == 1 and codings[0].lower() == b"chunked")


def _parse_length(lengths: list[bytes]) -> int | None:
    """One field of 1*DIGIT that fits a signed 64-bit number (RFC 9110 section 8.6)."""
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
        return None
    length = int(lengths[0])
    return length if length <= _LARGEST_LENGTH else None


def _decide_connection(governing: Governing) -> frozenset[bytes]:
    values = governing.get(b"connection")
    if values is None:
        return NO_TOKENS
    tokens = parse_list(values)
    if tokens is None or not all(map(may_nominate, tokens - _CONNECTION_OPTIONS)):
        raise Refusal.of("bad_connection")
    return tokens


def _keeps_alive(is_current: bool, tokens: frozenset[bytes]) -> bool:
    """RFC 9112 section 9.3."""
    return b"close" not in tokens and (is_current or b"keep-alive" in tokens)


def _decide_websocket(
    method: bytes, is_current: bool, tokens: frozenset[bytes], governing: Governing
) -> bytes | None:
    """The key of a complete handshake (RFC 6455 section 4.2.1); anything less is plain."""
    upgrades = governing.get(b"upgrade")
    if upgrades is None or b"upgrade" not in tokens or method != b"GET" or not is_current:
        return None
    keys = governing.get(b"sec-websocket-key", [])
    if len(upgrades) != 1 or upgrades[0].lower() != b"websocket" or len(keys) != 1:
        return None
    if governing.get(b"sec-websocket-version") != [b"13"]:
        return None
    return keys[0] if _WEBSOCKET_KEY.fullmatch(keys[0]) else None


def _decide_expect(governing: Governing) -> bool:
    """RFC 9110 section 10.1.1: one known expectation."""
    values = governing.get(b"expect")
    if values is None:
        return False
    if len(values) != 1 or values[0].lower() != b"100-continue":
        raise Refusal.of("bad_expect")
    return True


def decide_response(
    request: RequestHead,
    status: int,
    version: str,
    fields: Fields,
    phrase: bytes = b"",
    limits: Limits = DEFAULT_LIMITS,
) -> ResponseHead:
    """Decide what a response head to `request` means, or raise Refusal with a 502.

    `phrase` is the upstream's reason phrase: looked at for what it should not hold, never
    forwarded.
    """
    if version not in _VERSIONS:
        raise Refusal.of("upstream_version")
    if not 100 <= status <= 599 or (phrase and has_controls(phrase)):
        raise Refusal.of("upstream_status")
    headers, governing = _sort_response_fields(fields, limits)
    connection = governing.get(b"connection")
    tokens = parse_list(connection) if connection else NO_TOKENS
    if tokens is None:
        raise Refusal.of("upstream_field")
    if status == 101:
        _check_upgrade(request, version, tokens, governing)
        return ResponseHead(status, headers, Body.none, None, False, True, _nominated(tokens))
    body, length = _decide_response_body(request.method, status, version, governing)
    can_reuse = (
        body is not Body.until_close
        and _keeps_alive(version == "1.1", tokens)
        and not _binds_connection(governing)
    )
    return ResponseHead(status, headers, body, length, can_reuse, False, _nominated(tokens))


def _nominated(tokens: frozenset[bytes]) -> frozenset[bytes]:
    return tokens - _CONNECTION_OPTIONS if tokens else NO_TOKENS


def _sort_response_fields(
    fields: Fields, limits: Limits
) -> tuple[tuple[tuple[bytes, bytes], ...], dict[bytes, list[bytes]]]:
    everything = b"".join(chain.from_iterable(fields))
    size = len(everything) + 4 * len(fields)
    if len(fields) > limits.response_fields or size > limits.response_head_bytes:
        raise Refusal.of("upstream_head_too_large")
    if has_controls(everything):
        raise Refusal.of("upstream_field")
    kept: list[tuple[bytes, bytes]] = []
    governing: dict[bytes, list[bytes]] = {}
    try:
        for name, value in fields:
            folded, _ = read_name(name)
            value = value.strip(_OWS)
            if folded in _GOVERNING_RESPONSE:
                governing.setdefault(folded, []).append(value)
            kept.append((folded, value))
    except ValueError as error:
        raise Refusal.of("upstream_field") from error
    return tuple(kept), governing


def _decide_response_body(
    method: bytes, status: int, version: str, governing: Governing
) -> tuple[Body, int | None]:
    """RFC 9112 section 6.3; contradictions are the upstream's fault even where no body follows."""
    codings = governing.get(b"transfer-encoding")
    lengths = governing.get(b"content-length")
    length: int | None = None
    if codings is not None:
        if lengths is not None:
            raise Refusal.of("upstream_length")
        if version != "1.1" or not _is_chunked(codings):
            raise Refusal.of("upstream_coding")
    elif lengths is not None:
        length = _parse_length(lengths)
        if length is None:
            raise Refusal.of("upstream_length")
    if method == b"HEAD" or status == 304:
        return Body.none, length
    if status < 200 or status == 204:
        return Body.none, None
    if codings is not None:
        return Body.chunked, None
    if length is None:
        return Body.until_close, None
    return (Body.length if length else Body.none), length


def _binds_connection(governing: Governing) -> bool:
    """Whether the app authenticates the connection instead of the request (RFC 4559 section 6)."""
    challenges = governing.get(b"www-authenticate")
    if challenges is None:
        return False
    return any(value.lower().startswith(_CONNECTION_BOUND_SCHEMES) for value in challenges)


def _check_upgrade(
    request: RequestHead, version: str, tokens: frozenset[bytes], governing: Governing
) -> None:
    """RFC 6455 section 4.1: a 101 counts only if it was asked for and proves it read the key."""
    if request.websocket is None or version != "1.1" or b"upgrade" not in tokens:
        raise Refusal.of("upstream_upgrade")
    if [value.lower() for value in governing.get(b"upgrade", ())] != [b"websocket"]:
        raise Refusal.of("upstream_upgrade")
    if b"transfer-encoding" in governing or b"content-length" in governing:
        raise Refusal.of("upstream_length")
    if governing.get(b"sec-websocket-accept") != [build_accept(request.websocket)]:
        raise Refusal.of("upstream_accept")


def build_accept(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def pick_visitor_body(head: ResponseHead, version: bytes) -> Body:
    """How the visitor, who spoke `version`, is told where the body ends.

    A body of unknown length is chunked for HTTP/1.1 and ends with the connection for HTTP/1.0.
    """
    body = head.body
    if body is Body.none or body is Body.length:
        return body
    return Body.chunked if version == b"1.1" else Body.until_close
