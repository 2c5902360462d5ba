"""Plain HTTP leads to TLS and to nothing else."""

import asyncio
import contextlib

import pytest

from gateway.heads import Body, RequestHead
from gateway.redirect import build_location
from tests.gateway.conftest import OpenLab
from tests.support.gateway import GatewayLab, get, read_reply


def build_head(authority: bytes, target: bytes = b"/a?b") -> RequestHead:
    """A decided head."""
    return RequestHead(b"GET", target, "x", authority, b"1.1", (), Body.none, None, True)


@pytest.mark.parametrize(
    ("authority", "port", "location"),
    [
        (b"a.test", 443, b"https://a.test/a?b"),
        (b"A.test:80", 8443, b"https://a.test:8443/a?b"),
        (b"a.test.", 8443, b"https://a.test:8443/a?b"),
        (b"[::1]:8080", 8443, b"https://[::1]:8443/a?b"),
    ],
)
def test_location_is_the_same_address_by_tls(authority: bytes, port: int, location: bytes) -> None:
    """Host and target stay, scheme and port change."""
    assert build_location(build_head(authority), port) == location


def test_asterisk_leads_to_the_root() -> None:
    """OPTIONS * has no address of its own."""
    assert build_location(build_head(b"a", b"*"), 443) == b"https://a/"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/x", host="a.test:8080"), 308),
        (get("/x", host="a.test", method="POST"), 308),
        (get("/x", host="a,b"), 400),
        (b"GET /x HTTP/1.1\r\n\r\n", 400),
        (b"GET //evil.test HTTP/1.1\r\nHost: a.test\r\n\r\n", 308),
        (b"\x16\x03\x01\x02\n", 400),
    ],
)
async def test_answers_once_and_ends(lab: GatewayLab, request_bytes: bytes, status: int) -> None:
    """One answer, whatever follows, and never to another host."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.http_port)
    writer.write(request_bytes * 2)
    reply = await read_reply(reader, b"GET")
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert await asyncio.wait_for(reader.read(), 3) == b""
    if status == 308:
        assert reply.headers["location"].startswith(f"https://a.test:{lab.port}/")
        assert "strict-transport-security" not in reply.headers
    writer.close()
    await lab.settle(lambda: not lab.site.waiting)


async def test_slow_visitor_is_let_go(start_lab: OpenLab) -> None:
    """A head that does not come costs its time and no more."""
    async with start_lab(request_head="100ms") as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.http_port)
        writer.write(b"GET / ")
        await asyncio.sleep(0.15)
        lab.site.sweep(lab.site.now())
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()
