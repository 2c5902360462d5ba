"""The capture sees plaintext where there is some."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.capture import capture_packets, find_bridges
from tests.support.ports import pick_address_pool


@pytest.fixture
def bridge() -> Iterator[tuple[str, str]]:
    """(name, pool) of a bridge with an address of its own and a neighbour that does not exist."""
    pool = pick_address_pool()
    address = pool.replace(".0.0/16", ".0.1/28")
    name = "lgt" + pool.split(".")[1]
    argv = ("ip", "link", "add", name, "type", "bridge")
    subprocess.run(argv, check=True)
    try:
        subprocess.run(("ip", "addr", "add", address, "dev", name), check=True)
        subprocess.run(("ip", "link", "set", name, "up"), check=True)
        yield name, pool
    finally:
        subprocess.run(("ip", "link", "del", name), check=True)


@pytest.mark.root
def test_plaintext_is_seen(tmp_path: Path, bridge: tuple[str, str]) -> None:
    """A datagram through an interface of the pool is found by its content, and only that."""
    name, pool = bridge
    assert find_bridges(pool) == [name]
    neighbour = pool.replace(".0.0/16", ".0.2")
    with (
        capture_packets(name, tmp_path / "packets") as capture,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(b"plain canary", (neighbour.replace(".0.2", ".0.15"), 9))
    assert capture.has(b"plain canary")
    assert not capture.has(b"another canary")
