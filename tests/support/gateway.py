"""A gateway in this process, real sockets on both of its sides, and apps that do as they are told.

Invariants: every byte crosses TLS on loopback; the parts are those of `gateway.serve`; whatever a
lab opened is closed when it ends.
"""

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway import GatewayConfig, RouteEntry, TableDocument, UpstreamEntry
from gateway.access_log import AccessLog
from gateway.config import GatewayLimits
from gateway.dial import Dialer
from gateway.listener import Listener
from gateway.site import Site, build_limits
from gateway.sockets import bind
from gateway.tasks import Tasks
from gateway.tls import (
    CertificateStore,
    build_agent_context,
    build_visitor_context,
    load_pair,
)
from tests.support.agent import Authority

HOST = "hello.localhost"
APP_ID = "spiffe://lockgate.internal/app/hello/1"
GATEWAY_ID = "spiffe://lockgate.internal/gateway/main"
SERVER_NAME = "hello.apps.lockgate.internal"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Reply:
    """One answer as a visitor read it; `is_whole` = its framing said that it ended."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool = True
    fields: list[tuple[str, str]] = field(default_factory=list)


class AppUnderTest:
    """A mutual-TLS server that runs `script` for each connection and counts them."""

    def __init__(self, script: Script, context: ssl.SSLContext) -> None:
        self.script = script
        self.context = context
        self.connections = 0
        self.open = 0
        self.heads: list[bytes] = []
        self.received = 0
        self.faults: list[BaseException] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self, path: Path | None = None) -> None:
        if path is not None:
            self._server = await asyncio.start_unix_server(self._run, path, ssl=self.context)
        else:
            self._server = await asyncio.start_server(
                self._run, "127.0.0.1", 0, ssl=self.context, limit=2**20
            )

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            await self.script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        except Exception as error:
            self.faults.append(error)
        finally:
            self.open -= 1
            self._writers.discard(writer)
            with contextlib.suppress(Exception):
                writer.close()


class GatewayLab:
    """The gateway under test and the means to ask it something."""

    def __init__(self, authority: Authority, site: Site, folder: Path, tasks: Tasks) -> None:
        self.authority = authority
        self.site = site
        self.folder = folder
        self.tasks = tasks
        self.apps: list[AppUnderTest] = []
        self.port = 0
        self.http_port = 0
        self.version = 0
        self.store: CertificateStore | None = None

    def build_app_context(
        self, *uris: str, dns: str = SERVER_NAME, authority: Authority | None = None
    ) -> ssl.SSLContext:
        """A server context as an agent has it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.authority.root_pem.decode())
        load_pair(context, *(authority or self.authority).issue(*(uris or (APP_ID,)), dns=dns))
        return context

    async def start_app(
        self, script: Script, context: ssl.SSLContext | None = None, path: Path | None = None
    ) -> AppUnderTest:
        """An app that runs `script` for each connection."""
        app = AppUnderTest(script, context or self.build_app_context())
        await app.start(path)
        self.apps.append(app)
        return app

    def build_entry(self, address: str, name: str = "hello/1", **changes: str) -> UpstreamEntry:
        """How the table names an upstream."""
        values = {"app": "hello", "server_name": SERVER_NAME, "spiffe_id": APP_ID} | changes
        return UpstreamEntry(name=name, address=address, **values)

    def publish(self, app: AppUnderTest | None, hosts: tuple[str, ...] = (HOST,), **route: Any):
        """A table with one route; without an app nothing serves it."""
        entries = () if app is None else (self.build_entry(f"127.0.0.1:{app.port}"),)
        upstream = None if app is None else "hello/1"
        self.version += 1
        self.site.publish(
            TableDocument(
                version=self.version,
                routes=(RouteEntry(hosts=hosts, app="hello", upstream=upstream, **route),),
                upstreams=entries,
            )
        )

    async def serve(self, script: Script, **route: Any) -> AppUnderTest:
        """Start an app and publish it for `HOST`."""
        app = await self.start_app(script)
        self.publish(app, **route)
        return app

    async def connect(self, sni: str | None = HOST, **options: Any) -> "Visit":
        """A visitor's TLS connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for name, value in options.items():
            setattr(context, name, value)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=sni or "", limit=2**18
        )
        return Visit(reader, writer)

    async def ask(self, request: bytes, sni: str = HOST) -> Reply:
        """One request on a connection of its own."""
        visit = await self.connect(sni)
        try:
            await visit.send(request)
            return await visit.read(request.partition(b" ")[0])
        finally:
            visit.abort()

    async def settle(self, until: Callable[[], bool] | None = None, timeout_s: float = 5) -> None:
        """Wait until `until` holds; by default until nothing is in flight."""
        check = until or (lambda: not any(r.in_flight + r.sockets for r in self.site.report()))
        deadline = time.monotonic() + timeout_s
        while not check():
            assert time.monotonic() < deadline, "it did not come about"
            await asyncio.sleep(0.005)

    def read_log(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines that were written so far, at least `count`."""
        self.site.log.flush()
        deadline = time.monotonic() + 5
        while len(lines := (self.folder / "access.log").read_text().splitlines()) < count:
            assert time.monotonic() < deadline, f"{len(lines)} lines were logged"
            time.sleep(0.005)
        return [json.loads(line) for line in lines]


