"""The marker that tells whether a driver really encrypts: left inside, looked for outside.

Invariants: the marker goes in as contents and as a name; a search that would miss it in the clear
is caught by searching for something that must be found.
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from runner.volumes import VolumeError

COPIES = 4096


def leave_marker(directory: Path, marker: bytes) -> None:
    """Write the marker many times into a file that is named by it, and read it back."""
    path = directory / marker.decode()
    with path.open("wb") as file:
        file.write(marker * COPIES)
        file.flush()
        os.fsync(file.fileno())
    if not path.read_bytes().startswith(marker):
        raise VolumeError(f"{directory}: what was written does not read back")


def require_no_marker(files: Sequence[Path], marker: bytes) -> None:
    """Raises `VolumeError` if the marker is in one of the files, or in one of their names."""
    for path in files:
        if marker.decode() in path.name or find_in_file(path, marker):
            raise VolumeError("what was written is on the disk in the clear")


def find_in_file(path: Path, wanted: bytes) -> bool:
    """Whether a file holds these bytes; reads from the disk through the page cache."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return view.find(wanted) >= 0
