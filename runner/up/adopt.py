"""Processes that a former `lockgate up` left: found by their sockets, watched without being ours.

Theory: a gateway outlives the process that started it, so that open connections survive; the next
`up` takes it over if it would start the very same one. A pki or a runner ends by itself when its
parent does, which may take a moment; nothing new starts before they are gone.

**Invariants**: a process is named by the kernel (the peer of its socket) and held by a pidfd, so no
signal ever reaches a pid that was used again.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from gateway import GatewayClient, GatewayConfig, GatewayError
from runner.api import read_peer

KILL_WAIT_S = 5.0
ASK_TIMEOUT_S = 5.0


class Adopted:
    """A running process that somebody else started; the face of `host.Child`."""

    def __init__(self, pid: int, name: str) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._is_gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._notice)
        self.pid = pid
        self.name = name

    def __repr__(self) -> str:
        return f"<Adopted {self.name} pid={self.pid} {'running' if self.is_running else 'gone'}>"

    @property
    def is_running(self) -> bool:
        """Whether its end has not been seen yet."""
        return not self._is_gone.is_set()

    async def wait(self) -> int:
        """Wait for its end; its exit code is only its parent's to know, so 0."""
        await self._is_gone.wait()
        return 0

    async def terminate(self, grace_s: float) -> int:
        """SIGTERM, up to `grace_s` seconds, then SIGKILL."""
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
            if self.is_running:
                self._send(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self.wait()
        return 0

    def kill(self) -> None:
        """SIGKILL; gone is no error."""
        if self.is_running:
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _notice(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._is_gone.set()


def find_listener(path: Path) -> int | None:
    """The pid of the living process that listens on a Unix socket; None for a stale file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(ASK_TIMEOUT_S)
        try:
            caller.connect(str(path))
            pid, _ = read_peer(caller)
        except OSError:
            return None
    return pid if pid > 0 and _is_alive(pid) else None


def _is_alive(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


async def await_end(path: Path, name: str, patience_s: float) -> None:
    """Wait until nobody listens on `path`; after `patience_s` seconds it is ended."""
    pid = find_listener(path)
    if pid is None or pid == os.getpid():
        return
    with contextlib.suppress(ProcessLookupError):
        left = Adopted(pid, name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await left.wait()
        await left.terminate(patience_s)


async def adopt_gateway(
    config: GatewayConfig, version: str, say: Callable[[str], None]
) -> Adopted | None:
    """The gateway that runs already, if it is what we would start; any other one is ended."""
    pid = find_listener(config.socket_path)
    if pid is None:
        return None
    try:
        found = Adopted(pid, "gateway")
    except ProcessLookupError:
        return None
    reason = await _find_difference(config, version, pid)
    if not reason:
        say(f"gateway (pid {pid}) runs on from before: its open connections were kept")
        return found
    say(f"gateway (pid {pid}) is replaced: {reason}")
    await found.terminate(config.limits.drain + KILL_WAIT_S)
    return None


async def _find_difference(config: GatewayConfig, version: str, pid: int) -> str:
    """Why the running gateway is not the one that we would start; empty if it is."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S), GatewayClient(config.socket_path) as client:
            status = await client.fetch_status()
    except (GatewayError, TimeoutError):
        return "it does not answer"
    if status.pid != pid:
        return "its control socket belongs to another process"
    if status.version != version:
        return f"it is version {status.version}, this is {version}"
    if status.config_hash != config.build_hash():
        return "its settings have changed"
    return ""
