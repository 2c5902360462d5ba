"""Sockets by address."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from gateway.sockets import adopt, bind, connect, describe, parse_address


def test_parses_addresses() -> None:
    """A path, or a host and a port."""
    assert parse_address("unix:/run/a.sock") == Path("/run/a.sock")
    assert parse_address("10.0.0.1:8443") == ("10.0.0.1", 8443)
    assert parse_address("[::1]:1") == ("::1", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_connects_to_numbers_and_names(host: str) -> None:
    """An address may be a number or a name."""
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with await connect(f"{host}:{port}", 2) as sock:
            assert sock.getpeername()[1] == port
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_connects_to_a_path(tmp_path: Path) -> None:
    """An address may be a Unix socket."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a"))
        listening.listen()
        (await connect(f"unix:{tmp_path}/a", 2)).close()


async def test_failed_connect_leaves_no_descriptor() -> None:
    """Refused, missing, or too slow: the socket is closed."""
    with bind("127.0.0.1", 0) as taken:
        free = taken.getsockname()[1]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConnectionRefusedError):
        await connect(f"127.0.0.1:{free}", 2)
    with pytest.raises(FileNotFoundError):
        await connect("unix:/nonexistent/a.sock", 2)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with pytest.raises(TimeoutError):
            await asyncio.gather(*(connect(f"127.0.0.1:{port}", 0.2) for _ in range(4)))
    await asyncio.sleep(0.3)
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_binds_and_describes() -> None:
    """What is bound says where."""
    with bind("127.0.0.1", 0) as sock:
        assert describe(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", sock.getsockname()[1])


def test_adopts_a_bound_socket() -> None:
    """An inherited descriptor listens, and is not inherited further."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with adopt(os.dup(bound.fileno())) as sock:
            assert not sock.get_inheritable()
            socket.create_connection(sock.getsockname(), 1).close()
