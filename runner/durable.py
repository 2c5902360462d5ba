"""Files that hold either their old or their new content, whatever interrupts the writing.

Invariants: a file is private (0600) from its first byte; a rename is on disk before `save_file`
returns; what a file held before is overwritten, not merely unlinked, when `shred` asks for it.
These calls block: use them from a thread where an event loop runs.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def make_private_directory(path: Path) -> None:
    """Make a directory 0700 (and its parents); an existing one is tightened to 0700."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def save_file(path: Path, content: bytes, *, shred: bool = False) -> None:
    """Replace a file atomically and durably; with `shred` overwrite the blocks of the old one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = _open_existing(path) if shred else None
    try:
        _write_new(scratch, content)
        scratch.rename(path)
        sync_directory(path.parent)
        if replaced is not None:
            _overwrite(replaced)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    finally:
        if replaced is not None:
            os.close(replaced)


def shred_file(path: Path) -> bool:
    """Overwrite, sync and unlink; False if it was not there. Flash and backups may keep copies."""
    opened = _open_existing(path)
    if opened is None:
        return False
    try:
        _overwrite(opened)
    finally:
        os.close(opened)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


@contextlib.contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Hold the directory's lock against other threads and processes."""
    opened = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def sync_directory(directory: Path) -> None:
    """Make renames and removals in the directory durable."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _open_existing(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _write_new(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(opened, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _overwrite(opened: int) -> None:
    size = os.fstat(opened).st_size
    os.pwrite(opened, os.urandom(size), 0)
    os.fsync(opened)
