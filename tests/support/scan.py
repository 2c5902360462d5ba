"""A raw search of files, images and deleted files for canaries.

Theory: every canary of a run begins with the same random prefix, so one pass over the bytes finds
all of them; the prefix is searched for as it is and in the three alignments of base64.

Invariants: reads only; holes of sparse files are skipped, nothing else is; a place that cannot be
read is an error, unless it vanished meanwhile.
"""

import base64
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CHUNK_BYTES = 4 << 20
SHOWN_BYTES = 120
RAM_FILESYSTEMS = {"tmpfs", "ramfs", "devtmpfs", "hugetlbfs", "mqueue"}
LOOP_MAJOR = 7


@dataclass(frozen=True, slots=True)
class Canaries:
    """Strings that exist nowhere else in the world."""

    prefix: str = field(default_factory=lambda: "canary" + secrets.token_hex(12))

    def plant(self, name: str) -> str:
        """The canary for one place."""
        return f"{self.prefix}-{name}-end"

    def build_needles(self) -> tuple[bytes, ...]:
        """The prefix as bytes and as the part of its base64 that neighbours cannot change."""
        raw = self.prefix.encode()
        encoded = (base64.b64encode(b"\0" * shift + raw) for shift in range(3))
        inner = (text[4:-4] for text in encoded)
        return (raw, *inner)


@dataclass(frozen=True, slots=True)
class Hit:
    """A canary in the clear: where, at which byte, and what stands there."""

    path: str
    offset: int
    text: str


def scan_tree(roots: Iterable[Path], canaries: Canaries) -> list[Hit]:
    """Every hit in the regular files below `roots`; mounts below them are not entered."""
    needles = canaries.build_needles()
    return [hit for root in roots for path in walk_files(root) for hit in scan_file(path, needles)]


def walk_files(root: Path) -> Iterator[Path]:
    """Regular files on the same filesystem; links are not followed."""
    if root.is_file():
        yield root
        return
    device = root.lstat().st_dev
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if is_on_device(Path(folder, name), device)]
        for name in names:
            path = Path(folder, name)
            if is_regular(path):
                yield path


def is_on_device(path: Path, device: int) -> bool:
    """Whether a directory is no mount point and still there."""
    try:
        return path.lstat().st_dev == device
    except FileNotFoundError:
        return False


def is_regular(path: Path) -> bool:
    """Whether it is a plain file and still there."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def scan_file(path: Path, needles: tuple[bytes, ...]) -> Iterator[Hit]:
    """Hits in one file or device; a file that vanished has none."""
    try:
        with path.open("rb", buffering=0) as file:
            for start, end in list_extents(file.fileno()):
                yield from scan_extent(path, file.fileno(), start, end, needles)
    except (FileNotFoundError, ProcessLookupError):
        return


def list_extents(fd: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts that are no holes."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def scan_extent(
    path: Path, fd: int, start: int, end: int, needles: tuple[bytes, ...]
) -> Iterator[Hit]:
    """Hits between two offsets; chunks overlap so that none hides on a border."""
    overlap = max(map(len, needles)) - 1
    offset = start
    while offset < end:
        chunk = os.pread(fd, min(CHUNK_BYTES, end - offset), offset)
        if not chunk:
            return
        for at in find_all(chunk, needles):
            yield Hit(str(path), offset + at, chunk[at : at + SHOWN_BYTES].decode("latin-1"))
        offset += max(len(chunk) - overlap, 1) if offset + len(chunk) < end else len(chunk)


def find_all(chunk: bytes, needles: tuple[bytes, ...]) -> Iterator[int]:
    """Where a needle begins, the first time that each different text stands there."""
    seen = set()
    for needle in needles:
        at = chunk.find(needle)
        while at >= 0:
            text = chunk[at : at + SHOWN_BYTES]
            if text not in seen:
                seen.add(text)
                yield at
            at = chunk.find(needle, at + len(needle))


def scan_deleted_files(canaries: Canaries) -> list[Hit]:
    """Hits in files that are deleted but still open in any process, except in RAM.

    Deleted files on a loop device are left out: what is seen through the mount is decrypted, and
    the image below it is scanned raw.
    """
    needles = canaries.build_needles()
    return [hit for path in list_deleted_files() for hit in scan_file(path, needles)]


def list_deleted_files() -> Iterator[Path]:
    """`/proc/PID/fd/N` of every deleted regular file on a disk."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            in_ram = list_ram_devices(process)
            for fd in (process / "fd").iterdir():
                if is_deleted_on_disk(fd, in_ram):
                    yield fd
        except OSError:  # it ended meanwhile, or it is a zombie or a thread of the kernel
            continue


def is_deleted_on_disk(fd: Path, in_ram: set[int]) -> bool:
    """Whether an open file has no name any more and lies on a disk."""
    try:
        name = os.readlink(fd)
        found = fd.stat()
    except (FileNotFoundError, ProcessLookupError):
        return False
    is_deleted = name.endswith(" (deleted)") and stat.S_ISREG(found.st_mode)
    is_memory = name.startswith(("/memfd:", "/dev/shm/", "/dev/zero")) or found.st_dev in in_ram
    return is_deleted and not is_memory and os.major(found.st_dev) != LOOP_MAJOR


def list_ram_devices(process: Path) -> set[int]:
    """Device numbers of the RAM filesystems that a process sees mounted."""
    devices = set()
    for line in (process / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in RAM_FILESYSTEMS:
            major, _, minor = before.split()[2].partition(":")
            devices.add(os.makedev(int(major), int(minor)))
    return devices
