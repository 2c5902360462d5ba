"""Volumes that are directories under one root, reached through a symbolic link.

Invariants: the link's target is a directory of ours directly under the root, named by volume and
key; nothing here encrypts. These calls block.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from runner.volumes import KEY_SIZE_BYTES, OpenVolume, VolumeError

PLACE_SUFFIX = ".place"


def build_digest(key: bytes) -> str:
    """Sixteen digits that tell keys apart and say nothing of them."""
    if len(key) != KEY_SIZE_BYTES:
        raise VolumeError(f"a volume's key is {KEY_SIZE_BYTES} bytes")
    return hashlib.sha256(b"lockgate volume key digest" + key).hexdigest()[:16]


def open_linked(root: Path, volume_id: str, key: bytes, mountpoint: Path) -> Path:
    """Make the directory if there is none and link to it; a foreign thing in the way raises."""
    name = f"{volume_id}-{build_digest(key)}"
    for other in root.glob(f"{volume_id}-*"):
        if other.is_dir() and other.name != name:
            raise VolumeError(f"{other}: made under another key")
    where = root / name
    where.mkdir(mode=0o711, exist_ok=True)
    where.chmod(0o711)
    (root / f"{name}{PLACE_SUFFIX}").write_text(str(mountpoint))
    if mountpoint.is_symlink() and mountpoint.readlink() == where:
        return where
    if mountpoint.exists():
        raise VolumeError(f"{mountpoint}: something else is there: {os.path.realpath(mountpoint)}")
    mountpoint.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    mountpoint.unlink(missing_ok=True)
    mountpoint.symlink_to(where)
    return where


def prove_linked(root: Path, mountpoint: Path, key: bytes) -> Path:
    """The directory behind the link; raises unless it is ours, whole and named by this key."""
    if not mountpoint.is_symlink():
        raise VolumeError(f"{mountpoint}: no volume is open there")
    where = mountpoint.readlink()
    if where.parent != root or where.is_symlink() or not where.is_dir():
        raise VolumeError(f"{mountpoint}: does not lead to a volume of ours")
    if not where.name.endswith(f"-{build_digest(key)}"):
        raise VolumeError(f"{where}: made under another key")
    facts = where.stat()
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise VolumeError(f"{where}: others may write there")
    if facts.st_dev != root.stat().st_dev:
        raise VolumeError(f"{where}: something else is mounted over it")
    return where


def close_linked(root: Path, mountpoint: Path) -> Path | None:
    """Remove the link; return the directory it led to. Nothing there is no error."""
    if not mountpoint.is_symlink():
        if mountpoint.exists():
            raise VolumeError(f"{mountpoint}: what is there is not one of our volumes")
        return None
    where = mountpoint.readlink()
    if where.parent != root:
        raise VolumeError(f"{mountpoint}: what is there is not one of our volumes")
    mountpoint.unlink()
    return where


def delete_linked(root: Path, volume_id: str) -> None:
    """Delete the volume's directory and its record; not there is no error."""
    for path in root.glob(f"{volume_id}-*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def list_linked(root: Path) -> list[OpenVolume]:
    """Volumes whose link is in place."""
    found = []
    for record in sorted(root.glob(f"*{PLACE_SUFFIX}")):
        with contextlib.suppress(OSError):
            mountpoint = Path(record.read_text())
            name = record.name.removesuffix(PLACE_SUFFIX)
            if mountpoint.is_symlink() and mountpoint.readlink() == root / name:
                found.append(OpenVolume(name.rpartition("-")[0], mountpoint))
    return found
