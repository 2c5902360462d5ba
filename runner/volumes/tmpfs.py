"""Volumes in RAM: nothing reaches a disk, and nothing outlives a stop.

Invariants: as root each volume is a tmpfs of its own with a hard size, named in the mount table by
installation, volume and key; for a user it is a directory in a tmpfs of the host. Closing deletes.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from runner.durable import make_private_directory
from runner.ram import (
    SWAP_NOTE,
    check_memory,
    has_swap,
    list_shared_places,
    mount_tmpfs,
    prepare_shared,
)
from runner.volumes import KEY_SIZE_BYTES, OpenVolume, VolumeError
from runner.volumes.linked import (
    PLACE_SUFFIX,
    build_digest,
    close_linked,
    delete_linked,
    list_linked,
    open_linked,
    prove_linked,
)
from runner.volumes.mounts import (
    find_mount,
    in_thread,
    is_own_device,
    make_mountpoint,
    read_mounts,
    remove_mountpoint,
    unmount,
)
from runner.volumes.places import delete_places, refuse_foreign

LOST_NOTE = "volumes are in RAM and are lost when an app or the host stops; code is fetched again"
PROBE_PREFIX = "probe-"
PROBE_BYTES = 1024 * 1024


class TmpfsDriver:
    """The driver for root: `directory` tells this installation's volumes from another's."""

    name = "tmpfs"
    is_encrypted = True

    def __init__(self, directory: Path) -> None:
        self._prefix = f"lockgate-{build_tag(directory)}-"
        make_private_directory(directory)
        self._scratch = directory
        self._is_noswap = True

    def __repr__(self) -> str:
        return f"<TmpfsDriver {self._prefix}>"

    @property
    def notes(self) -> Sequence[str]:
        """That it does not last, and whether it may be swapped."""
        return (LOST_NOTE, *(() if self._is_noswap or not has_swap() else (SWAP_NOTE,)))

    async def probe(self) -> None:
        """Mount a small one, use it, unmount it."""
        if os.geteuid() != 0:
            raise VolumeError("needs root")
        await _try_out(self, self._scratch)

    async def open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        """See the port; what was in it before its last close is gone."""
        was_open = await in_thread(find_mount, mountpoint) is not None
        try:
            if not was_open:
                await in_thread(refuse_foreign, self._scratch, volume_id, self.name)
                await in_thread(check_memory, size_bytes)
                await in_thread(make_mountpoint, mountpoint)
                source = f"{self._prefix}{volume_id}-{build_digest(key)}"
                mounted = await mount_tmpfs(mountpoint, source, size_bytes, 0o711)
                self._is_noswap = mounted.is_noswap
            await in_thread(self._require_volume, volume_id, mountpoint)
            return await self.prove(mountpoint, key)
        except BaseException:
            if not was_open:
                await asyncio.shield(self._abandon(mountpoint))
            raise

    async def prove(self, mountpoint: Path, key: bytes) -> Path:
        """See the port."""
        return await in_thread(self._prove, mountpoint, key)

    async def close(self, mountpoint: Path) -> None:
        """See the port; deletes what is in it."""
        row = await in_thread(find_mount, mountpoint)
        if row is None:
            return
        if not row.source.startswith(self._prefix):
            raise VolumeError(f"{mountpoint}: what is mounted there is not one of our volumes")
        await unmount(mountpoint)

    async def destroy(self, volume_id: str, mountpoint: Path) -> None:
        """See the port."""
        await self.close(mountpoint)
        await in_thread(delete_places, self._scratch, volume_id)
        await in_thread(remove_mountpoint, mountpoint)

    async def list_open(self) -> Sequence[OpenVolume]:
        """See the port."""
        return await in_thread(self._list_open)

    async def clean(self) -> Sequence[str]:
        """Unmount what a killed probe left."""
        for volume in await self.list_open():
            if volume.volume_id.startswith(PROBE_PREFIX):
                await self.destroy(volume.volume_id, volume.mountpoint)
        return ()

    async def _abandon(self, mountpoint: Path) -> None:
        with contextlib.suppress(VolumeError):
            await self.close(mountpoint)

    def _require_volume(self, volume_id: str, mountpoint: Path) -> None:
        row = find_mount(mountpoint)
        if row is None or not row.source.startswith(f"{self._prefix}{volume_id}-"):
            raise VolumeError(f"{mountpoint}: another volume is mounted there")

    def _prove(self, mountpoint: Path, key: bytes) -> Path:
        row = find_mount(mountpoint)
        if row is None or not is_own_device(mountpoint):
            raise VolumeError(f"{mountpoint}: nothing is mounted there")
        if row.kind != "tmpfs" or not row.source.startswith(self._prefix):
            raise VolumeError(f"{mountpoint}: what is mounted there is not one of our volumes")
        if not row.source.endswith(f"-{build_digest(key)}"):
            raise VolumeError(f"{mountpoint}: made under another key")
        if not row.options >= {"nosuid", "nodev"}:
            raise VolumeError(f"{mountpoint}: not mounted nosuid,nodev")
        return mountpoint

    def _list_open(self) -> list[OpenVolume]:
        found = []
        for row in read_mounts():
            if row.kind == "tmpfs" and row.root == "/" and row.source.startswith(self._prefix):
                name = row.source.removeprefix(self._prefix).rpartition("-")[0]
                found.append(OpenVolume(name, row.mountpoint))
        return found


class SharedTmpfsDriver:
    """The driver for an ordinary user: directories in a tmpfs that the host has anyway."""

    name = "tmpfs"
    is_encrypted = True

    def __init__(self, directory: Path, places: Sequence[Path] | None = None) -> None:
        make_private_directory(directory)
        self._scratch = directory
        self._name = f"lockgate-{os.geteuid()}-{build_tag(directory)}"
        self._places = list_shared_places(os.environ) if places is None else places
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<SharedTmpfsDriver {self._name}>"

    @property
    def notes(self) -> Sequence[str]:
        """That it does not last, is not limited, and whether it may be swapped."""
        limits = "the size of a volume is not enforced"
        return (LOST_NOTE, limits, *((SWAP_NOTE,) if has_swap() else ()))

    async def probe(self) -> None:
        """Use a small one."""
        await _try_out(self, self._scratch)

    async def open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        """See the port; what was in it before its last close is gone."""
        async with self._changing:
            root = await in_thread(self._find_root, mountpoint)
            was_open = root is not None
            try:
                if root is None:
                    await in_thread(refuse_foreign, self._scratch, volume_id, self.name)
                    root = await prepare_shared(
                        self._places, self._name, size_bytes, runs_programs=True
                    )
                await in_thread(open_linked, root, volume_id, key, mountpoint)
                return await in_thread(prove_linked, root, mountpoint, key)
            except (VolumeError, asyncio.CancelledError):
                if not was_open:
                    with contextlib.suppress(VolumeError):
                        self._close(mountpoint)
                    self._tidy()
                raise

    async def prove(self, mountpoint: Path, key: bytes) -> Path:
        """See the port."""
        root = await in_thread(self._find_root, mountpoint)
        if root is None:
            raise VolumeError(f"{mountpoint}: no volume is open there")
        return await in_thread(prove_linked, root, mountpoint, key)

    async def close(self, mountpoint: Path) -> None:
        """See the port; deletes what is in it."""
        async with self._changing:
            await in_thread(self._close, mountpoint)

    async def destroy(self, volume_id: str, mountpoint: Path) -> None:
        """See the port."""
        await self.close(mountpoint)
        async with self._changing:
            for root in await in_thread(self._list_roots):
                await in_thread(delete_linked, root, volume_id)
            self._tidy()
        await in_thread(delete_places, self._scratch, volume_id)

    async def list_open(self) -> Sequence[OpenVolume]:
        """See the port."""
        roots = await in_thread(self._list_roots)
        return [volume for root in roots for volume in await in_thread(list_linked, root)]

    async def clean(self) -> Sequence[str]:
        """Delete directories that nothing leads to."""
        async with self._changing:
            for root in await in_thread(self._list_roots):
                await in_thread(_delete_unlinked, root)
        return ()

    def _list_roots(self) -> list[Path]:
        return [place / self._name for place in self._places if (place / self._name).is_dir()]

    def _find_root(self, mountpoint: Path) -> Path | None:
        """The root that a link leads into, if it is one of ours."""
        if not mountpoint.is_symlink():
            return None
        parent = mountpoint.readlink().parent
        return parent if parent in self._list_roots() else None

    def _close(self, mountpoint: Path) -> None:
        root = self._find_root(mountpoint)
        if root is None:
            if mountpoint.exists() or mountpoint.is_symlink():
                raise VolumeError(f"{mountpoint}: what is there is not one of our volumes")
            return
        where = close_linked(root, mountpoint)
        if where is not None:
            delete_linked(root, where.name.rpartition("-")[0])
        self._tidy()

    def _tidy(self) -> None:
        """Remove what is empty."""
        for root in self._list_roots():
            with contextlib.suppress(OSError):
                root.rmdir()


async def _try_out(driver: TmpfsDriver | SharedTmpfsDriver, scratch: Path) -> None:
    volume_id = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    mountpoint = scratch / f"{volume_id}.mount"
    try:
        key = secrets.token_bytes(KEY_SIZE_BYTES)
        where = await driver.open(volume_id, key, PROBE_BYTES, mountpoint)
        await in_thread((where / "marker").write_bytes, b"marker")
        await driver.close(mountpoint)
        if mountpoint.is_dir() and os.geteuid() != 0 and any(mountpoint.iterdir()):
            raise VolumeError("closing did not delete")
    finally:
        await driver.destroy(volume_id, mountpoint)


def _delete_unlinked(root: Path) -> None:
    kept = {f"{volume.mountpoint.readlink().name}" for volume in list_linked(root)}
    for path in root.iterdir():
        if path.name.removesuffix(PLACE_SUFFIX) not in kept:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        root.rmdir()


def build_tag(directory: Path) -> str:
    """Eight digits that tell one installation's directory from another's."""
    return hashlib.sha256(bytes(directory.resolve())).hexdigest()[:8]
