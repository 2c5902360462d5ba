"""The documents that cross the control socket: what to route where, and what became of it.

Invariants: frozen values, unknown keys refused; no sockets, no clock, no files here; a host is
lower-case ASCII before it gets in.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")
_ADDRESS = re.compile(r"(?:unix:/[^\x00]{1,107}|\[?[0-9A-Za-z.:_-]{1,253}\]?:[0-9]{1,5})\Z")


def _check_host(host: str) -> str:
    if len(host) > 253 or _HOST.match(host) is None:
        raise ValueError("not a lower-case host name (a wildcard is `*.` and a name)")
    return host


def _check_address(address: str) -> str:
    if _ADDRESS.match(address) is None:
        raise ValueError("not an address: write host:port or unix:/path")
    return address


Host = Annotated[str, AfterValidator(_check_host)]
Address = Annotated[str, AfterValidator(_check_address)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UpstreamEntry(_Document):
    """One generation of an app as the gateway dials it.

    `server_name` is the DNS SAN that the peer must hold, `spiffe_id` its one URI SAN.
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    app: Annotated[str, Field(min_length=1, max_length=64)]
    address: Address
    server_name: Host
    spiffe_id: Annotated[str, Field(pattern=r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$")]


class RouteEntry(_Document):
    """Hosts of an app; `upstream` None means nothing serves it now, `state`/`reason` say why."""

    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]
    app: Annotated[str, Field(min_length=1, max_length=64)]
    upstream: str | None = None
    state: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")] = "healthy"
    reason: Annotated[str, Field(max_length=512)] = ""
    max_body_bytes: Annotated[int, Field(ge=0)] | None = None


class TableDocument(_Document):
    """A whole route table; `version` grows with each one the runner publishes."""

    version: Annotated[int, Field(ge=0)]
    routes: tuple[RouteEntry, ...] = ()
    upstreams: tuple[UpstreamEntry, ...] = ()


class UpstreamReport(_Document):
    """How an upstream is doing: requests in flight and open sockets (tunnels), both counts."""

    name: str
    state: str
    in_flight: int
    sockets: int


class UpstreamReports(_Document):
    """Answer to GET /upstreams."""

    upstreams: tuple[UpstreamReport, ...]


class ProbeRequest(_Document):
    """Ask whether `upstream` answers `path` for `host` within `timeout_s` seconds."""

    upstream: UpstreamEntry
    host: Host
    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=2048)] = "/"
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0


class ProbeReport(_Document):
    """`ok` = answered with 2xx or 3xx; otherwise `reason` says what happened, in log words."""

    ok: bool
    status: int | None
    reason: str


class CloseRequest(_Document):
    """Name of the upstream whose open exchanges and tunnels are to be cut."""

    name: str


class StatusReport(_Document):
    """Answer to GET /status: `https` and `http` are the addresses in use, as host:port."""

    pid: int
    version: str
    config_hash: str
    table_version: int
    https: tuple[str, ...]
    http: tuple[str, ...]
