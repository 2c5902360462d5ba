"""The gateway: the visitors' TLS door, and the only way to an app.

Invariants: holds no engine socket, no signing key and no vault key; streams and never stores.
"""

from gateway.client import GatewayClient, GatewayError
from gateway.config import GatewayConfig
from gateway.table import (
    ProbeReport,
    RouteEntry,
    StatusReport,
    TableDocument,
    UpstreamEntry,
    UpstreamReport,
)

__all__ = [
    "GatewayClient",
    "GatewayConfig",
    "GatewayError",
    "ProbeReport",
    "RouteEntry",
    "StatusReport",
    "TableDocument",
    "UpstreamEntry",
    "UpstreamReport",
]
