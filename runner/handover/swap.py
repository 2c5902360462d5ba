"""A directory whose files are replaced all at once: `..data` is a link that is renamed over.

Layout: `DIR/..<stamp>/NAME` are the files, `DIR/..data` links to `..<stamp>`, and `DIR/NAME` links
to `..data/NAME`, so that a reader of `..data/` sees one set, never half of two.

Invariants: files are 0400 and their directories 0500, of the reader's uid; a reader who owns `DIR`
cannot make us write or read outside it, for every step goes by descriptor and follows no link.
"""

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

CURRENT = "..data"
READ_LIMIT_BYTES = 4 * 1024 * 1024
_STAMP = re.compile(r"\.\.[0-9a-f]{16}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_all(directory: Path, files: Mapping[str, bytes], uid: int | None) -> None:
    """Replace every file of the directory, which is made if missing; its parent must be there.

    `uid` (and the gid of the same number) will own what is in it; None: we do.
    """
    if bad := [name for name in files if not _NAME.match(name)]:
        raise ValueError(f"not a file name: {bad[0]!r}")
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    with _open_directory(directory) as folder:
        stamp = f"..{secrets.token_hex(8)}"
        try:
            _write_stamp(folder, stamp, files, uid)
            _link(folder, stamp, CURRENT)
            for name in files:
                _link(folder, f"{CURRENT}/{name}", name)
        finally:
            _prune(folder, _read_current(folder), files)
        _give(folder, uid, 0o700 if uid is None else 0o500)


def read_one(directory: Path, name: str) -> bytes:
    """A file of the current set. Raises `FileNotFoundError`, or `OSError` for what is not ours."""
    with _open_directory(directory) as folder:
        stamp = _read_current(folder)
        if stamp is None or not _NAME.match(name):
            raise FileNotFoundError(str(directory / name))
        with _open_directory(stamp, folder) as current:
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            with os.fdopen(opened, "rb") as file:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise OSError(f"{directory / name} is not a file")
                return file.read(READ_LIMIT_BYTES)


@contextlib.contextmanager
def _open_directory(path: Path | str, parent: int | None = None) -> Iterator[int]:
    opened = os.open(path, _FLAGS, dir_fd=parent)
    try:
        yield opened
    finally:
        os.close(opened)


def _write_stamp(folder: int, stamp: str, files: Mapping[str, bytes], uid: int | None) -> None:
    os.mkdir(stamp, 0o700, dir_fd=folder)
    with _open_directory(stamp, folder) as current:
        if os.fstat(current).st_uid != os.geteuid():
            raise PermissionError(f"{stamp} was exchanged under our hands")
        for name, content in files.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            opened = os.open(name, flags, 0o400, dir_fd=current)
            with os.fdopen(opened, "wb") as file:
                file.write(content)
                file.flush()
                _give(opened, uid, 0o400)
        _give(current, uid, 0o500)


def _give(opened: int, uid: int | None, mode: int) -> None:
    os.fchmod(opened, mode)
    if uid is not None:
        os.fchown(opened, uid, uid)


def _link(folder: int, target: str, name: str) -> None:
    """A link of this name, swapped in whole."""
    with contextlib.suppress(FileNotFoundError, OSError):
        if os.readlink(name, dir_fd=folder) == target:
            return
    scratch = f"..new-{secrets.token_hex(8)}"
    os.symlink(target, scratch, dir_fd=folder)
    os.rename(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)


def _read_current(folder: int) -> str | None:
    with contextlib.suppress(OSError):
        target = os.readlink(CURRENT, dir_fd=folder)
        if _STAMP.match(target):
            return target
    return None


def _prune(folder: int, current: str | None, files: Mapping[str, bytes]) -> None:
    """Remove what belongs to no current file: older sets, scratch links, links to lost names."""
    for name in os.listdir(folder):
        if name in (current, CURRENT) or name in files:
            continue
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            _open_up(folder, name)
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _open_up(folder: int, name: str) -> None:
    """An ordinary user cannot empty a directory of 0500."""
    if os.geteuid() != 0:
        with _open_directory(name, folder) as opened:
            os.fchmod(opened, 0o700)
