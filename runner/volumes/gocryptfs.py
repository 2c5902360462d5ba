"""Volumes encrypted by gocryptfs through FUSE: for ordinary users, and where the kernel cannot.

Invariants: a program's exit code is not believed: a volume is open only if the kernel's table shows
the FUSE mount of our ciphertext and a record inside it that only the key could have made reads
back. The size is checked when a volume is made and not enforced afterwards.
"""

import asyncio
import contextlib
import hmac
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from runner import host
from runner.durable import make_private_directory, save_file
from runner.volumes import KEY_SIZE_BYTES, OpenVolume, VolumeError
from runner.volumes.mounts import (
    check_room,
    find_mount,
    in_thread,
    make_mountpoint,
    read_mounts,
    remove_mountpoint,
    run_checked,
    unmount,
    unmount_fuse,
)
from runner.volumes.places import delete_places, refuse_foreign
from runner.volumes.probe import leave_marker, require_no_marker

SUFFIX = ".gocryptfs"
SCRATCH_SUFFIX = ".gocryptfs-making"
KIND = "fuse.gocryptfs"
DIRECTORY = "volume"
WITNESS = "witness"
PROBE_PREFIX = "probe-"
PROBE_BYTES = 1024 * 1024
OPEN_DEADLINE_S = 30.0
# The passphrase is 64 random bytes: the slow derivation that guards weak ones would guard nothing.
SCRYPT_LOG_N = "10"


