"""Directories in RAM: a tmpfs of our own as root, a verified place in a shared one for a user.

Invariants: a directory is called RAM only when the kernel's mount table says so; a directory of
ours in a shared place belongs to us and is closed to others, or it is refused.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.volumes import NoSpaceError, VolumeError
from runner.volumes.mounts import format_size, in_thread, read_mounts, run_checked

RAM_KINDS = frozenset({"tmpfs", "ramfs"})
SWAP_NOTE = "this kernel has no noswap tmpfs and swap is on: what is kept in RAM may reach the disk"


@dataclass(frozen=True, slots=True)
class RamMount:
    """How a tmpfs was mounted."""

    is_noswap: bool


async def mount_tmpfs(mountpoint: Path, source: str, size_bytes: int, mode: int) -> RamMount:
    """Mount a tmpfs, `noswap` where the kernel can (6.4 and later). Raises `VolumeError`."""
    plain = f"nosuid,nodev,size={size_bytes},mode={mode:o}"
    for options in (f"{plain},noswap", plain):
        try:
            await run_checked(["mount", "-t", "tmpfs", "-o", options, source, str(mountpoint)])
        except VolumeError:
            if options == plain:
                raise
        else:
            return RamMount(is_noswap=options != plain)
    raise AssertionError("unreachable")


def has_swap() -> bool:
    """Whether the host may write memory to a disk (zram does not)."""
    rows = Path("/proc/swaps").read_text().splitlines()[1:]
    return any(not row.startswith("/dev/zram") for row in rows)


def check_memory(needed_bytes: int) -> None:
    """Raises `NoSpaceError` if the host has less memory available than this."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            if needed_bytes > available:
                raise NoSpaceError(
                    f"no space left: a volume of {format_size(needed_bytes)} in RAM is asked for,"
                    f" but {format_size(available)} are available; ask for a smaller volume"
                )


def is_ram(path: Path) -> bool:
    """Whether a path is on a tmpfs or ramfs, by the device the mount table names."""
    number = path.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    return any(row.device == device and row.kind in RAM_KINDS for row in read_mounts())


def list_shared_places(env: Mapping[str, str]) -> Sequence[Path]:
    """Where a user may find a tmpfs: the usual places, the roomier first."""
    runtime = env.get("XDG_RUNTIME_DIR")
    return (Path("/dev/shm"), *((Path(runtime),) if runtime else ()))  # noqa: S108


def pick_shared_place(places: Sequence[Path], needed_bytes: int, *, runs_programs: bool) -> Path:
    """The first place that is RAM, has room, and runs programs if asked for.

    Raises `VolumeError` with the reason for each that is not.
    """
    reasons = []
    for place in places:
        reason = _judge(place, runs_programs)
        free = 0 if reason else _read_free_bytes(place)
        if reason is None and needed_bytes <= free:
            return place
        reasons.append(f"{place} {reason or f'has {format_size(free)} free'}")
    text = "; ".join(reasons)
    if any("free" in reason for reason in reasons):
        raise NoSpaceError(
            f"no space left: {format_size(needed_bytes)} in RAM are asked for, but {text};"
            " ask for a smaller volume or remove an app"
        )
    raise VolumeError(f"no RAM directory to use: {text}")


def make_own_directory(place: Path, name: str) -> Path:
    """Our directory (0700) in a place that others may write to; raises if it is not ours."""
    path = place / name
    path.mkdir(mode=0o700, exist_ok=True)
    facts = path.lstat()
    if not path.is_dir() or path.is_symlink() or facts.st_uid != os.geteuid():
        raise VolumeError(f"{path}: belongs to another user; remove it")
    path.chmod(0o700)
    return path


async def prepare_shared(
    places: Sequence[Path], name: str, needed_bytes: int, *, runs_programs: bool = False
) -> Path:
    """`pick_shared_place`, then our directory in it."""

    def prepare() -> Path:
        place = pick_shared_place(places, needed_bytes, runs_programs=runs_programs)
        return make_own_directory(place, name)

    return await in_thread(prepare)


def _judge(place: Path, runs_programs: bool) -> str | None:
    if not place.is_dir():
        return "does not exist"
    if not is_ram(place):
        return "is not in RAM"
    if not os.access(place, os.W_OK | os.X_OK):
        return "is not ours to write to"
    if runs_programs and os.statvfs(place).f_flag & os.ST_NOEXEC:
        return "runs no programs (noexec)"
    return None


def _read_free_bytes(place: Path) -> int:
    facts = os.statvfs(place)
    return facts.f_bavail * facts.f_frsize
