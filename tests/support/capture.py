"""A packet capture of the bridge of one installation.

Invariants: listens only, on the interfaces whose address lies in the installation's pool; a capture
counts what it saw, so that an empty one cannot pass for a clean one.
"""

import contextlib
import ipaddress
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_S = 10
FLUSH_S = 1.0


@dataclass(frozen=True, slots=True)
class Capture:
    """Packets in a pcap file."""

    path: Path

    def has(self, needle: bytes) -> bool:
        """Whether the bytes crossed the bridge in one packet."""
        return needle in self.path.read_bytes()

    def count_bytes(self) -> int:
        """How much was captured."""
        return self.path.stat().st_size


def find_bridges(pool: str) -> list[str]:
    """Names of the interfaces with an address in `pool`."""
    listed = subprocess.run(("ip", "-json", "addr"), check=True, capture_output=True).stdout
    network = ipaddress.ip_network(pool)
    return [
        link["ifname"]
        for link in json.loads(listed)
        for address in link.get("addr_info", [])
        if address["family"] == "inet" and ipaddress.ip_address(address["local"]) in network
    ]


@contextlib.contextmanager
def capture_packets(interface: str, path: Path) -> Iterator[Capture]:
    """Capture whole packets while the context is open; complete when it is closed."""
    argv = ("tcpdump", "-i", interface, "-U", "-s", "0", "-B", "16384", "-w", str(path))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_listening(process)
        yield Capture(path)
        time.sleep(FLUSH_S)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=START_S)
    dropped = re.search(r"(\d+) packets? dropped by kernel", said)
    assert dropped, f"tcpdump did not say what it dropped: {said}"
    assert int(dropped[1]) == 0, f"the capture has holes: {said}"


def wait_until_listening(process: subprocess.Popen[str]) -> None:
    """tcpdump says so on stderr before it sees the first packet."""
    assert process.stderr
    said = ""
    while "listening on" not in said:
        line = process.stderr.readline()
        assert line, f"tcpdump ended: {said}"
        said += line
