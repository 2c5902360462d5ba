"""The control socket and its client, over a real Unix socket."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import aiohttp
import pytest

from gateway import (
    GatewayClient,
    GatewayError,
    RouteEntry,
    StatusReport,
    TableDocument,
)
from gateway.control import Control, build_uids
from gateway.process import open_control_socket
from pki import PkiError
from tests.support.gateway import HOST, GatewayLab, answer, echo, get

STATUS = StatusReport(
    pid=1, version="1", config_hash="x", table_version=0, https=("127.0.0.1:1",), http=()
)


class Certificates:
    """Stands for the PKI: notes which hosts were asked for, and fails on demand."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self.fails = False

    async def cover(self, hosts: Collection[str]) -> None:
        if self.fails:
            raise PkiError("the PKI is away")
        self.hosts = set(hosts)


@pytest.fixture
def certificates() -> Certificates:
    """What `PUT /table` waits for."""
    return Certificates()


@pytest.fixture
async def client(
    lab: GatewayLab, certificates: Certificates, tmp_path: Path
) -> AsyncIterator[GatewayClient]:
    """A client of a control socket that serves the lab's gateway."""
    path = tmp_path / "run" / "gateway.sock"
    control = Control(lab.site, certificates, lambda: STATUS, build_uids(os.getuid()))
    await control.start(open_control_socket(path))
    async with GatewayClient(path) as client:
        yield client
    await control.close()


def build_table(lab: GatewayLab, port: int, version: int = 1) -> TableDocument:
    """One app on one host."""
    route = RouteEntry(hosts=(HOST,), app="hello", upstream="hello/1")
    entry = lab.build_entry(f"127.0.0.1:{port}")
    return TableDocument(version=version, routes=(route,), upstreams=(entry,))


async def test_table_is_in_force_when_it_is_answered(
    lab: GatewayLab, client: GatewayClient, certificates: Certificates
) -> None:
    """After PUT /table visitors are served, with certificates asked for first."""
    app = await lab.start_app(echo)
    assert await client.put_table(build_table(lab, app.port, 7)) == 7
    assert certificates.hosts == {HOST}
    assert (await lab.ask(get())).status == 200
    assert [(r.name, r.state) for r in await client.fetch_upstreams()] == [("hello/1", "healthy")]
    assert lab.site.table_version == 7


async def test_table_without_certificates_changes_nothing(
    lab: GatewayLab, client: GatewayClient, certificates: Certificates
) -> None:
    """When the PKI fails, the old table stays in force and the caller is told why."""
    app = await lab.serve(echo)
    certificates.fails = True
    with pytest.raises(GatewayError, match="the PKI is away"):
        await client.put_table(TableDocument(version=9))
    assert (await lab.ask(get())).status == 200
    assert app.connections == 1


async def test_table_that_contradicts_itself_is_refused(
    lab: GatewayLab, client: GatewayClient
) -> None:
    """Two routes for one host, or a route to nowhere, are refused in one line."""
    entry = lab.build_entry("127.0.0.1:1")
    twice = RouteEntry(hosts=(HOST,), app="hello")
    with pytest.raises(GatewayError, match="claimed by"):
        await client.put_table(TableDocument(version=1, routes=(twice, twice)))
    nowhere = RouteEntry(hosts=(HOST,), app="hello", upstream="x/1")
    with pytest.raises(GatewayError, match="no upstream x/1"):
        await client.put_table(TableDocument(version=1, routes=(nowhere,)))
    with pytest.raises(GatewayError, match="named twice"):
        await client.put_table(TableDocument(version=1, upstreams=(entry, entry)))


