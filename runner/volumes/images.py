"""Sparse image files of fixed size, each a file system of its own, and the loop devices under them.

Invariants: an image carries its final name only when its file system is complete; images together
never promise more room than their disk has; only loop devices on our images are ever touched.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.durable import sync_directory
from runner.volumes import VolumeError
from runner.volumes.mounts import check_room, in_thread, read_mounts, run_checked

SUFFIX = ".img"
SCRATCH_SUFFIX = ".making"
SMALLEST_BYTES = 16 * 1024 * 1024
MKFS_DEADLINE_S = 120.0
BLOCK_BYTES = 4096
_LOOP_CLR_FD = 0x4C01
_SUPERBLOCK_AT = 1024
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop device on one of our images; `is_deleted`: the image has no name any more."""

    device: Path
    image: Path
    is_deleted: bool


class Images:
    """The images of one directory, on ext4 made with these mkfs features."""

    def __init__(self, directory: Path, features: Sequence[str]) -> None:
        self._directory = directory
        self._features = features

    @property
    def directory(self) -> Path:
        """Where the images are."""
        return self._directory

    def path(self, volume_id: str) -> Path:
        """The image of a volume."""
        return self._directory / f"{volume_id}{SUFFIX}"

    async def create(self, volume_id: str, size_bytes: int) -> None:
        """Make an image with its file system; one that is there already stays as it is."""
        image = self.path(volume_id)
        if image.exists():
            return
        if size_bytes < SMALLEST_BYTES:
            raise VolumeError(f"a volume is at least {SMALLEST_BYTES // 2**20} MiB")
        scratch = image.with_suffix(SCRATCH_SUFFIX)
        try:
            await in_thread(self._reserve, scratch, size_bytes)
            features = ["-O", ",".join(self._features)] if self._features else []
            # 4 KiB blocks whatever the size; many small files (a virtualenv) must find an inode.
            shape = ["-b", "4096", "-i", "8192", "-m", "0", "-E", "nodiscard,root_owner=0:0"]
            await run_checked(
                ["mkfs.ext4", "-q", "-F", *features, *shape, str(scratch)],
                deadline_s=MKFS_DEADLINE_S,
            )
            await in_thread(_publish, scratch, image)
        finally:
            scratch.unlink(missing_ok=True)

    async def grow(self, volume_id: str, size_bytes: int) -> None:
        """Make an image that is not mounted larger if it is smaller than this; never smaller."""
        image = self.path(volume_id)
        if await in_thread(_read_filesystem_bytes, image) >= size_bytes - BLOCK_BYTES:
            return
        await in_thread(self._extend, image, size_bytes)
        await run_checked(
            ["e2fsck", "-f", "-p", str(image)], deadline_s=MKFS_DEADLINE_S, codes=(0, 1)
        )
        await run_checked(["resize2fs", str(image)], deadline_s=MKFS_DEADLINE_S)

    def list_loops(self) -> list[Loop]:
        """Loop devices on images of this directory, deleted ones too."""
        loops = []
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                text = path.read_text().rstrip("\n")
                image = Path(text.removesuffix(_DELETED))
                if image.parent == self._directory:
                    device = Path("/dev") / path.parent.parent.name
                    loops.append(Loop(device, image, text.endswith(_DELETED)))
        return loops

    def find_loop(self, image: Path) -> Loop | None:
        """The loop device on this image, if any."""
        return next((loop for loop in self.list_loops() if loop.image == image), None)

    def find_image(self, device: str) -> Path | None:
        """The image under a mounted device (`MAJOR:MINOR`), None if it is not one of ours."""
        for loop in self.list_loops():
            with contextlib.suppress(OSError):
                number = loop.device.stat().st_rdev
                if f"{os.major(number)}:{os.minor(number)}" == device:
                    return loop.image
        return None

    def clean(self) -> list[str]:
        """Remove half-made images and detach loop devices that nothing mounts; say what is left."""
        for scratch in self._directory.glob(f"*{SCRATCH_SUFFIX}"):
            scratch.unlink(missing_ok=True)
        mounted = {row.source for row in read_mounts()}
        for loop in self.list_loops():
            if str(loop.device) not in mounted:
                with contextlib.suppress(OSError):
                    _detach(loop.device)
        return [
            f"{loop.device} still holds the deleted image {loop.image}"
            for loop in self.list_loops()
            if loop.is_deleted
        ]

    def _reserve(self, scratch: Path, size_bytes: int) -> None:
        scratch.unlink(missing_ok=True)
        check_room(self._directory, size_bytes, self._promised_bytes())
        opened = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(opened, size_bytes)
        finally:
            os.close(opened)

    def _extend(self, image: Path, size_bytes: int) -> None:
        more = size_bytes - image.stat().st_size
        if more > 0:
            check_room(self._directory, more, self._promised_bytes())
            os.truncate(image, size_bytes)

    def _promised_bytes(self) -> int:
        """What existing images may still grow by, each up to its fixed size."""
        total = 0
        for path in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                facts = path.stat()
                total += max(0, facts.st_size - facts.st_blocks * 512)
        return total


def _detach(device: Path) -> None:
    opened = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(opened, _LOOP_CLR_FD)
    finally:
        os.close(opened)


def _read_filesystem_bytes(image: Path) -> int:
    """The size of the ext4 file system in an image, from its superblock."""
    with image.open("rb") as file:
        file.seek(_SUPERBLOCK_AT)
        superblock = file.read(1024)
    low, log_block = struct.unpack_from("<I", superblock, 4)[0], superblock[24]
    high = struct.unpack_from("<I", superblock, 0x150)[0]
    return int((high << 32 | low) << (10 + log_block))


def _publish(scratch: Path, image: Path) -> None:
    opened = os.open(scratch, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
    scratch.rename(image)
    sync_directory(image.parent)


def require_root() -> None:
    """Raises `VolumeError` for an ordinary user, or without loop devices."""
    if os.geteuid() != 0:
        raise VolumeError("needs root")
    if not Path("/dev/loop-control").exists():
        raise VolumeError("there are no loop devices here (/dev/loop-control is missing)")
    for program in ("mkfs.ext4", "mount"):
        host.find_program(program)
