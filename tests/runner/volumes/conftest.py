"""Folders for volumes that are unmounted, detached and freed of flags whatever a test did."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.volumes import VolumeDriver
from runner.volumes.fscrypt import FscryptDriver
from runner.volumes.gocryptfs import GocryptfsDriver
from runner.volumes.mounts import read_mounts, set_immutable
from runner.volumes.plain import PlainDriver
from runner.volumes.tmpfs import SharedTmpfsDriver, TmpfsDriver, build_tag

KEY = bytes(range(64))
OTHER_KEY = bytes(range(1, 65))
SIZE = 64 * 1024 * 1024

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
needs_gocryptfs = pytest.mark.skipif(
    shutil.which("gocryptfs") is None or not os.access("/dev/fuse", os.W_OK),
    reason="gocryptfs or /dev/fuse is missing",
)


def _detach(device: Path) -> None:
    opened = os.open(device, os.O_RDWR)
    try:
        fcntl.ioctl(opened, 0x4C01)
    except OSError:
        pass
    finally:
        os.close(opened)


def _clear(root: Path) -> None:
    for row in reversed(read_mounts()):
        if row.mountpoint.is_relative_to(root):
            subprocess.run(["umount", "-l", str(row.mountpoint)], check=False)
    for record in Path("/sys/block").glob("loop*/loop/backing_file"):
        if str(root) in record.read_text():
            _detach(Path("/dev") / record.parent.parent.name)
    for folder, names, _ in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink() and path.stat().st_mode & 0o777 == 0:
                set_immutable(path, False)
    shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True)
class Box:
    """A place for one test's installation."""

    root: Path
    new: Callable[[], VolumeDriver]

    @property
    def volumes(self) -> Path:
        """Where the driver keeps things."""
        return self.root / "volumes"

    def mountpoint(self, name: str = "hello") -> Path:
        """Where an app's volume is opened."""
        return self.root / "run" / name


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, cleared of mounts and loop devices afterwards."""
    root = Path(tempfile.mkdtemp(prefix="lockgate-test-"))
    try:
        yield root
    finally:
        _clear(root)
        for shared in Path("/dev/shm").glob(f"*-{build_tag(root / 'volumes')}"):
            shutil.rmtree(shared)


KINDS: dict[str, Callable[[Path], VolumeDriver]] = {
    "fscrypt": FscryptDriver,
    "gocryptfs": GocryptfsDriver,
    "tmpfs": TmpfsDriver,
    "shared-tmpfs": SharedTmpfsDriver,
    "none": PlainDriver,
}


@pytest.fixture(
    params=[
        pytest.param("fscrypt", marks=[pytest.mark.root, needs_root]),
        pytest.param("gocryptfs", marks=[needs_gocryptfs]),
        pytest.param("tmpfs", marks=[pytest.mark.root, needs_root]),
        "shared-tmpfs",
        "none",
    ]
)
def box(request: pytest.FixtureRequest, place: Path) -> Box:
    """A box for every driver in turn."""
    return Box(place, lambda: KINDS[request.param](place / "volumes"))
