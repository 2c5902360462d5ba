"""The control socket as its callers see it.

Invariants: one call, one answer or one `GatewayError`; nothing is retried here; no state but the
connection.
"""

from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from gateway.table import (
    CloseRequest,
    ProbeReport,
    ProbeRequest,
    StatusReport,
    TableDocument,
    UpstreamEntry,
    UpstreamReport,
    UpstreamReports,
)

T = TypeVar("T", bound=BaseModel)


class GatewayError(Exception):
    """The gateway could not be reached or refused; the text is one line for an operator."""


class GatewayClient:
    """Talks to a running gateway over its Unix socket; usable as an async context."""

    def __init__(self, socket_path: Path | str, timeout_s: float = 60.0) -> None:
        self.socket_path = str(socket_path)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<GatewayClient {self.socket_path}>"

    async def put_table(self, table: TableDocument) -> int:
        """Publish `table`; returns its version once certificates for all its hosts are loaded."""
        answer = await self._call("PUT", "/table", table, _Version, self._timeout_s)
        return answer.version

    async def fetch_upstreams(self) -> tuple[UpstreamReport, ...]:
        """Every upstream the gateway still holds anything of."""
        return (await self._call("GET", "/upstreams", None, UpstreamReports)).upstreams

    async def close_upstream(self, name: str) -> None:
        """Cut what is left of an upstream; a name that is unknown is no error."""
        await self._call("POST", "/upstreams/close", CloseRequest(name=name), _Nothing)

    async def probe(
        self, upstream: UpstreamEntry, host: str, path: str = "/", timeout_s: float = 10.0
    ) -> ProbeReport:
        """Try `upstream` through the code that traffic takes; a failed try is a report."""
        request = ProbeRequest(upstream=upstream, host=host, path=path, timeout_s=timeout_s)
        return await self._call("POST", "/probe", request, ProbeReport, timeout_s + 5)

    async def fetch_status(self) -> StatusReport:
        """Who and what is running."""
        return await self._call("GET", "/status", None, StatusReport)

    async def close(self) -> None:
        """Let go of the connection; the gateway goes on."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _call(
        self,
        method: str,
        path: str,
        body: BaseModel | None,
        kind: type[T],
        timeout_s: float = 10.0,
    ) -> T:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=self.socket_path)
            self._session = aiohttp.ClientSession(connector=connector)
        try:
            async with self._session.request(
                method,
                f"http://gateway{path}",
                data=None if body is None else body.model_dump_json(),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                content = await answer.read()
        except TimeoutError as error:
            raise GatewayError(f"gateway did not answer {path} within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayError(f"gateway at {self.socket_path}: {error}") from error
        if answer.status != 200:
            text = content.decode("utf-8", "replace").strip()
            raise GatewayError(f"gateway refused {method} {path} ({answer.status}): {text}")
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise GatewayError(f"gateway's answer to {path} makes no sense: {error}") from error


class _Version(BaseModel):
    version: int


class _Nothing(BaseModel):
    pass
