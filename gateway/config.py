"""The gateway's section of the configuration file.

Invariants: frozen once loaded, unknown keys refused; sizes are bytes and times seconds after
loading; nothing here opens a socket.
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pki import Duration, RunDir, Section, Size, StateDir, TrustDomain, Uid

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+):(?P<port>[0-9]{1,5})\Z")


def parse_listen(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` → (host, port); raises ValueError."""
    match = _LISTEN.match(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("not an address to listen on: write HOST:PORT")
    return match["host"].strip("[]"), int(match["port"])


def _check_listen(address: str) -> str:
    parse_listen(address)
    return address


Listen = Annotated[str, AfterValidator(_check_listen)]


class CertificateFiles(Section):
    """A certificate chain and its key, both PEM files that the gateway's user can read."""

    cert: Path
    key: Path


class GatewayLimits(Section):
    """What a stranger may take; every time is a deadline or an idle time in seconds.

    `request_body_rate` is the slowest upload, in bytes per second, once `request_body_idle` is
    over.
    """

    tls_handshake: Duration = 10.0
    request_head: Duration = 10.0
    request_body_idle: Duration = 30.0
    request_body_rate: Annotated[Size, Field(ge=1)] = 1024
    response_head: Duration = 60.0
    response_idle: Duration = 300.0
    write_stall: Duration = 60.0
    keep_alive: Duration = 60.0
    keep_alive_requests: Annotated[int, Field(ge=1)] = 1000
    tunnel_idle: Duration = 3600.0
    connect: Duration = 2.0
    upstream_handshake: Duration = 5.0
    upstream_keep_alive: Duration = 4.0
    drain: Duration = 10.0
    head_bytes: Size = 32768
    fields: Annotated[int, Field(ge=1)] = 100
    url_bytes: Size = 8192
    body_bytes: Size = 1024**3
    window_bytes: Size = 256 * 1024
    connections: Annotated[int, Field(ge=1)] = 10000
    connections_per_ip: Annotated[int, Field(ge=1)] = 100
    connections_per_upstream: Annotated[int, Field(ge=1)] = 1024
    idle_per_upstream: Annotated[int, Field(ge=0)] = 64


class GatewayConfig(Section):
    """Where to listen, as whom, with which certificates and under which limits."""

    https: Listen = "0.0.0.0:8443"
    http: Listen | None = "0.0.0.0:8080"
    certificates: Literal["internal"] | tuple[CertificateFiles, ...] = "internal"
    hsts: bool = True
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")] = "main"
    uid: Uid = 64052
    runner_uid: Uid = 0
    trust_domain: TrustDomain = "lockgate.internal"
    run_dir: RunDir = Path("/run/lockgate")
    state_dir: StateDir = Path("/var/lib/lockgate")
    access_log: Path | None = None
    limits: GatewayLimits = GatewayLimits()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.certificates == ():
            raise ValueError("certificates: name at least one pair or write `internal`")
        return self

    @property
    def socket_path(self) -> Path:
        """Where the control socket is."""
        return self.run_dir / "gateway.sock"

    @property
    def pki_socket_path(self) -> Path:
        """Where the pki answers."""
        return self.run_dir / "pki.sock"

    def build_hash(self) -> str:
        """Twelve hex digits that change when any setting does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]
