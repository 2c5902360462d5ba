"""What a request is addressed to: its authority, its target, and paths no visitor may reach.

Invariants: the bytes that are matched are the bytes that are forwarded; nothing is decoded on
the way to the app; an authority has one spelling after folding.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.errors import Refusal

_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_AUTHORITY = re.compile(
    rb"(" + _LABEL + rb"(?:\." + _LABEL + rb")*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)
_LONGEST_AUTHORITY_BYTES = 253 + len(".:65535")

_ORIGIN_FORM = re.compile(rb'/[!"$->@-\[\]-~]*(?:\?[!"$-~]*)?')
_ABSOLUTE_FORM = re.compile(
    rb'(?i:(https?))://([^/?#\\]+)((?:/[!"$->@-\[\]-~]*)?)((?:\?[!"$-~]*)?)'
)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}

_PRIVATE = frozenset({("_stcore", "metrics"), ("_stcore", "agent")})
_DECODINGS = 4


class Authority(NamedTuple):
    """Host of an address, folded, and its port, or None when it names none."""

    host: str
    port: int | None


@lru_cache(maxsize=1024)
def _parse_authority(value: bytes) -> Authority | None:
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return None
    host, port_digits = match.groups()
    port = None if port_digits is None else int(port_digits)
    if port is not None and not 0 < port < 65536:
        return None
    return Authority(fold_host(host.decode("ascii")), port)


def fold_host(host: str) -> str:
    """The one spelling under which a host is compared: lower case, no trailing dot."""
    return host.lower().removesuffix(".")


def parse_authority(value: bytes) -> Authority | None:
    """Parse `host[:port]` (RFC 3986 section 3.2), or None.

    Narrower than the RFC on purpose: no userinfo, no percent-encoding, no comma or other
    sub-delimiter, no empty label, no empty port. IP literals keep their brackets.
    """
    return None if len(value) > _LONGEST_AUTHORITY_BYTES else _parse_authority(value)


def decide_target(method: bytes, url: bytes, authority: Authority) -> bytes:
    """The target to forward, in origin-form or `*` (RFC 9112 section 3.2), or raise Refusal.

    An absolute-form target must name the same site as Host; RFC 9112 would let it win, but
    whoever sends two names wants them read by two parties.
    """
    if _ORIGIN_FORM.fullmatch(url):
        return url
    if url == b"*" and method == b"OPTIONS":
        return url
    match = _ABSOLUTE_FORM.fullmatch(url)
    if match is None:
        raise Refusal.of("bad_target")
    scheme, named, path, query = match.groups()
    other = parse_authority(named)
    if other is None:
        raise Refusal.of("bad_host")
    default_port = _DEFAULT_PORTS[scheme.lower()]
    if other.host != authority.host or (other.port or default_port) != (
        authority.port or default_port
    ):
        raise Refusal.of("host_mismatch")
    if not path and not query and method == b"OPTIONS":
        return b"*"
    return (path or b"/") + query


def is_private_path(target: bytes) -> bool:
    """Whether a target leads to something that only the platform may ask of an app.

    `/_stcore/metrics` and everything at or below `/_stcore/agent`, under any base path. An app
    server may decode, collapse and resolve a path in its own way, so every reading counts:
    percent-encoding (also doubled), backslashes, empty segments, dot segments, `;` parameters,
    letter case, surrounding blanks and NUL.
    """
    path = target.partition(b"?")[0]
    if b"%" not in path and b"_stcore" not in path.lower():
        return False
    for _ in range(_DECODINGS):
        path = unquote_to_bytes(path)
    text = path.decode("utf-8", "replace").replace("\\", "/").casefold()
    text = re.split(r"[?#]", text, maxsplit=1)[0]
    literal = [part.partition(";")[0].strip("\0 \t\r\n\x0b\x0c") for part in text.split("/")]
    return _has_private(literal) or _has_private(_resolve(literal))


def _has_private(segments: list[str]) -> bool:
    named = [part for part in segments if part not in {"", "."}]
    return any(pair in _PRIVATE for pair in pairwise(named))


def _resolve(segments: list[str]) -> list[str]:
    resolved: list[str] = []
    for part in segments:
        if part == "..":
            del resolved[-1:]
        elif part not in {"", "."}:
            resolved.append(part)
    return resolved
