"""What is mounted where, and mounting and unmounting with patience.

Invariants: a mount is believed only from the kernel's table and the directory's device, never from
a program's exit code; a bare mount point takes no file (0000, immutable where the kernel can).
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from runner import host
from runner.volumes import NoSpaceError, VolumeError

MOUNT_DEADLINE_S = 30.0
UNMOUNT_PATIENCE_S = 10.0
POLL_S = 0.05
HOLDERS_SHOWN = 4
_GETFLAGS, _SETFLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10
_UMOUNT_NOFOLLOW = 8
_libc = ctypes.CDLL(None, use_errno=True)
_OCTAL = re.compile(r"\\([0-7]{3})")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mounted:
    """A row of the kernel's mount table; `root` is not `/` where only a part is mounted."""

    mountpoint: Path
    root: str
    device: str
    kind: str
    source: str
    options: frozenset[str]


def parse_mountinfo(text: str) -> list[Mounted]:
    """Rows of `/proc/PID/mountinfo` in its order: of two on one place the last is on top."""
    rows = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(tail) < 3:
            continue
        options = frozenset(fields[5].split(",")) | frozenset(tail[2].split(","))
        path, source = _unescape(fields[4]), _unescape(tail[1])
        rows.append(Mounted(Path(path), fields[3], fields[2], tail[0], source, options))
    return rows


def read_mounts() -> list[Mounted]:
    """All mounts this process sees."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))


def find_mount(mountpoint: Path) -> Mounted | None:
    """What is mounted on top at exactly this path; the path itself is not touched."""
    place = mountpoint.parent.resolve() / mountpoint.name
    return next((row for row in reversed(read_mounts()) if row.mountpoint == place), None)


async def run_checked(
    argv: Sequence[str],
    *,
    deadline_s: float = MOUNT_DEADLINE_S,
    stdin: bytes | None = None,
    codes: Sequence[int] = (0,),
) -> None:
    """Run a program of the host; an exit code not in `codes` is a `VolumeError`."""
    env = {"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", host.SYSTEM_FOLDERS)}
    try:
        done = await host.run(argv, deadline_s=deadline_s, stdin=stdin, env=env)
    except host.HostError as error:
        raise VolumeError(str(error)) from None
    if done.code not in codes:
        raise VolumeError(f"{argv[0]}: {done.build_reason()}")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Blocking work in a thread; a cancelled caller still waits for its end.

    What the system refuses is a `VolumeError` that names the file.
    """
    called = partial(work, *args, **kwargs)
    future = asyncio.get_running_loop().run_in_executor(None, called)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
    except OSError as error:
        raise VolumeError(
            f"{error.filename or 'volume'}: {(error.strerror or str(error)).lower()}"
        ) from None


async def unmount(mountpoint: Path) -> None:
    """`unmount_now` in a thread."""
    await in_thread(unmount_now, mountpoint)


def unmount_now(mountpoint: Path) -> None:
    """Unmount everything at this path, with patience; blocks.

    Raises `VolumeError` that names who holds it.
    """
    give_up = time.monotonic() + UNMOUNT_PATIENCE_S
    while (row := find_mount(mountpoint)) is not None:
        if _libc.umount2(os.fsencode(row.mountpoint), _UMOUNT_NOFOLLOW) == 0:
            continue
        reason = os.strerror(ctypes.get_errno()).lower()
        if time.monotonic() > give_up:
            raise VolumeError(
                f"{mountpoint}: cannot unmount: {reason}{describe_holders(row.device)}"
            )
        time.sleep(POLL_S)


async def unmount_fuse(mountpoint: Path) -> None:
    """Unmount as an ordinary user may: through fusermount3."""
    give_up = asyncio.get_running_loop().time() + UNMOUNT_PATIENCE_S
    while (row := await in_thread(find_mount, mountpoint)) is not None:
        try:
            await run_checked(["fusermount3", "-u", str(mountpoint)])
        except VolumeError as error:
            if asyncio.get_running_loop().time() > give_up:
                holders = await in_thread(describe_holders, row.device)
                raise VolumeError(f"{mountpoint}: cannot unmount: {error}{holders}") from None
            await asyncio.sleep(POLL_S)


def make_mountpoint(mountpoint: Path) -> None:
    """Make a directory that takes no file while nothing is mounted on it.

    Raises `VolumeError` if there is something in it: that would be plaintext.
    """
    mountpoint.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    mountpoint.mkdir(mode=0o700, exist_ok=True)
    if any(mountpoint.iterdir()):
        raise VolumeError(f"{mountpoint}: the bare mount point is not empty; look and remove it")
    if os.geteuid() == 0:
        set_immutable(mountpoint, False)
        mountpoint.chmod(0)
        set_immutable(mountpoint, True)


def remove_mountpoint(mountpoint: Path) -> None:
    """Remove a bare mount point; what is not there is no error."""
    if mountpoint.is_symlink():
        mountpoint.unlink()
        return
    with contextlib.suppress(FileNotFoundError):
        set_immutable(mountpoint, False)
        mountpoint.rmdir()


def set_immutable(path: Path, wanted: bool) -> None:
    """Set or clear the immutable flag where the file system knows it and we may."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            (flags,) = struct.unpack("L", fcntl.ioctl(opened, _GETFLAGS, bytes(8)))
            flags = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
            fcntl.ioctl(opened, _SETFLAGS, struct.pack("L", flags))
    finally:
        os.close(opened)


def is_own_device(mountpoint: Path) -> bool:
    """Whether a directory is on another device than its parent."""
    return mountpoint.stat().st_dev != mountpoint.parent.stat().st_dev


def check_room(place: Path, needed_bytes: int, promised_bytes: int = 0) -> None:
    """Raises `NoSpaceError` if what is promised already and what is needed exceed the free room."""
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    if needed_bytes + promised_bytes <= free:
        return
    others = f" and volumes of other apps may grow by {format_size(promised_bytes)}"
    raise NoSpaceError(
        f"no space left: a volume of {format_size(needed_bytes)} is asked for"
        f"{others if promised_bytes else ''}, but {place} has {format_size(free)} free;"
        " free some space, ask for a smaller volume or remove an app"
    )


def format_size(size_bytes: float) -> str:
    """`512 MiB`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.4g} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.4g} TiB"


def describe_holders(device: str) -> str:
    """Processes that hold files on a device (`MAJOR:MINOR`): empty, or ` (held by …)`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _holds(folder, device):
                found.append(f"{(folder / 'comm').read_text().strip()} pid {folder.name}")
        if len(found) == HOLDERS_SHOWN:
            break
    return f" (held by {', '.join(found)})" if found else ""


def _holds(folder: Path, device: str) -> bool:
    for path in _files_of(folder):
        with contextlib.suppress(OSError):
            number = path.stat().st_dev
            if f"{os.major(number)}:{os.minor(number)}" == device:
                return True
    major, minor = (int(part) for part in device.split(":"))
    if f" {major:02x}:{minor:02x} " in (folder / "maps").read_text(errors="replace"):
        return True
    elsewhere = os.readlink(folder / "ns/mnt") != os.readlink("/proc/self/ns/mnt")
    return elsewhere and f" {device} " in (folder / "mountinfo").read_text(errors="replace")


def _files_of(folder: Path) -> Iterator[Path]:
    yield folder / "cwd"
    yield folder / "root"
    yield from (folder / "fd").iterdir()


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
