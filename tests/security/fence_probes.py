"""Runs inside a container: tries what must not work and writes what each attempt came to.

Standard library only; argv: result file, uid to become first, then addresses to connect to.
"""

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
PTRACE_ATTACH = 16
USUAL_DEVICES = {
    *("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm"),
    *("stderr", "stdin", "stdout", "tty", "urandom", "zero"),
}


def attempt(work: Callable[[], object]) -> str:
    """`done`, the name of the error that met it, or what it says itself."""
    try:
        return str(work() or "done")
    except TimeoutError:
        return "TimeoutError"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))


def call(name: str, *arguments: object) -> None:
    """A function of libc; a negative result is an `OSError`."""
    if getattr(LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def write(path: str) -> None:
    """Create a file."""
    Path(path).write_text("x")


def fill() -> None:
    """Write more to /tmp than it may hold."""
    with open("/tmp/big", "wb", buffering=0) as big:
        for _ in range(4):
            big.write(b"x" * 1024 * 1024)


def fork_without_end() -> None:
    """Fork until refused, then end all children."""
    children = []
    try:
        for _ in range(200):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def trace_another(other: int) -> None:
    """Attach to a process of another uid (or of our own, from uid 0)."""
    call("ptrace", PTRACE_ATTACH, other, 0, 0)


def read_status(key: str) -> str:
    """A line of our /proc status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{key}:"))


def connect(address: str) -> None:
    """Open a TCP connection."""
    host, _, port = address.partition(":")
    socket.create_connection((host, int(port)), timeout=2).close()


def start_other(uid: int) -> int:
    """A sleeping process of another uid than ours, while we still may choose."""
    child = os.fork()
    if child == 0:
        other = uid + 1 if uid else 65533
        os.setresgid(other, other, other)
        os.setresuid(other, other, other)
        time.sleep(120)
        os._exit(0)
    time.sleep(0.2)
    return child


def try_all(other: int) -> dict[str, str]:
    """Each attempt by name."""
    core = resource.getrlimit(resource.RLIMIT_CORE)
    return {
        "control": attempt(lambda: write("/scratch/control")),
        "write to the root": attempt(lambda: write("/etc/x")),
        "write to the code": attempt(lambda: write("/app/x")),
        "make a device": attempt(lambda: os.mknod("/tmp/d", stat.S_IFBLK | 0o600, 0x100)),
        "mount": attempt(lambda: call("mount", b"x", b"/tmp", b"tmpfs", 0, None)),
        "unmount": attempt(lambda: call("umount2", b"/app", 0)),
        "new user namespace": attempt(lambda: call("unshare", CLONE_NEWUSER)),
        "raw socket": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
        "change the owner": attempt(lambda: os.chown("/scratch/control", 1, 1)),
        "change the root": attempt(lambda: os.chroot("/tmp")),
        "set the clock": attempt(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
        "host name": attempt(lambda: socket.sethostname("x")),
        "trace another process": attempt(lambda: trace_another(other)),
        "dump core": f"limit {core[0]}" if core == (0, 0) else "done",
        "fill /tmp": attempt(fill),
        "fork without end": attempt(fork_without_end),
        "set-uid program": "NoNewPrivs" if read_status("NoNewPrivs") == "1" else "done",
        "seccomp": "filter" if read_status("Seccomp") == "2" else "done",
        "devices": "usual" if set(os.listdir("/dev")) <= USUAL_DEVICES else "done",
        "engine socket": attempt(lambda: os.stat("/var/run/docker.sock") and None),
        "capabilities": read_status("CapEff"),
    }


def main() -> None:
    """Become the uid, try, write the result in one move, and stay."""
    target, uid, *addresses = sys.argv[1:]
    other = start_other(int(uid))
    if int(uid):
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    found = try_all(other)
    for address in addresses:
        found[address] = attempt(lambda address=address: connect(address))  # type: ignore[misc]
    Path(f"{target}.new").write_text(json.dumps(found))
    Path(f"{target}.new").rename(target)
    signal.pause()


if __name__ == "__main__":
    main()
