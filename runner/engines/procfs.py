"""Processes that may not be our children: who they are, whether they live, how to end them.

Invariants: a process is known by pid, start time and boot, never by its pid alone; a signal goes
through a pidfd that was checked against them, so it never reaches a stranger.
"""

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
KILL_ROUNDS = 50
KILL_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`start_ticks` since boot (proc(5), field 22); `boot` tells one boot from another."""

    pid: int
    start_ticks: int
    boot: str


def read_identity(pid: int) -> ProcessIdentity | None:
    """Who has this pid now; None for nobody or a zombie."""
    try:
        state, *rest = (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
        boot = BOOT_ID.read_text().strip()
    except OSError:
        return None
    return None if state in "ZX" else ProcessIdentity(pid, int(rest[18]), boot)


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether this very process still runs."""
    return read_identity(identity.pid) == identity


def list_descendants(pid: int) -> list[int]:
    """Children of a process, their children and so on."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


async def end_process(identity: ProcessIdentity, grace_s: float) -> None:
    """SIGTERM, up to `grace_s` seconds, SIGKILL to it and to all that descends from it."""
    pidfd = _open_pidfd(identity)
    if pidfd is None:
        return
    try:
        if grace_s > 0:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            await _wait(pidfd, grace_s)
        await _kill_tree(identity, pidfd)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _open_pidfd(identity: ProcessIdentity) -> int | None:
    """A handle on the process, checked after it was opened: the pid cannot change hands now."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except OSError:
        return None
    if is_alive(identity):
        return pidfd
    os.close(pidfd)
    return None


async def _kill_tree(identity: ProcessIdentity, pidfd: int) -> None:
    descendants = [read_identity(pid) for pid in list_descendants(identity.pid)]
    if is_alive(identity):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for _ in range(KILL_ROUNDS):
        left = [one for one in (identity, *descendants) if one is not None and is_alive(one)]
        if not left:
            return
        for one in left:
            other = _open_pidfd(one)
            if other is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(other, signal.SIGKILL)
                os.close(other)
        await asyncio.sleep(KILL_PAUSE_S)


async def _wait(pidfd: int, timeout_s: float) -> None:
    """Return when the process has ended, or after the timeout."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    except TimeoutError:
        return
    finally:
        loop.remove_reader(pidfd)
