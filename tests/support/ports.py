"""Numbers that a test installation has for itself on a shared machine.

Invariants: what is handed out was free a moment ago; nothing is reserved.
"""

import random
import socket
from pathlib import Path


def find_free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()


def pick_address_pool() -> str:
    """A /16 for bridges that no interface of this machine has an address in."""
    taken = Path("/proc/net/fib_trie").read_text()
    numbers = [number for number in range(100, 250) if f" 10.{number}." not in taken]
    return f"10.{random.choice(numbers)}.0.0/16"
