"""The runner's Unix socket: who asks is checked, what is asked is passed to the `Deployer`.

Long answers are NDJSON: one event per line, the last one `{"event": "result", …}`.

**Invariants**: only root and our own uid get an answer; no answer holds a secret's value; the
socket file is 0600 from the moment it exists; a caller that leaves cancels nothing that has
passed its point of no return (see `operations`).
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import structlog
from aiohttp import web
from pydantic import ValidationError

from runner.errors import RefusedError, RunnerError, UnknownAppError
from runner.events import Json
from runner.operations import Operation, Operations, build_defect, build_failure
from runner.port import Deployer
from runner.spec.grammar import is_app_name, is_secret_name
from runner.spec.model import AppSpec

VALUE_LIMIT_BYTES = 256 * 1024
BODY_LIMIT_BYTES = 1024 * 1024

_log = structlog.get_logger("runner")


class RunnerApi:
    """The handlers of the socket over one `Deployer`."""

    def __init__(self, deployer: Deployer, operations: Operations) -> None:
        self._deployer = deployer
        self.operations = operations
        self.stopped = asyncio.Event()
        """Set once `POST /stop` has done its work: the process may end."""

    def build_app(self) -> web.Application:
        """The aiohttp application, with the checks around every route."""
        app = web.Application(
            middlewares=[_check_peer, _translate_errors], client_max_size=BODY_LIMIT_BYTES
        )
        app.add_routes(
            [
                web.get("/facts", self._facts),
                web.get("/apps", self._list_apps),
                web.get("/apps/{app}", self._show_app),
                web.post("/plan", self._plan),
                web.post("/deploy", self._deploy),
                web.post("/apps/{app}/remove", self._remove),
                web.post("/apps/{app}/restart", self._restart),
                web.get("/apps/{app}/logs", self._logs),
                web.get("/apps/{app}/secrets", self._list_secrets),
                web.put("/apps/{app}/secrets/{name}", self._set_secret),
                web.delete("/apps/{app}/secrets/{name}", self._remove_secret),
                web.get("/doctor", self._doctor),
                web.post("/stop", self._stop),
            ]
        )
        return app

    async def _facts(self, _: web.Request) -> web.Response:
        return web.json_response(self._deployer.facts().to_json())

    async def _list_apps(self, _: web.Request) -> web.Response:
        apps = await self._deployer.status(None)
        return web.json_response({"apps": [app.to_json() for app in apps]})

    async def _show_app(self, request: web.Request) -> web.Response:
        apps = await self._deployer.status(_read_app(request))
        return web.json_response({"apps": [app.to_json() for app in apps]})

    async def _plan(self, request: web.Request) -> web.Response:
        steps = await self._deployer.plan(await _read_spec(request))
        return web.json_response({"steps": [step.to_json() for step in steps]})

    async def _deploy(self, request: web.Request) -> web.StreamResponse:
        spec = await _read_spec(request)
        operation = self.operations.start(
            spec.name,
            "deploy",
            _describe_peer(request),
            lambda report: self._deployer.deploy(spec, report),
        )
        return await _follow(request, operation)

    async def _remove(self, request: web.Request) -> web.StreamResponse:
        app = await self._read_known_app(request)
        operation = self.operations.start(
            app,
            "removal",
            _describe_peer(request),
            lambda report: self._deployer.remove(app, report),
            is_committed=True,
        )
        return await _follow(request, operation)

    async def _restart(self, request: web.Request) -> web.StreamResponse:
        app = await self._read_known_app(request)
        operation = self.operations.start(
            app,
            "restart",
            _describe_peer(request),
            lambda report: self._deployer.restart(app, report),
            is_committed=True,
        )
        return await _follow(request, operation)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        app = await self._read_known_app(request)
        query = request.query
        generation = _read_count(query.get("generation", "0"))
        lines = self._deployer.logs(
            app,
            generation=generation or None,
            lines=_read_count(query.get("lines", "100")),
            follow=query.get("follow") == "1",
            build=query.get("build") == "1",
        )
        return await _stream(request, _pass_lines(lines))

    async def _list_secrets(self, request: web.Request) -> web.Response:
        names = await self._deployer.list_secrets(_read_app(request))
        return web.json_response({"secrets": list(names)})

    async def _set_secret(self, request: web.Request) -> web.Response:
        app, name = _read_app(request), _read_secret_name(request)
        content = await request.read()
        if len(content) > VALUE_LIMIT_BYTES:
            raise RefusedError(f"{name}: a secret holds at most 256 KiB")
        try:
            value = content.decode()
        except UnicodeDecodeError:
            raise RefusedError(f"{name}: not UTF-8 text; encode it (base64) first") from None
        if "\0" in value:
            raise RefusedError(f"{name}: an environment variable cannot hold a NUL byte")
        self.operations.check_free(app)
        await self._deployer.set_secret(app, name, value)
        return web.json_response({"app": app, "name": name})

    async def _remove_secret(self, request: web.Request) -> web.Response:
        app, name = _read_app(request), _read_secret_name(request)
        self.operations.check_free(app)
        await self._deployer.remove_secret(app, name)
        return web.json_response({"app": app, "name": name})

    async def _doctor(self, _: web.Request) -> web.Response:
        checks = await self._deployer.doctor()
        return web.json_response({"checks": [check.to_json() for check in checks]})

    async def _stop(self, _: web.Request) -> web.Response:
        await asyncio.shield(self._stop_all())
        return web.json_response({"ok": True})

    async def _stop_all(self) -> None:
        try:
            await self.operations.close()
            await self._deployer.stop()
        finally:
            self.stopped.set()

    async def _read_known_app(self, request: web.Request) -> str:
        """The app of the path; unknown ones are a 404 before a stream begins."""
        app = _read_app(request)
        await self._deployer.status(app)
        return app


@asynccontextmanager
async def serve_api(
    deployer: Deployer, operations: Operations, socket_path: Path
) -> AsyncIterator[RunnerApi]:
    """Answer on `socket_path` until the context is left; a stale socket file is replaced.

    `operations` is entered by the caller, who may begin some of its own.
    """
    api = RunnerApi(deployer, operations)
    server = web.AppRunner(
        api.build_app(), handler_cancellation=True, access_log=None, shutdown_timeout=5.0
    )
    await server.setup()
    listening = open_socket(socket_path)
    try:
        await web.SockSite(server, listening).start()
        yield api
    finally:
        await operations.close()
        await server.cleanup()
        _remove_socket(socket_path)


def _remove_socket(path: Path) -> None:
    path.unlink(missing_ok=True)


def open_socket(path: Path) -> socket.socket:
    """A listening 0600 Unix socket; raises `RunnerError` when somebody answers there already."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        if path.exists() and caller.connect_ex(str(path)) == 0:
            raise RunnerError(f"another runner answers on {path}")
    _remove_socket(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise RunnerError(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    return listening


def read_peer(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of the process at the other end of a Unix socket, as the kernel saw it."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, 17, size))
    return pid, uid


Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _check_peer(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    peer = _read_request_peer(request)
    if peer is None or peer[1] not in (0, os.getuid()):
        return web.json_response({"ok": False, "error": "only root may ask that"}, status=403)
    return await handler(request)


@web.middleware
async def _translate_errors(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    try:
        return await handler(request)
    except RunnerError as error:
        return web.json_response(build_failure(error), status=error.status)
    except web.HTTPException as error:
        return web.json_response({"ok": False, "error": error.reason}, status=error.status)
    except Exception as error:
        _log.exception("request broke", path=request.path)
        return web.json_response(build_failure(build_defect(error)), status=500)


def _read_request_peer(request: web.Request) -> tuple[int, int] | None:
    if request.transport is None:
        return None
    return read_peer(request.transport.get_extra_info("socket"))


def _describe_peer(request: web.Request) -> str:
    peer = _read_request_peer(request)
    return f"process {peer[0]} (uid {peer[1]})" if peer else "a caller that has left"


def _read_app(request: web.Request) -> str:
    app = request.match_info["app"]
    if not is_app_name(app):
        raise UnknownAppError(f"{app!r} is not an app's name (a-z, 0-9 and -, 40 at most)")
    return app


def _read_secret_name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not is_secret_name(name):
        raise RefusedError(f"{name!r} is not a secret's name: write it like DATABASE_PASSWORD")
    return name


def _read_count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RefusedError(f"{text!r} is not a number of lines or a generation")
    return int(text)


async def _read_spec(request: web.Request) -> AppSpec:
    try:
        return AppSpec.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RefusedError(f"the app's description was refused: {key}: {first['msg']}") from None


async def _pass_lines(lines: AsyncIterator[str]) -> AsyncIterator[Json]:
    """Lines as events; an error after the first line becomes the result."""
    try:
        async for line in lines:
            yield {"event": "line", "text": line}
        yield {"event": "result", "ok": True}
    except RunnerError as error:
        yield {"event": "result", **build_failure(error)}
    finally:
        close = getattr(lines, "aclose", None)
        if close is not None:
            await close()


async def _follow(request: web.Request, operation: Operation) -> web.StreamResponse:
    """Stream an operation's events; a caller that hangs up leaves it, even before the first."""
    try:
        return await _stream(request, operation.follow())
    finally:
        operation.leave()


async def _stream(request: web.Request, events: AsyncIterator[Json]) -> web.StreamResponse:
    """Write each event as one NDJSON line; when the caller hangs up, leave the iterator."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with aclosing(events) as source:  # type: ignore[type-var]
        await response.prepare(request)
        async for event in source:
            await response.write(json.dumps(event).encode() + b"\n")
        await response.write_eof()
    return response