class Visit:
    """A visitor's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, request: bytes) -> None:
        self.writer.write(request)
        await self.writer.drain()

    async def read(self, method: bytes = b"GET") -> Reply:
        """One answer, 1xx included."""
        return await asyncio.wait_for(read_reply(self.reader, method), 10)

    async def ends(self, timeout_s: float = 5) -> bytes:
        """What is left until the connection ends."""
        try:
            return await asyncio.wait_for(self.reader.read(), timeout_s)
        except ConnectionError:
            return b""

    def abort(self) -> None:
        self.writer.transport.abort()


async def read_reply(reader: asyncio.StreamReader, method: bytes) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    reply = Reply(int(first.split(" ")[1]), dict(fields), b"", True, fields)
    if method == b"HEAD" or reply.status < 200 or reply.status in {204, 304}:
        return reply
    try:
        if reply.headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                reply.body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n"
        elif "content-length" in reply.headers:
            reply.body = await reader.readexactly(int(reply.headers["content-length"]))
        else:
            reply.body = await reader.read()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError) as error:
        reply.body += getattr(error, "partial", b"")
        reply.is_whole = False
    return reply


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """A request's head as the app gets it."""
    return await reader.readuntil(b"\r\n\r\n")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that answers each bodyless request with its head."""
    while True:
        head = await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
        await writer.drain()


def answer(response: bytes) -> Script:
    """An app that answers each request with these bytes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_head(reader)
            writer.write(response)
            await writer.drain()

    return script


def get(path: str = "/", *fields: str, host: str = HOST, method: str = "GET") -> bytes:
    """A request without a body."""
    lines = "".join(f"{entry}\r\n" for entry in fields)
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()


@contextlib.asynccontextmanager
async def open_lab(folder: Path, authority: Authority, **limits: Any) -> AsyncIterator[GatewayLab]:
    """A gateway that listens on free ports, with an empty table and these limits."""
    config = GatewayConfig(limits=GatewayLimits(**limits), access_log=folder / "access.log")
    async with Tasks() as tasks:
        dialer = Dialer(config.limits, build_limits(config), tasks)
        dialer.swap_context(build_agent_context(*authority.issue(GATEWAY_ID), authority.root_pem))
        site = Site(config, dialer, AccessLog.open(config.access_log), time.time)
        lab = GatewayLab(authority, site, folder, tasks)
        lab.store = CertificateStore(build_visitor_context(*authority.issue(dns="strangers.test")))
        https = Listener(site, bind("127.0.0.1", 0), lab.store, tasks)
        http = Listener(site, bind("127.0.0.1", 0), None, tasks)
        lab.port = site.https_port = int(https.address.rpartition(":")[2])
        lab.http_port = int(http.address.rpartition(":")[2])
        https.start()
        http.start()
        try:
            yield lab
        finally:
            https.stop()
            http.stop()
            site.cut()
            for waiting in list(site.waiting):
                waiting.drain()
            dialer.close()
            for app in lab.apps:
                await app.stop()
            site.log.close()
            assert not [fault for app in lab.apps for fault in app.faults]


def count_descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
