"""What one `lockgate up` claims for itself: the lock, its directories, and what a crash left there.

**Invariants**: two never share a run directory; a directory that somebody else prepared or may
write to is refused, not repaired; the lock lives and dies with the process that holds it.
"""

import fcntl
import os
import stat
from pathlib import Path

from runner.config import LockgateConfig
from runner.errors import StartError

LOCK_NAME = "up.lock"
LOGS_NAME = "logs"


class Lock:
    """An exclusive flock on a file that says who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def __repr__(self) -> str:
        return f"<Lock {self._path}>"

    def acquire(self) -> None:
        """Take it and write our pid; raises `StartError` naming the holder."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._file, 16, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise StartError(
                f"lockgate up is running already (pid {pid or 'unknown'}) in {self._path.parent}: "
                "stop it, or give this one another run_dir and state_dir"
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go; the file stays, empty."""
        os.ftruncate(self._file, 0)
        os.close(self._file)


def prepare_dirs(config: LockgateConfig) -> None:
    """Make the state and run directories with the owners and modes that processes rely on.

    As root others may pass through (0711, 0755) to the files that are theirs; as an ordinary user
    nobody else may enter. Raises `StartError`.
    """
    is_root = os.geteuid() == 0
    prepare_dir(config.state_dir, 0o711 if is_root else 0o700)
    prepare_dir(config.run_dir, 0o755 if is_root else 0o700)
    prepare_dir(config.run_dir / LOGS_NAME, 0o700)


def prepare_dir(path: Path, mode: int) -> None:
    """One directory that is ours and that only we can write to; raises `StartError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            path.mkdir(mode=0o700)
            path.chmod(mode)
        found = path.lstat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"{path} cannot be made ({reason}): set another directory") from None
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"{path} is not a directory: move it away or set another")
    if found.st_uid != os.geteuid():
        raise StartError(
            f"{path} belongs to uid {found.st_uid}, not to us (uid {os.geteuid()}): "
            "run as that user or set another directory"
        )
    if found.st_mode & 0o022:
        raise StartError(f"{path} can be written by others: chmod go-w {path}")
