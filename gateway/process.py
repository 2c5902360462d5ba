"""What the gateway's process does to itself and asks of the kernel before it meets strangers.

Invariants: sockets are bound first, privileges are dropped next, and only then is a byte of a
peer read; nothing of root is left afterwards; a control socket that somebody serves is not taken.
"""

import contextlib
import ctypes
import os
import resource
import socket
import stat
from pathlib import Path

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
_BACKLOG = 128


class StartError(Exception):
    """The gateway cannot start here; the text is one line for an operator."""


def harden() -> None:
    """No core file, no setuid programs, as many descriptors as are allowed; raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_privileges(uid: int) -> None:
    """Become `uid` (and the group of that number) for good, if this is root; raises OSError."""
    if os.geteuid() == 0 and uid != 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    harden()  # the kernel resets the dumpable flag when credentials change: proc(5)


def open_control_socket(path: Path) -> socket.socket:
    """A listening socket at `path`, in place of one that nobody serves.

    Made before privileges are dropped: its directory belongs to root. Who may ask is decided by
    the peer's uid, so the mode lets every uid connect. Raises StartError, OSError.
    """
    _check_directory(path.parent)
    with socket.socket(socket.AF_UNIX) as trial:
        trial.settimeout(1)
        try:
            trial.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise StartError(f"another gateway answers on {path}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(str(path))
        path.chmod(0o666)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def remove_socket(path: Path) -> None:
    """Remove a control socket if we may; the next start replaces what is left."""
    with contextlib.suppress(PermissionError):
        path.unlink(missing_ok=True)


def _check_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {0, os.geteuid()}:
        raise StartError(f"{path} is not a directory of root or of uid {os.geteuid()}")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise StartError(f"{path} can be written to by others")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
