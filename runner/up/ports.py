"""The visitors' ports: bound before any process starts, so that a taken one is said at once.

**Invariants**: a port is never shared with a process that we did not start (no SO_REUSEPORT here);
an error names the key to change and, where the kernel tells, who holds the port.
"""

import errno
import os
import socket
from pathlib import Path

from runner.errors import StartError

BACKLOG = 4096
LISTEN_STATE = "0A"  # TCP_LISTEN, as /proc/net/tcp writes it


def open_listener(address: str, key: str) -> socket.socket:
    """A listening socket on `host:port` or `[v6]:port`; `key` is the setting it came from.

    Raises `StartError`.
    """
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise StartError(f"{key}: {address} is no address of this machine ({error})") from None
    family, kind, protocol, _, place = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(_explain(error, address, int(port), key)) from None
    return listener


def is_free(address: str) -> bool:
    """Whether `open_listener` would succeed just now."""
    try:
        open_listener(address, "").close()
    except StartError:
        return False
    return True


def find_holder(port: int, proc: Path = Path("/proc")) -> str:
    """`nginx (pid 812)`: who listens on the port; empty if the kernel does not tell us."""
    inodes = {
        fields[9]
        for table in ("net/tcp", "net/tcp6")
        for fields in _read_table(proc / table)
        if fields[3] == LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port
    }
    links = {f"socket:[{inode}]" for inode in inodes}
    for entry in proc.iterdir():
        if entry.name.isdigit() and links & _read_links(entry / "fd"):
            name = (entry / "comm").read_text(errors="replace").strip()
            return f"{name} (pid {entry.name})"
    return ""


def _read_table(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return []
    return [line.split() for line in lines]


def _read_links(folder: Path) -> set[str]:
    links = set()
    try:
        for entry in folder.iterdir():
            links.add(os.readlink(entry))
    except OSError:
        return links  # gone meanwhile, or another user's
    return links


def _explain(error: OSError, address: str, port: int, key: str) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = find_holder(port)
        by = f" by {holder}" if holder else ""
        return f"{key}: {address} is taken{by}: stop that, or set {key} to a free address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{key}: {address} needs root (a port below 1024): set {key} to a higher port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{key}: {address} is no address of this machine: set {key} to one of its own"
    return f"{key}: cannot listen on {address}: {error.strerror or error}"