class GocryptfsDriver:
    """The driver; `directory` holds a directory of ciphertext per volume."""

    name = "gocryptfs"
    is_encrypted = True

    def __init__(self, directory: Path) -> None:
        make_private_directory(directory)
        self._directory = directory.resolve()

    def __repr__(self) -> str:
        return f"<GocryptfsDriver {self._directory}>"

    @property
    def notes(self) -> Sequence[str]:
        """No limit, and slow with many small files."""
        return ("the size of a volume is not enforced", "many small files are slow (FUSE)")

    async def probe(self) -> None:
        """Open a throw-away volume, write a marker, close it, look for it in the ciphertext."""
        for program in ("gocryptfs", "fusermount3"):
            host.find_program(program)
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise VolumeError("/dev/fuse is missing or not ours to use")
        volume_id = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
        mountpoint = self._directory / f"{volume_id}.mount"
        marker = secrets.token_hex(16).encode()
        try:
            key = secrets.token_bytes(KEY_SIZE_BYTES)
            where = await self.open(volume_id, key, PROBE_BYTES, mountpoint)
            await in_thread(leave_marker, where, marker)
            await self.close(mountpoint)
            await in_thread(_require_no_marker_under, self._path(volume_id), marker)
        finally:
            await self.destroy(volume_id, mountpoint)

    async def open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        """See the port."""
        if len(key) != KEY_SIZE_BYTES:
            raise VolumeError(f"a volume's key is {KEY_SIZE_BYTES} bytes")
        was_open = await self._is_alive(mountpoint)
        try:
            if not was_open:
                await self._create(volume_id, key, size_bytes)
                await self._mount(volume_id, key, mountpoint)
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
        """See the port."""
        row = await in_thread(find_mount, mountpoint)
        if row is None:
            return
        if row.kind != KIND or not self._is_ours(row.source):
            raise VolumeError(f"{mountpoint}: what is mounted there is not one of our volumes")
        await _unmount(mountpoint)

    async def destroy(self, volume_id: str, mountpoint: Path) -> None:
        """See the port."""
        try:
            await self.close(mountpoint)
        finally:
            await in_thread(delete_places, self._directory, volume_id)
        await in_thread(remove_mountpoint, mountpoint)

    async def list_open(self) -> Sequence[OpenVolume]:
        """See the port."""
        rows = await in_thread(read_mounts)
        return [
            OpenVolume(Path(row.source).name.removesuffix(SUFFIX), row.mountpoint)
            for row in rows
            if row.kind == KIND and self._is_ours(row.source)
        ]

    async def clean(self) -> Sequence[str]:
        """Remove half-made volumes and what a killed probe left; unmount where gocryptfs died."""
        for path in self._directory.glob(f"*{SCRATCH_SUFFIX}"):
            await in_thread(_delete_tree, path)
        for volume in await self.list_open():
            if volume.volume_id.startswith(PROBE_PREFIX):
                await self.destroy(volume.volume_id, volume.mountpoint)
            elif not await self._is_alive(volume.mountpoint):
                await _unmount(volume.mountpoint)
        return ()

    def _path(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}{SUFFIX}"

    def _is_ours(self, source: str) -> bool:
        return Path(source).parent == self._directory and source.endswith(SUFFIX)

    async def _create(self, volume_id: str, key: bytes, size_bytes: int) -> None:
        final = self._path(volume_id)
        if final.is_dir():
            return
        await in_thread(refuse_foreign, self._directory, volume_id, self.name)
        await in_thread(check_room, self._directory, size_bytes)
        scratch = final.with_suffix(SCRATCH_SUFFIX)
        await in_thread(_delete_tree, scratch)
        try:
            await in_thread(scratch.mkdir, 0o700)
            argv = ["gocryptfs", "-q", "-init", "-scryptn", SCRYPT_LOG_N, "--", str(scratch)]
            await run_checked(argv, deadline_s=OPEN_DEADLINE_S, stdin=_passphrase(key))
            await in_thread(scratch.rename, final)
        finally:
            await asyncio.shield(in_thread(_delete_tree, scratch))

    async def _mount(self, volume_id: str, key: bytes, mountpoint: Path) -> None:
        if await in_thread(find_mount, mountpoint) is not None:
            await _unmount(mountpoint)
        await in_thread(make_mountpoint, mountpoint)
        argv = ["gocryptfs", "-q", "-nosuid", "-nodev"]
        if os.geteuid() == 0:
            argv.append("-allow_other")
        argv += ["--", str(self._path(volume_id)), str(mountpoint)]
        await run_checked(argv, deadline_s=OPEN_DEADLINE_S, stdin=_passphrase(key))
        await in_thread(_prepare, self._require_mount(mountpoint), key)

    async def _is_alive(self, mountpoint: Path) -> bool:
        """Whether a mount is there and somebody serves it."""
        if await in_thread(find_mount, mountpoint) is None:
            return False
        with contextlib.suppress(VolumeError):
            # Unlike stat, this is never answered from the kernel's cache.
            await in_thread(os.statvfs, mountpoint)
            return True
        return False

    async def _abandon(self, mountpoint: Path) -> None:
        with contextlib.suppress(VolumeError):
            await self.close(mountpoint)

    def _require_volume(self, volume_id: str, mountpoint: Path) -> None:
        row = find_mount(mountpoint)
        if row is None or Path(row.source) != self._path(volume_id):
            raise VolumeError(f"{mountpoint}: another volume is mounted there")

    def _require_mount(self, mountpoint: Path) -> Path:
        row = find_mount(mountpoint)
        if row is None or mountpoint.stat().st_dev == mountpoint.parent.stat().st_dev:
            raise VolumeError(f"{mountpoint}: nothing is mounted there")
        if row.kind != KIND or not self._is_ours(row.source):
            raise VolumeError(f"{mountpoint}: what is mounted there is not one of our volumes")
        if not row.options >= {"nosuid", "nodev"}:
            raise VolumeError(f"{mountpoint}: not mounted nosuid,nodev")
        return mountpoint

    def _prove(self, mountpoint: Path, key: bytes) -> Path:
        witness = self._require_mount(mountpoint) / WITNESS
        if not witness.is_file() or not hmac.compare_digest(witness.read_bytes(), _witness(key)):
            raise VolumeError(f"{mountpoint}: encrypted under another key")
        where = mountpoint / DIRECTORY
        if not where.is_dir() or where.stat().st_dev != mountpoint.stat().st_dev:
            raise VolumeError(f"{where}: missing, or something else is mounted over it")
        return where


def _prepare(mountpoint: Path, key: bytes) -> None:
    """On the first open: the app's directory, then the record that shows the key."""
    where, witness = mountpoint / DIRECTORY, mountpoint / WITNESS
    mountpoint.chmod(0o711)
    where.mkdir(mode=0o711, exist_ok=True)
    where.chmod(0o711)
    if not witness.exists():
        save_file(witness, _witness(key))


def _witness(key: bytes) -> bytes:
    return hmac.digest(key, b"lockgate volume witness", "sha256").hex().encode()


def _passphrase(key: bytes) -> bytes:
    return key.hex().encode() + b"\n"


async def _unmount(mountpoint: Path) -> None:
    await (unmount if os.geteuid() == 0 else unmount_fuse)(mountpoint)


def _delete_tree(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)


def _require_no_marker_under(directory: Path, marker: bytes) -> None:
    require_no_marker([path for path in directory.rglob("*") if path.is_file()], marker)
