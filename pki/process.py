"""What the PKI's process does to itself: no core dumps, no more privileges than it needs.

Invariants: after `drop_privileges` nothing of root is left; a directory that others could have
prepared or can write to is refused, not repaired.
"""

import ctypes
import os
import resource
import stat
from pathlib import Path

from pki.errors import KeystoreError
from pki.keystore import load_master_key
from pki.sealing import KEY_BYTES, derive_key

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS = 38
PURPOSE = "pki"


def harden() -> None:
    """No core file, no ptrace by the same uid, no setuid programs; raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_privileges(uid: int) -> None:
    """Become `uid` (and the group of that number) for good, if this is root; raises OSError."""
    if os.geteuid() == 0 and uid != 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    harden()  # the kernel resets the dumpable flag when credentials change: proc(5)


def read_seal_key(descriptor: int | None, master_key_path: Path) -> bytes:
    """32 bytes from the inherited descriptor, else derived from the key file.

    Raises `KeystoreError`. The descriptor is closed.
    """
    if descriptor is None:
        try:
            return derive_key(load_master_key(master_key_path), PURPOSE)
        except KeystoreError as error:
            raise KeystoreError(
                f"there is no key to unseal with: no --seal-fd is given, and {error}"
            ) from None
    try:
        with os.fdopen(descriptor, "rb") as stream:
            key = stream.read(KEY_BYTES + 1)
    except OSError as error:
        raise KeystoreError(f"--seal-fd {descriptor} cannot be read: {error.strerror}") from None
    if len(key) != KEY_BYTES:
        raise KeystoreError(f"--seal-fd {descriptor} must bring exactly {KEY_BYTES} bytes")
    return key


def prepare_store(path: Path, uid: int) -> None:
    """A directory that only `uid` can enter, made if missing; raises `KeystoreError`, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    if not os.path.lexists(path):
        path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(path, uid, uid, follow_symlinks=False)
    _check_directory(path, {uid}, forbidden=0o077)


def prepare_run_dir(path: Path) -> None:
    """A directory in which only root or we can make sockets, made if missing; raises likewise."""
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    _check_directory(path, {0, os.geteuid()}, forbidden=0o022)


def _check_directory(path: Path, uids: set[int], forbidden: int) -> None:
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        raise KeystoreError(f"{path} is not a directory")
    if status.st_uid not in uids:
        owners = " or ".join(str(uid) for uid in sorted(uids))
        raise KeystoreError(f"{path} belongs to uid {status.st_uid}, not to {owners}")
    if mode & forbidden:
        raise KeystoreError(f"{path} has mode {mode:04o}: others may do too much in it")


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
