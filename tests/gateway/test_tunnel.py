"""WebSockets: what passes, who may open one, and how it ends."""

import asyncio
import base64
import hashlib

import pytest

from tests.gateway.conftest import OpenLab
from tests.support.gateway import HOST, GatewayLab, Visit, get, read_head

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
FIELDS = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def build_switch(key: str = KEY) -> bytes:
    """A 101 with the accept that belongs to `key`."""
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ).encode()


async def echo_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switches, says hello with the same packet, then echoes."""
    await read_head(reader)
    writer.write(build_switch() + b"leading")
    while received := await reader.read(65536):
        writer.write(received)
        await writer.drain()


async def open_socket(lab: GatewayLab, *extra: str, early: bytes = b"") -> Visit:
    visit = await lab.connect()
    await visit.send(get("/ws", *FIELDS, *extra) + early)
    return visit


async def test_passes_bytes_both_ways(lab: GatewayLab) -> None:
    """After a valid 101 everything passes, what came with it included."""
    await lab.serve(echo_socket)
    visit = await open_socket(lab, f"Origin: https://{HOST}", early=b"early ")
    assert (await visit.read()).status == 101
    assert await visit.reader.readexactly(13) == b"leadingearly "
    blob = bytes(range(256)) * 4000
    visit.writer.write(blob)
    assert await visit.reader.readexactly(len(blob)) == blob
    visit.abort()
    await lab.settle()


async def test_counts_sockets_and_logs_twice(lab: GatewayLab) -> None:
    """A tunnel is a socket of its upstream, not a request in flight, and has two lines."""
    app = await lab.serve(echo_socket)
    visit = await open_socket(lab)
    assert (await visit.read()).status == 101
    report = lab.site.report()[0]
    assert (report.in_flight, report.sockets) == (0, 1)
    await visit.reader.readexactly(7)
    await visit.send(b"12345")
    await visit.reader.readexactly(5)
    visit.abort()
    await lab.settle()
    await lab.settle(lambda: app.open == 0)
    opened, closed = lab.read_log(2)
    assert (opened["event"], opened["status"], closed["event"]) == ("open", 101, "close")
    assert (closed["bytes_in"], closed["bytes_out"]) == (5, 12)
    assert opened["request_id"] == closed["request_id"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (f"https://{HOST}", 101),
        (f"https://{HOST.upper()}", 101),
        ("https://evil.test", 403),
        (f"http://{HOST}", 403),
        (f"https://{HOST}:9", 403),
        (f"https://{HOST}.evil.test", 403),
        (f"https://evil.test/{HOST}", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_only_pages_of_the_app_may_open_one(
    lab: GatewayLab, origin: str, status: int
) -> None:
    """A page of another site cannot open a socket with a visitor's cookies."""
    app = await lab.serve(echo_socket)
    visit = await open_socket(lab, f"Origin: {origin}")
    assert (await visit.read()).status == status
    assert app.connections == (1 if status == 101 else 0)
    visit.abort()


@pytest.mark.parametrize(
    "switch",
    [
        build_switch("AAAAAAAAAAAAAAAAAAAAAA=="),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_believes_only_a_valid_switch(lab: GatewayLab, switch: bytes) -> None:
    """A 101 that does not prove that it read the key opens nothing."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(switch + b"secret")
        await reader.read(-1)

    app = await lab.serve(script)
    visit = await open_socket(lab)
    reply = await visit.read()
    assert (reply.status, b"secret" in reply.body) == (502, False)
    await lab.settle(lambda: app.open == 0)
    visit.abort()


async def test_bytes_before_the_switch_wait_for_it(lab: GatewayLab) -> None:
    """What follows the handshake is a new request when the app declines, never the app's."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await read_head(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    await lab.serve(script)
    visit = await open_socket(lab, early=get("/_stcore/metrics"))
    assert [(await visit.read()).status for _ in range(2)] == [200, 404]
    assert len(heads) == 1
    visit.abort()


async def test_app_that_ends_a_socket(lab: GatewayLab) -> None:
    """What the app said last arrives before the visitor's side ends."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(build_switch())
        await reader.readexactly(1)
        writer.write(b"goodbye" * 1000)

    await lab.serve(script)
    visit = await open_socket(lab)
    assert (await visit.read()).status == 101
    await visit.send(b"x")
    assert await visit.ends() == b"goodbye" * 1000
    await lab.settle()


async def test_slow_reader_makes_the_other_side_wait(lab: GatewayLab) -> None:
    """A tunnel keeps no more than its window."""
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(build_switch())
        for _ in range(50):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1_000_000
        await reader.read(-1)

    await lab.serve(script)
    visit = await open_socket(lab)
    assert (await visit.read()).status == 101
    await asyncio.sleep(0.5)
    assert sent < 25_000_000
    assert len(await visit.reader.readexactly(50_000_000)) == 50_000_000
    visit.abort()
    await lab.settle()


async def test_idle_socket_ends(start_lab: OpenLab) -> None:
    """A tunnel through which nothing passes for its time is closed on both sides."""
    async with start_lab(tunnel_idle="100ms") as lab:
        app = await lab.serve(echo_socket)
        visit = await open_socket(lab)
        assert (await visit.read()).status == 101
        await asyncio.sleep(0.15)
        lab.site.sweep(lab.site.now())
        await visit.ends()
        await lab.settle()
        await lab.settle(lambda: app.open == 0)
        assert lab.read_log(2)[-1]["reason"] == "tunnel_timeout"


async def test_outlives_its_table_until_it_is_cut(lab: GatewayLab) -> None:
    """A socket of an upstream that left the table lives on, until the operator cuts it."""
    app = await lab.serve(echo_socket)
    visit = await open_socket(lab)
    assert (await visit.read()).status == 101
    await visit.reader.readexactly(7)
    lab.publish(None)
    assert [(r.state, r.sockets) for r in lab.site.report()] == [("draining", 1)]
    await visit.send(b"still")
    assert await visit.reader.readexactly(5) == b"still"
    lab.site.cut("hello/1")
    assert await visit.ends() == b""
    await lab.settle()
    await lab.settle(lambda: app.open == 0)
    assert lab.site.report() == ()
