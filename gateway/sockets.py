"""Sockets as the gateway needs them: connected to an address, bound to one, or inherited.

Invariants: a socket is closed on every way out but success; TCP never waits to send (Nagle off).
"""

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Any

_BACKLOG = 1024


def parse_address(address: str) -> tuple[str, int] | Path:
    """`unix:/path` → its path; `host:port` or `[v6]:port` → host and port; raises ValueError."""
    if address.startswith("unix:"):
        return Path(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def connect(address: str, timeout_s: float) -> socket.socket:
    """A connected non-blocking socket; raises OSError or TimeoutError (after `timeout_s`)."""
    loop = asyncio.get_running_loop()
    target = parse_address(address)
    async with asyncio.timeout(timeout_s):
        if isinstance(target, Path):
            return await _connect(loop, socket.AF_UNIX, str(target))
        host, port = target
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, _, _, _, where = found[0]
            return await _connect(loop, family, where)
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        return await _connect(loop, family, (host, port))


async def _connect(
    loop: asyncio.AbstractEventLoop, family: int, where: tuple[Any, ...] | str
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; raises OSError (port taken, not allowed, no such address)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def adopt(descriptor: int) -> socket.socket:
    """An inherited, bound TCP socket, made to listen; raises OSError."""
    sock = socket.socket(fileno=descriptor)
    sock.set_inheritable(False)
    sock.listen(_BACKLOG)
    sock.setblocking(False)
    return sock


def describe(sock: socket.socket) -> str:
    """The address a socket is bound to, as host:port."""
    name = sock.getsockname()
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"