async def test_vanished_upstream_drains_and_is_gone(lab: GatewayLab, client: GatewayClient) -> None:
    """An upstream that left the table is draining while it is busy, then not reported."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    app = await lab.start_app(script)
    await client.put_table(build_table(lab, app.port))
    visit = await lab.connect()
    await visit.send(get())
    await lab.settle(lambda: app.open == 1)
    await client.put_table(TableDocument(version=2))
    reports = await client.fetch_upstreams()
    assert [(r.state, r.in_flight) for r in reports] == [("draining", 1)]
    assert (await visit.read()).body == b"ok"
    assert await client.fetch_upstreams() == ()
    await lab.settle(lambda: app.open == 0)
    visit.abort()


async def test_close_cuts_what_is_left(lab: GatewayLab, client: GatewayClient) -> None:
    """POST /upstreams/close ends what is under way; an unknown name is no error."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    app = await lab.serve(script)
    visit = await lab.connect()
    await visit.send(get())
    await lab.settle(lambda: app.open == 1)
    await client.close_upstream("nobody/1")
    await client.close_upstream("hello/1")
    assert (await visit.read()).status == 503
    await lab.settle(lambda: app.open == 0)


@pytest.mark.parametrize(
    ("response", "ok", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, 204),
        (b"HTTP/1.1 303 See Other\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", True, 303),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False, 503),
        (b"nonsense\r\n\r\n", False, None),
    ],
)
async def test_probe_tells_what_the_app_said(
    lab: GatewayLab, client: GatewayClient, response: bytes, ok: bool, status: int | None
) -> None:
    """2xx and 3xx are ready; anything else is not, and says why."""
    app = await lab.start_app(answer(response))
    report = await client.probe(lab.build_entry(f"127.0.0.1:{app.port}"), HOST, "/_stcore/health")
    assert (report.ok, report.status, bool(report.reason)) == (ok, status, not ok)
    await lab.settle(lambda: app.open == 0)


async def test_probe_tells_why_there_was_no_answer(lab: GatewayLab, client: GatewayClient) -> None:
    """Refused, slow, hanging up and being somebody else are told apart."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    slow, rude = await lab.start_app(hang), await lab.start_app(hang_up)
    other = await lab.start_app(echo, lab.build_app_context(dns="other.apps.lockgate.internal"))
    asked = [
        (1, "upstream_unreachable: connection refused"),
        (slow.port, "upstream_timeout"),
        (rude.port, "upstream_closed"),
        (other.port, "upstream_identity"),
    ]
    for port, reason in asked:
        entry = lab.build_entry(f"127.0.0.1:{port}")
        report = await client.probe(entry, HOST, "/", timeout_s=0.3)
        assert (report.ok, report.reason[: len(reason)]) == (False, reason)


async def test_status_comes_through(client: GatewayClient) -> None:
    """GET /status is what the gateway says of itself."""
    assert await client.fetch_status() == STATUS


async def test_document_that_is_wrong_is_refused_in_one_line(
    client: GatewayClient, tmp_path: Path
) -> None:
    """Unknown keys and bad values name their place."""
    connector = aiohttp.UnixConnector(path=client.socket_path)
    async with aiohttp.ClientSession(connector=connector) as session:
        for document, said in [
            ({"version": 1, "x": 1}, "x: Extra inputs"),
            ({"version": 1, "routes": [{"hosts": ["A b"], "app": "a"}]}, "routes.0.hosts.0"),
        ]:
            async with session.put("http://g/table", json=document) as reply:
                text = await reply.text()
                assert (reply.status, said in text, "\n" in text) == (400, True, False)


async def test_strangers_may_not_ask(lab: GatewayLab, tmp_path: Path) -> None:
    """A peer whose uid is not on the list gets 403 and nothing is done."""
    path = tmp_path / "run" / "strict.sock"
    control = Control(lab.site, Certificates(), lambda: STATUS, {os.getuid() + 1})
    await control.start(open_control_socket(path))
    async with GatewayClient(path) as client:
        with pytest.raises(GatewayError, match="403"):
            await client.put_table(TableDocument(version=1))
    await control.close()


async def test_client_says_that_nobody_answers(tmp_path: Path) -> None:
    """A gateway that is not there, or hangs, is an error of one line."""
    async with GatewayClient(tmp_path / "no.sock") as client:
        with pytest.raises(GatewayError, match=r"no\.sock"):
            await client.fetch_status()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        async with GatewayClient(tmp_path / "silent.sock", timeout_s=0.1) as client:
            with pytest.raises(GatewayError, match=r"within 0\.1 s"):
                await client.put_table(TableDocument(version=1))
