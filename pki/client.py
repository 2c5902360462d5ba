"""The client of the PKI's Unix socket, as the gateway and the runner use it.

Invariants: every failure is a `PkiError` whose `reason` a caller may branch on; a private key is
never sent.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from pki.errors import PkiError
from pki.wire import ErrorReply, ForgottenReply, IssuedLeaf, LeafReply, StatusReply

_TIMEOUT = aiohttp.ClientTimeout(total=15)
R = TypeVar("R", bound=BaseModel)


class PkiClient:
    """Asks the PKI over its socket; opens the first connection on the first call."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<PkiClient {self._path} {'open' if self._session else 'closed'}>"

    async def __aenter__(self) -> "PkiClient":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def register_app(self, app: str, generation: int, hosts: Sequence[str]) -> None:
        """Make a generation and its hosts known; the same call twice is the same as once.

        Generation 0 only holds the hosts for the app: their visitors may get leaves, no agent may.
        """
        body = {"app": app, "generation": generation, "hosts": list(hosts)}
        await self._ask("POST", "/register", body)

    async def forget_app(self, app: str, generation: int | None = None) -> list[str]:
        """Forget one generation, or all; returns the serials of its leaves that are still valid."""
        body = {"app": app, "generation": generation}
        return _read(ForgottenReply, await self._ask("POST", "/forget", body)).serials

    async def issue_app(self, app: str, generation: int, csr_pem: bytes) -> IssuedLeaf:
        """A leaf for the agent of a registered generation."""
        body = {"app": app, "generation": generation, "csr": _to_text(csr_pem)}
        return _read_leaf(await self._ask("POST", "/leaf/app", body))

    async def issue_gateway(self, csr_pem: bytes) -> IssuedLeaf:
        """A leaf for the gateway's side of mutual TLS."""
        body = {"csr": _to_text(csr_pem)}
        return _read_leaf(await self._ask("POST", "/leaf/gateway", body))

    async def issue_visitor(self, host: str, csr_pem: bytes) -> IssuedLeaf:
        """A server's leaf for a registered host (exactly as registered, `*.` included)."""
        body = {"host": host, "csr": _to_text(csr_pem)}
        return _read_leaf(await self._ask("POST", "/leaf/visitor", body))

    async def fetch_bundle(self) -> bytes:
        """The roots as PEM; nothing else belongs in a trust store."""
        return await self._ask("GET", "/bundle")

    async def fetch_status(self) -> dict[str, Any]:
        """Authorities, counts and the journal's head, as plain values."""
        return _read(StatusReply, await self._ask("GET", "/status")).model_dump()

    async def close(self) -> None:
        """Close the connections; the client opens new ones when it is asked again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, method: str, path: str, body: object = None) -> bytes:
        if self._session is None:
            connector = aiohttp.UnixConnector(path=str(self._path))
            self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        try:
            async with self._session.request(method, f"http://pki{path}", json=body) as reply:
                content = await reply.read()
                if reply.status >= 400:
                    raise _translate_reply(reply.status, content)
                return content
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            text = str(error) or type(error).__name__
            raise PkiError(f"the PKI at {self._path}: {text}", reason="unreachable") from error


def _to_text(pem: bytes) -> str:
    return pem.decode("ascii", "replace")


def _translate_reply(status: int, content: bytes) -> PkiError:
    try:
        reply = ErrorReply.model_validate_json(content)
        error = PkiError(reply.message, reason=reply.reason)
    except ValidationError:
        error = PkiError(f"the PKI answered {status}", reason="protocol")
    error.status = status
    return error


def _read(model: type[R], content: bytes) -> R:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise PkiError("the PKI's answer cannot be read", reason="protocol") from None


def _read_leaf(content: bytes) -> IssuedLeaf:
    leaf = _read(LeafReply, content)
    return IssuedLeaf(leaf.chain.encode(), leaf.serial, leaf.not_before, leaf.not_after)
