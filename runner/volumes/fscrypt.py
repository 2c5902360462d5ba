"""Volumes as a fixed-size ext4 image whose one directory the kernel encrypts (fscrypt, version 2).

Invariants: the image is mounted nosuid,nodev; everything of the app is under the encrypted
directory; closed means that the kernel says the key is absent, the mount is gone and the loop
device is detached. Names, contents and links are encrypted; sizes, times and counts are not.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from runner.durable import make_private_directory
from runner.volumes import KEY_SIZE_BYTES, OpenVolume, VolumeError, kernel
from runner.volumes.images import SMALLEST_BYTES, SUFFIX, Images, require_root
from runner.volumes.mounts import (
    POLL_S,
    describe_holders,
    find_mount,
    in_thread,
    is_own_device,
    make_mountpoint,
    read_mounts,
    remove_mountpoint,
    run_checked,
    unmount,
)
from runner.volumes.places import delete_places, refuse_foreign
from runner.volumes.probe import leave_marker, require_no_marker

DIRECTORY = "volume"
LOCK_PATIENCE_S = 10.0
MOUNT_OPTIONS = "loop,nosuid,nodev,noatime,discard,errors=remount-ro"
REQUIRED_OPTIONS = frozenset({"nosuid", "nodev"})
PROBE_PREFIX = "probe-"


class FscryptDriver:
    """The driver; `directory` holds the images and must be on a local disk."""

    name = "fscrypt"
    is_encrypted = True

    def __init__(self, directory: Path) -> None:
        make_private_directory(directory)
        self._images = Images(directory.resolve(), ("encrypt",))
        self._making = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<FscryptDriver {self._images.directory}>"

    @property
    def notes(self) -> Sequence[str]:
        """Nothing is given up."""
        return ()

    async def probe(self) -> None:
        """Open a throw-away volume, write a marker, lock it, look for the marker in the image."""
        require_root()
        volume_id = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
        mountpoint = self._images.directory / f"{volume_id}.mount"
        marker = secrets.token_hex(16).encode()
        try:
            key = secrets.token_bytes(KEY_SIZE_BYTES)
            where = await self.open(volume_id, key, 2 * SMALLEST_BYTES, mountpoint)
            await in_thread(leave_marker, where, marker)
            await self.close(mountpoint)
            await in_thread(require_no_marker, [self._images.path(volume_id)], marker)
        finally:
            await self.destroy(volume_id, mountpoint)

    async def open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        """See the port."""
        was_open = await in_thread(find_mount, mountpoint) is not None
        try:
            if not was_open:
                await self._mount(volume_id, size_bytes, mountpoint)
            await in_thread(self._require_image, volume_id, mountpoint)
            await in_thread(_unlock, mountpoint, key)
            return await self.prove(mountpoint, key)
        except BaseException:
            if not was_open:
                await asyncio.shield(self._abandon(mountpoint))
            raise

    async def prove(self, mountpoint: Path, key: bytes) -> Path:
        """See the port."""
        return await in_thread(self._prove, mountpoint, key)

    async def close(self, mountpoint: Path) -> None:
        """See the port."""
        row = await in_thread(find_mount, mountpoint)
        if row is None:
            return
        image = await in_thread(self._images.find_image, row.device)
        if image is None:
            raise VolumeError(f"{mountpoint}: what is mounted there is not one of our volumes")
        stuck = await self._lock(mountpoint, row.device)
        await unmount(mountpoint)
        await self._require_detached(image, row.device)
        if stuck:
            raise VolumeError(stuck)

    async def destroy(self, volume_id: str, mountpoint: Path) -> None:
        """See the port."""
        try:
            await self.close(mountpoint)
        finally:
            await in_thread(delete_places, self._images.directory, volume_id)
        await in_thread(remove_mountpoint, mountpoint)

    async def list_open(self) -> Sequence[OpenVolume]:
        """See the port."""
        return await in_thread(self._list_open)

    async def clean(self) -> Sequence[str]:
        """See the port."""
        for volume in await self.list_open():
            if volume.volume_id.startswith(PROBE_PREFIX):
                await self.destroy(volume.volume_id, volume.mountpoint)
        async with self._making:
            return await in_thread(self._images.clean)

    async def _mount(self, volume_id: str, size_bytes: int, mountpoint: Path) -> None:
        await in_thread(refuse_foreign, self._images.directory, volume_id, self.name)
        async with self._making:
            await self._images.create(volume_id, size_bytes)
            await self._images.grow(volume_id, size_bytes)
        await in_thread(make_mountpoint, mountpoint)
        image = str(self._images.path(volume_id))
        await run_checked(["mount", "-t", "ext4", "-o", MOUNT_OPTIONS, image, str(mountpoint)])

    async def _abandon(self, mountpoint: Path) -> None:
        """Close after a failure, whose own error is the one to tell."""
        with contextlib.suppress(VolumeError):
            await self.close(mountpoint)

    async def _lock(self, mountpoint: Path, device: str) -> str:
        """Remove the key until the kernel says it is absent; empty, or what is in the way."""
        give_up = asyncio.get_running_loop().time() + LOCK_PATIENCE_S
        while await in_thread(_remove_key, mountpoint) is not kernel.KeyStatus.absent:
            if asyncio.get_running_loop().time() > give_up:
                holders = await in_thread(describe_holders, device)
                return f"{mountpoint}: files are still in use and stay readable there{holders}"
            await asyncio.sleep(POLL_S)
        return ""

    async def _require_detached(self, image: Path, device: str) -> None:
        give_up = asyncio.get_running_loop().time() + LOCK_PATIENCE_S
        while (loop := await in_thread(self._images.find_loop, image)) is not None:
            if asyncio.get_running_loop().time() > give_up:
                holders = await in_thread(describe_holders, device)
                raise VolumeError(f"{image}: {loop.device} is still attached{holders}")
            await asyncio.sleep(POLL_S)

    def _require_image(self, volume_id: str, mountpoint: Path) -> None:
        row = find_mount(mountpoint)
        image = None if row is None else self._images.find_image(row.device)
        if image != self._images.path(volume_id):
            raise VolumeError(f"{mountpoint}: another volume is mounted there: {image or row}")

    def _prove(self, mountpoint: Path, key: bytes) -> Path:
        row = find_mount(mountpoint)
        if row is None or not is_own_device(mountpoint):
            raise VolumeError(f"{mountpoint}: nothing is mounted there")
        if row.kind != "ext4" or self._images.find_image(row.device) is None:
            raise VolumeError(f"{mountpoint}: what is mounted there is not one of our volumes")
        if not row.options >= REQUIRED_OPTIONS:
            raise VolumeError(f"{mountpoint}: not mounted nosuid,nodev")
        where = mountpoint / DIRECTORY
        if where.stat().st_dev != mountpoint.stat().st_dev:
            raise VolumeError(f"{where}: something else is mounted over it")
        identifier = kernel.derive_identifier(key)
        found = kernel.read_policy(where)
        if found is None:
            raise VolumeError(f"{where}: not encrypted")
        if found != identifier:
            raise VolumeError(f"{where}: encrypted under another key")
        if kernel.read_key_status(where, identifier) is not kernel.KeyStatus.present:
            raise VolumeError(f"{where}: locked")
        return where

    def _list_open(self) -> list[OpenVolume]:
        found = []
        for row in read_mounts():
            is_whole = row.kind == "ext4" and row.root == "/"
            image = self._images.find_image(row.device) if is_whole else None
            if image is not None:
                found.append(OpenVolume(image.name.removesuffix(SUFFIX), row.mountpoint))
        return found


def _unlock(mountpoint: Path, key: bytes) -> None:
    """Add the key; make the encrypted directory if the image is new."""
    if len(key) != KEY_SIZE_BYTES:
        raise VolumeError(f"a volume's key is {KEY_SIZE_BYTES} bytes")
    where = mountpoint / DIRECTORY
    identifier = kernel.derive_identifier(key)
    if where.exists() and kernel.read_policy(where) not in (None, identifier):
        raise VolumeError(f"{where}: encrypted under another key")
    if kernel.add_key(mountpoint, key) != identifier:
        raise VolumeError("the kernel derives another identifier from the key than we do")
    if not where.exists():
        _make_encrypted(where, identifier)


def _make_encrypted(where: Path, identifier: bytes) -> None:
    """Made under another name first: a directory of the final name is always encrypted."""
    scratch = where.with_name(f".{where.name}.making")
    with contextlib.suppress(FileNotFoundError):
        scratch.rmdir()
    scratch.mkdir(mode=0o700)
    kernel.set_policy(scratch, identifier)
    scratch.chmod(0o711)
    where.parent.chmod(0o711)
    scratch.rename(where)
    opened = os.open(where.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove_key(mountpoint: Path) -> kernel.KeyStatus:
    where = mountpoint / DIRECTORY
    identifier = kernel.read_policy(where) if where.exists() else None
    if identifier is None:
        return kernel.KeyStatus.absent
    return kernel.remove_key(mountpoint, identifier)
