"""The values that pass between the rooms: limits, and heads once they are decided.

Invariants: immutable; a head exists only if it was accepted. Heads are named tuples because one is
made for each message, and a frozen dataclass takes three times as long to make.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

NO_TOKENS: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds for one message, sizes in bytes.

    Precedents for the head: nginx 4 x 8 KiB, HAProxy 16 KiB and 101 fields, Caddy 16 KiB,
    Envoy 60 KiB and 100 fields. Streamlit's split user cookies need 32 KiB.
    """

    head_bytes: int = 32 * 1024
    fields: int = 100
    url_bytes: int = 8 * 1024
    trailer_bytes: int = 8 * 1024
    overhead_bytes: int = 16 * 1024
    response_head_bytes: int = 64 * 1024
    response_fields: int = 200
    interim_responses: int = 8


DEFAULT_LIMITS = Limits()


class Body(Enum):
    """How the end of a body is found (RFC 9112 section 6.3)."""

    none = "none"
    length = "length"
    chunked = "chunked"
    until_close = "until_close"


class RequestHead(NamedTuple):
    """An accepted request head.

    `target` is in origin-form (or `*`); `host` is folded, without port and trailing dot;
    `authority` is Host as it was sent; `headers` hold folded names in the order of arrival
    without the ambiguous ones; `length` is the stated length or None; `websocket` is the
    handshake's key, or None for a plain request even if it asked for another protocol.
    `expect_continue` asks the gateway for a 100 before the body is sent.
    """

    method: bytes
    target: bytes
    host: str
    authority: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: Body
    length: int | None
    keep_alive: bool
    websocket: bytes | None = None
    expect_continue: bool = False
    nominated: frozenset[bytes] = NO_TOKENS


class ResponseHead(NamedTuple):
    """An accepted response head.

    `body` is what follows from the upstream; `length` may be stated without a body (HEAD,
    304); `keep_alive` says whether the upstream connection may serve another request.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: Body
    length: int | None
    keep_alive: bool = False
    is_upgrade: bool = False
    nominated: frozenset[bytes] = NO_TOKENS

    @property
    def is_interim(self) -> bool:
        """Whether another response follows to the same request (RFC 9110 section 15.2)."""
        return self.status < 200 and not self.is_upgrade
