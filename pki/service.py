"""The PKI's Unix socket: JSON over HTTP, every peer known by the kernel's word.

Invariants: the peer's uid comes from SO_PEERCRED and from nowhere else; a request's body is parsed
strictly and is at most 256 KiB; nothing awaits between a peer's check and its answer.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError

from pki.errors import PkiError
from pki.office import Office, Peer
from pki.wire import (
    AppLeafMessage,
    ErrorReply,
    ForgetMessage,
    ForgottenReply,
    GatewayLeafMessage,
    IssuedLeaf,
    LeafReply,
    RegisterMessage,
    VisitorLeafMessage,
)

_MAX_BODY_BYTES = 256 * 1024
_REFRESH_S = 3600.0
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)
_log = structlog.get_logger("pki")
B = TypeVar("B", bound=BaseModel)
Answer = Callable[[web.Request], Awaitable[web.Response]]


class Service:
    """Answers on a listening socket until told to stop."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._app = web.Application(client_max_size=_MAX_BODY_BYTES)
        self._app.router.add_get("/bundle", _translate_errors(self._read_bundle))
        self._app.router.add_get("/status", _translate_errors(self._read_status))
        for path, answer in (
            ("/register", self._register),
            ("/forget", self._forget),
            ("/leaf/app", self._issue_app),
            ("/leaf/gateway", self._issue_gateway),
            ("/leaf/visitor", self._issue_visitor),
        ):
            self._app.router.add_post(path, _translate_errors(answer))

    async def run(
        self, listener: socket.socket, stop: asyncio.Event, on_ready: Callable[[], None]
    ) -> None:
        """Serve until `stop` is set; replaces intermediates that are due once an hour."""
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=2.0)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            on_ready()
            async with asyncio.TaskGroup() as group:
                refreshing = group.create_task(self._refresh_hourly())
                await stop.wait()
                refreshing.cancel()
        finally:
            await runner.cleanup()

    async def _refresh_hourly(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                for kind in self._office.refresh():
                    _log.info("intermediate replaced", kind=kind)
            except (PkiError, OSError) as error:
                # The old one stays valid for weeks, and the next hour brings another try.
                _log.error("intermediate not replaced", error=str(error))

    async def _read_bundle(self, request: web.Request) -> web.Response:
        bundle = self._office.read_bundle(_identify(request))
        return web.Response(body=bundle, content_type="application/x-pem-file")

    async def _read_status(self, request: web.Request) -> web.Response:
        return web.json_response(self._office.read_status(_identify(request)))

    async def _register(self, request: web.Request) -> web.Response:
        body = await _parse(request, RegisterMessage)
        self._office.register(_identify(request), body.app, body.generation, body.hosts)
        return web.json_response({})

    async def _forget(self, request: web.Request) -> web.Response:
        body = await _parse(request, ForgetMessage)
        serials = self._office.forget(_identify(request), body.app, body.generation)
        return _reply(ForgottenReply(serials=serials))

    async def _issue_app(self, request: web.Request) -> web.Response:
        body = await _parse(request, AppLeafMessage)
        peer = _identify(request)
        return _reply_leaf(
            self._office.issue_app(peer, body.app, body.generation, body.csr.encode())
        )

    async def _issue_gateway(self, request: web.Request) -> web.Response:
        body = await _parse(request, GatewayLeafMessage)
        return _reply_leaf(self._office.issue_gateway(_identify(request), body.csr.encode()))

    async def _issue_visitor(self, request: web.Request) -> web.Response:
        body = await _parse(request, VisitorLeafMessage)
        peer = _identify(request)
        return _reply_leaf(self._office.issue_visitor(peer, body.host, body.csr.encode()))


def open_listener(path: Path) -> socket.socket:
    """A listening socket at `path` in place of one that nobody serves; raises OSError, `PkiError`.

    Anybody may connect: what a peer may ask for is decided by its uid.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        reached = probe.connect_ex(str(path))
    if reached == 0:
        raise PkiError(f"{path} is served by another pki", reason="already_running")
    if reached != errno.ENOENT:
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(str(path))
        os.chmod(path, 0o666)  # noqa: S103 - roles are by peer credentials, not by file mode
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _translate_errors(answer: Answer) -> Answer:
    async def translated(request: web.Request) -> web.Response:
        try:
            return await answer(request)
        except PkiError as error:
            if error.status >= 500:
                _log.error("request failed", path=request.path, error=str(error))
            return _reply(ErrorReply(reason=error.reason, message=str(error)), error.status)
        except OSError as error:
            _log.error("request failed", path=request.path, error=str(error))
            return _reply(ErrorReply(reason="failed", message=f"the PKI's disk: {error}"), 500)

    return translated


def _identify(request: web.Request) -> Peer:
    transport = request.transport
    if transport is None:
        raise PkiError("the peer is gone")
    peer_socket = transport.get_extra_info("socket")
    packed = peer_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(packed)
    return Peer(uid, pid)


async def _parse(request: web.Request, model: type[B]) -> B:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        refusal = PkiError(f"bad request: {where}: {first['msg']}", reason="bad_request")
        refusal.status = 400
        raise refusal from None


def _reply(model: BaseModel, status: int = 200) -> web.Response:
    return web.Response(
        text=model.model_dump_json(), status=status, content_type="application/json"
    )


def _reply_leaf(leaf: IssuedLeaf) -> web.Response:
    return _reply(
        LeafReply(
            chain=leaf.chain_pem.decode(),
            serial=leaf.serial,
            not_before=leaf.not_before,
            not_after=leaf.not_after,
        )
    )
