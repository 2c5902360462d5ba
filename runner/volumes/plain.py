"""Volumes in the clear, for an operator who wrote `encryption: none`.

Invariants: never chosen by itself; its note says what it is. The size is checked when a volume is
made and not enforced afterwards.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from runner.durable import make_private_directory
from runner.volumes import OpenVolume, VolumeError
from runner.volumes.linked import (
    build_digest,
    close_linked,
    delete_linked,
    list_linked,
    open_linked,
    prove_linked,
)
from runner.volumes.mounts import check_room, in_thread
from runner.volumes.places import delete_places, refuse_foreign


class PlainDriver:
    """The driver; volumes are directories under `directory`/plain."""

    name = "none"
    is_encrypted = False

    def __init__(self, directory: Path) -> None:
        make_private_directory(directory)
        self._root = directory.resolve() / "plain"
        self._root.mkdir(mode=0o711, exist_ok=True)
        directory.chmod(0o711)

    def __repr__(self) -> str:
        return f"<PlainDriver {self._root}>"

    @property
    def notes(self) -> Sequence[str]:
        """Everything is given up."""
        return (
            "volumes are NOT encrypted: code and files of apps are on the disk in the clear",
            "the size of a volume is not enforced",
        )

    async def probe(self) -> None:
        """Nothing that could fail later fails now, but a missing directory."""
        await in_thread(check_room, self._root, 0)

    async def open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        """See the port."""
        was_open = await in_thread(mountpoint.is_symlink)
        try:
            return await in_thread(self._open, volume_id, key, size_bytes, mountpoint)
        except (VolumeError, asyncio.CancelledError):
            if not was_open:
                with contextlib.suppress(VolumeError):
                    close_linked(self._root, mountpoint)
            raise

    async def prove(self, mountpoint: Path, key: bytes) -> Path:
        """See the port."""
        return await in_thread(prove_linked, self._root, mountpoint, key)

    async def close(self, mountpoint: Path) -> None:
        """See the port; files stay readable."""
        await in_thread(close_linked, self._root, mountpoint)

    async def destroy(self, volume_id: str, mountpoint: Path) -> None:
        """See the port; the blocks are freed, not overwritten."""
        await self.close(mountpoint)
        await in_thread(delete_linked, self._root, volume_id)
        await in_thread(delete_places, self._root.parent, volume_id)

    async def list_open(self) -> Sequence[OpenVolume]:
        """See the port."""
        return await in_thread(list_linked, self._root)

    async def clean(self) -> Sequence[str]:
        """A crash leaves nothing that the next open does not use."""
        return ()

    def _open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        if not (self._root / f"{volume_id}-{build_digest(key)}").exists():
            refuse_foreign(self._root.parent, volume_id, self.name)
            check_room(self._root, size_bytes)
        open_linked(self._root, volume_id, key, mountpoint)
        return prove_linked(self._root, mountpoint, key)
