"""The control socket: a route table in, reports out, for whoever the kernel says may ask.

Invariants: the peer's uid comes from the kernel; one table is put in force at a time; a table is
in force only once its hosts have certificates; every refusal is one line of text.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ValidationError

from gateway.probe import probe
from gateway.site import Site
from gateway.table import (
    CloseRequest,
    ProbeRequest,
    StatusReport,
    TableDocument,
    UpstreamReports,
)
from pki import PkiError

_UCRED = struct.Struct("3i")
_LARGEST_BODY = 64 * 1024 * 1024
_SHUTDOWN_S = 1.0

T = TypeVar("T", bound=BaseModel)
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Certificates(Protocol):
    """What `PUT /table` waits for."""

    async def cover(self, hosts: Collection[str]) -> None:
        """Have certificates for these hosts; raises PkiError."""


class Control:
    """Serves the control API on a listening Unix socket."""

    def __init__(
        self,
        site: Site,
        certificates: Certificates,
        status: Callable[[], StatusReport],
        uids: Collection[int],
    ) -> None:
        self._site = site
        self._certificates = certificates
        self._status = status
        self._uids = frozenset(uids)
        self._turn = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    def __repr__(self) -> str:
        return f"<Control for uids {sorted(self._uids)}>"

    async def start(self, sock: socket.socket) -> None:
        """Answer on `sock` from now on."""
        app = web.Application(middlewares=[self._build_guard()], client_max_size=_LARGEST_BODY)
        app.add_routes(
            [
                web.put("/table", self._put_table),
                web.get("/upstreams", self._get_upstreams),
                web.post("/upstreams/close", self._close_upstream),
                web.post("/probe", self._probe),
                web.get("/status", self._get_status),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Stop answering; calls under way get a moment to finish."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _build_guard(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Respond) -> web.StreamResponse:
            if get_peer_uid(request) not in self._uids:
                return web.Response(status=403, text="this uid may not control the gateway")
            try:
                return await handler(request)
            except ValidationError as error:
                return web.Response(status=400, text=describe(error))

        return guard

    async def _put_table(self, request: web.Request) -> web.Response:
        document = await _read(request, TableDocument)
        hosts = {host for route in document.routes for host in route.hosts}
        async with self._turn:
            try:
                self._site.check(document)
                await self._certificates.cover(hosts)
                self._site.publish(document)
            except ValueError as error:
                return web.Response(status=400, text=str(error))
            except PkiError as error:
                return web.Response(status=503, text=f"certificates: {error}")
        return web.json_response({"version": document.version})

    async def _get_upstreams(self, _: web.Request) -> web.Response:
        return _answer(UpstreamReports(upstreams=self._site.report()))

    async def _close_upstream(self, request: web.Request) -> web.Response:
        wanted = await _read(request, CloseRequest)
        self._site.cut(wanted.name)
        return web.json_response({})

    async def _probe(self, request: web.Request) -> web.Response:
        wanted = await _read(request, ProbeRequest)
        site = self._site
        return _answer(await probe(site.dialer, wanted, site.https_port))

    async def _get_status(self, _: web.Request) -> web.Response:
        return _answer(self._status())


def get_peer_uid(request: web.Request) -> int | None:
    """Who is at the other end, by SO_PEERCRED (unix(7)); None when the connection is gone."""
    transport = request.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None:
        return None
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def describe(error: ValidationError) -> str:
    """The first thing wrong with a document, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


async def _read(request: web.Request, model: type[T]) -> T:
    return model.model_validate_json(await request.read())


def _answer(document: BaseModel) -> web.Response:
    return web.Response(text=document.model_dump_json(), content_type="application/json")


def build_uids(runner_uid: int) -> frozenset[int]:
    """Root, the runner and we ourselves may ask."""
    return frozenset({0, runner_uid, os.geteuid()})
