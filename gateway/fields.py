"""The names of header fields and what each means to a gateway (RFC 9110 sections 5 and 7.6).

Invariants: a name is folded to lower case before it is compared; a name that a CGI-like server
could mistake for another one (underscore, dot, …) never reaches an app; no list is open-ended:
whatever is not named here is end-to-end and passes.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9-]+")
_CONTROLS = bytes(set(range(0x20)) - {0x09}) + b"\x7f"
_OWS = b" \t"

LONGEST_NAME_BYTES = 256
_LONGEST_LIST_BYTES = 1024

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Meant for the next hop only, together with every `proxy-*` and whatever Connection names."""

_OWN_FORWARDED = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-request-id",
        b"x-real-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-host",
        b"x-scheme",
        b"x-url-scheme",
        b"front-end-https",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"client-cert",
        b"client-cert-chain",
        b"client-ip",
    }
)
_OWN_PREFIXES = (
    b"x-forwarded",
    b"x-envoy-",
    b"x-auth-",
    b"x-authenticated-",
    b"x-webauth-",
    b"x-remote-",
    b"x-ssl-",
    b"x-client-cert",
    b"x-lockgate-",
    b"remote-",
    b"ssl-client-",
)

_GOVERNING = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-accept",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
        b"cookie",
    }
)


def is_token(value: bytes) -> bool:
    """Whether the bytes are a token (RFC 9110 section 5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def has_controls(value: bytes) -> bool:
    """Whether a field value holds a byte that no field value may hold (RFC 9110 section 5.5)."""
    return len(value.translate(None, _CONTROLS)) != len(value)


@lru_cache(maxsize=1024)
def read_name(name: bytes) -> tuple[bytes, bool]:
    """The name in lower case, and whether it has only one reading.

    CGI and its descendants map every byte but letters and digits to an underscore, so
    `X_Forwarded_For` or `X.Forwarded.For` would arrive as `X-Forwarded-For`: such names have
    more than one. ValueError when the name is not a token, or longer than any real one; the
    latter also keeps strangers from filling the cache.
    """
    if len(name) > LONGEST_NAME_BYTES or not is_token(name):
        raise ValueError("not the name of a field")
    return name.lower(), _PLAIN_NAME.fullmatch(name) is not None


def is_hop_by_hop(name: bytes) -> bool:
    """Whether the folded name is for the next hop only (RFC 9110 section 7.6.1).

    `proxy-status` is for whoever reads the answer (RFC 9209).
    """
    return name in HOP_BY_HOP or (name.startswith(b"proxy") and name != b"proxy-status")


def is_own(name: bytes) -> bool:
    """Whether the folded name speaks of the visitor on the gateway's authority.

    Only the gateway may write these: an app trusts them, so a visitor's copy is deleted.
    """
    return name in _OWN_FORWARDED or name.startswith(_OWN_PREFIXES)


def may_nominate(name: bytes) -> bool:
    """Whether a visitor may ask, by naming it in Connection, that the folded field is removed."""
    return not (name in _GOVERNING or is_own(name))


@lru_cache(maxsize=256)
def _parse_members(value: bytes) -> frozenset[bytes] | None:
    members = {member for part in value.split(b",") if (member := part.strip(_OWS))}
    if not all(map(is_token, members)):
        return None
    return frozenset(member.lower() for member in members)


def parse_list(values: Sequence[bytes]) -> frozenset[bytes] | None:
    """The folded members of a comma-separated list of tokens, or None when one is no token.

    Empty members are allowed (RFC 9110 section 5.6.1). A list that is longer than any real one
    is no list.
    """
    value = b",".join(values)
    return None if len(value) > _LONGEST_LIST_BYTES else _parse_members(value)
