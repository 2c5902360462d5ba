"""A real SSH server of one test that serves Git repositories to one key.

Invariants: listens on loopback only; its keys are made for it; ends with its context.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import find_free_ports

START_S = 10
SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True, slots=True)
class SshServer:
    """Where it listens and what it accepts."""

    port: int
    host_key: str
    deploy_key: str

    def build_url(self, path: Path) -> str:
        """The address of a repository on this machine."""
        return f"ssh://root@127.0.0.1:{self.port}{path}"


def make_key(path: Path) -> str:
    """A new Ed25519 key at `path`; returns `ssh-ed25519 AAAA…` of its public half."""
    argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path))
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@contextlib.contextmanager
def open_ssh_server(folder: Path) -> Iterator[SshServer]:
    """sshd on a free port; root may log in with the deploy key and with nothing else."""
    folder.mkdir()
    host_key = make_key(folder / "host")
    (folder / "authorized").write_text(make_key(folder / "deploy") + "\n")
    (port,) = find_free_ports(1)
    process = subprocess.Popen(
        build_sshd_argv(folder, port),
        stdin=subprocess.DEVNULL,
        stderr=(folder / "log").open("wb"),
    )
    try:
        wait_for_port(port, process)
        yield SshServer(port, host_key, (folder / "deploy").read_text())
    finally:
        process.terminate()
        process.wait()


def build_sshd_argv(folder: Path, port: int) -> tuple[str, ...]:
    """sshd in the foreground with every setting on its command line."""
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",
        "UsePAM": "no",
    }
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its privilege separation needs it
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    return (SSHD, "-D", "-e", "-f", os.devnull, *options)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until something accepts connections."""
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, "sshd ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.05)
