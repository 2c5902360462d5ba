"""Taking connections in: caps, bad handshakes, running out of descriptors."""

import asyncio
import resource
import socket

import pytest

from tests.gateway.conftest import OpenLab
from tests.support.gateway import GatewayLab, echo, get


async def test_caps_connections_per_address(start_lab: OpenLab) -> None:
    """One address gets its share; when it leaves, there is room again."""
    async with start_lab(connections_per_ip=3) as lab:
        await lab.serve(echo)
        visits = [await lab.connect() for _ in range(3)]
        with pytest.raises((ConnectionError, OSError)):
            await lab.connect()
        for visit in visits:
            visit.abort()
        await lab.settle(lambda: not lab.site.waiting)
        assert (await lab.ask(get())).status == 200


async def test_caps_connections_in_all(start_lab: OpenLab) -> None:
    """There is an end to what is open at once."""
    async with start_lab(connections=2) as lab:
        visits = [await lab.connect() for _ in range(2)]
        with pytest.raises((ConnectionError, OSError)):
            await lab.connect()
        for visit in visits:
            visit.abort()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_bad_handshake_costs_nobody_else(lab: GatewayLab, said: bytes) -> None:
    """Who does not speak TLS is let go, is counted no longer, and others are served."""
    await lab.serve(echo)
    for _ in range(150):
        _, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        writer.write(said)
        writer.close()
    await asyncio.sleep(0.1)
    assert (await lab.ask(get())).status == 200


async def test_handshake_has_a_deadline(start_lab: OpenLab) -> None:
    """A connection that never shakes hands is closed after its time."""
    async with start_lab(tls_handshake="200ms") as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.port)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()


async def test_survives_running_out_of_descriptors(lab: GatewayLab) -> None:
    """Without descriptors accepting pauses; with some it goes on."""
    await lab.serve(echo)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket()
    client.setblocking(False)
    taken = [socket.socket() for _ in range(5)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(s.fileno() for s in taken) + 1, hard))
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", lab.port))
        await asyncio.sleep(0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in [client, *taken]:
            sock.close()
    assert (await lab.ask(get())).status == 200
