"""An honest gateway without sockets: it keeps the table and lets what vanished from it drain."""

from collections.abc import Callable

from gateway import (
    GatewayError,
    ProbeReport,
    StatusReport,
    TableDocument,
    UpstreamEntry,
    UpstreamReport,
)


class FakeGateway:
    """`answer` is what probes report; `sockets` says how many are open by upstream."""

    def __init__(self) -> None:
        self.table = TableDocument(version=0)
        self.answer = ProbeReport(ok=True, status=200, reason="")
        self.sockets: dict[str, int] = {}
        self.known: set[str] = set()
        self.closed: list[str] = []
        self.probed: list[tuple[UpstreamEntry, str, str]] = []
        self.is_down = False
        self.is_registered: Callable[[str], bool] = lambda _: True

    async def put_table(self, table: TableDocument) -> int:
        self._refuse_if_down()
        for host in (host for route in table.routes for host in route.hosts):
            if not self.is_registered(host):
                raise GatewayError(f"certificates: the host {host!r} is not registered")
        self.table = table
        self.known |= {upstream.name for upstream in table.upstreams}
        return table.version

    async def fetch_upstreams(self) -> tuple[UpstreamReport, ...]:
        self._refuse_if_down()
        current = {upstream.name for upstream in self.table.upstreams}
        self.known = {name for name in self.known if name in current or self.sockets.get(name)}
        return tuple(
            UpstreamReport(
                name=name,
                state="healthy" if name in current else "draining",
                in_flight=0,
                sockets=self.sockets.get(name, 0),
            )
            for name in sorted(self.known)
        )

    async def close_upstream(self, name: str) -> None:
        self._refuse_if_down()
        self.closed.append(name)
        self.sockets.pop(name, None)

    async def probe(
        self, upstream: UpstreamEntry, host: str, path: str = "/", timeout_s: float = 10.0
    ) -> ProbeReport:
        self._refuse_if_down()
        self.probed.append((upstream, host, path))
        return self.answer

    async def fetch_status(self) -> StatusReport:
        self._refuse_if_down()
        return StatusReport(
            pid=1,
            version="0",
            config_hash="0",
            table_version=self.table.version,
            https=("127.0.0.1:8443",),
            http=(),
        )

    async def close(self) -> None:
        pass

    def restart(self) -> None:
        """A new process: it has forgotten the table."""
        self.table, self.known, self.sockets = TableDocument(version=0), set(), {}

    def _refuse_if_down(self) -> None:
        if self.is_down:
            raise GatewayError("gateway did not answer")
