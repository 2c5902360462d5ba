"""What reading the mount table, and mounting and unmounting, must hold."""

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from runner.volumes import NoSpaceError, VolumeError, mounts
from runner.volumes.mounts import (
    check_room,
    describe_holders,
    find_mount,
    format_size,
    in_thread,
    make_mountpoint,
    parse_mountinfo,
    remove_mountpoint,
    run_checked,
    unmount,
)

from .conftest import needs_root

TABLE = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 22 7:0 / /run/with\\040space rw,nosuid,nodev shared:5 master:1 - ext4 /dev/loop0 rw
31 22 7:0 /part /mnt/part ro - ext4 /dev/loop0 rw
32 22 0:44 / /run/with\\040space rw - fuse.gocryptfs /a\\134b rw,user_id=0
broken line
"""


def test_rows_are_read_with_their_escapes() -> None:
    """Optional fields, escaped spaces and backslashes, parts of file systems and options."""
    rows = parse_mountinfo(TABLE)
    assert [row.mountpoint for row in rows] == [
        Path("/"),
        Path("/run/with space"),
        Path("/mnt/part"),
        Path("/run/with space"),
    ]
    assert rows[1].options >= {"nosuid", "nodev", "rw"}
    assert (rows[1].device, rows[1].kind, rows[1].source) == ("7:0", "ext4", "/dev/loop0")
    assert rows[2].root == "/part"
    assert rows[3].source == "/a\\b"


@pytest.mark.root
@needs_root
async def test_topmost_of_two_mounts_is_found_and_both_are_unmounted(place: Path) -> None:
    """Of two mounts on one path the upper one counts, and unmounting takes both."""
    where = place / "with space"
    where.mkdir()
    for name in ("lower", "upper"):
        await run_checked(["mount", "-t", "tmpfs", name, str(where)])
    row = find_mount(where)
    assert row is not None
    assert row.source == "upper"
    assert find_mount(place) is None
    await unmount(where)
    assert find_mount(where) is None
    await unmount(where)


@pytest.mark.root
@needs_root
async def test_busy_mount_is_unmounted_once_it_is_free(place: Path) -> None:
    """Unmounting waits for a process that leaves soon."""
    await run_checked(["mount", "-t", "tmpfs", "x", str(place)])
    sitting = subprocess.Popen(["sleep", "0.3"], cwd=place)
    waiter = threading.Thread(target=sitting.wait)
    waiter.start()
    await unmount(place)
    waiter.join()
    assert find_mount(place) is None


@pytest.mark.root
@needs_root
async def test_holders_are_found_by_folder_map_and_namespace(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sits in it, maps a file of it or sees it in another namespace is named."""
    monkeypatch.setattr(mounts, "UNMOUNT_PATIENCE_S", 0.1)
    await run_checked(["mount", "-t", "tmpfs", "x", str(place)])
    row = find_mount(place)
    assert row is not None
    assert describe_holders(row.device) == ""
    argvs = (["sleep", "60"], ["unshare", "-m", "sleep", "60"])
    for argv, folder in zip(argvs, (place, None), strict=True):
        process = subprocess.Popen(argv, cwd=folder)
        try:
            for _ in range(100):
                if f"pid {process.pid}" in describe_holders(row.device):
                    break
                await asyncio.sleep(0.02)
            assert f"sleep pid {process.pid}" in describe_holders(row.device)
        finally:
            process.kill()
            process.wait()
    await unmount(place)


def test_mountpoint_with_files_is_refused(place: Path) -> None:
    """Plaintext in a mount point is told, not covered."""
    (place / "m").mkdir()
    (place / "m" / "leak").touch()
    with pytest.raises(VolumeError, match="the bare mount point is not empty"):
        make_mountpoint(place / "m")


def test_mountpoint_is_made_again_and_removed(place: Path) -> None:
    """Making it twice is fine, removing it twice too; a link in its place is not followed."""
    for _ in range(2):
        make_mountpoint(place / "run" / "m")
    for _ in range(2):
        remove_mountpoint(place / "run" / "m")
    assert not (place / "run" / "m").exists()
    (place / "run" / "m").symlink_to(place)
    remove_mountpoint(place / "run" / "m")
    assert not (place / "run" / "m").is_symlink()
    assert place.is_dir()


def test_room_counts_what_is_promised(place: Path) -> None:
    """What others were promised counts; the error has the numbers and the remedy."""
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    check_room(place, free // 2)
    with pytest.raises(NoSpaceError, match=r"^no space left: .* free; free some space, ask for"):
        check_room(place, free // 2, free)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 << 29, "1.5 GiB"), (1 << 50, "1024 TiB")],
)
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    """Sizes have the largest unit that keeps them above one."""
    assert format_size(size) == text


async def test_failure_of_a_program_is_a_volume_error() -> None:
    """A bad exit, a missing program and an accepted code are told apart."""
    with pytest.raises(VolumeError, match="sh: exit code 3"):
        await run_checked(["sh", "-c", "exit 3"])
    await run_checked(["sh", "-c", "exit 3"], codes=(0, 3))
    with pytest.raises(VolumeError, match="no-such-program is not installed"):
        await run_checked(["no-such-program"])


async def test_system_refusal_in_a_thread_names_the_file() -> None:
    """What the system refuses becomes one line with the path."""
    with pytest.raises(VolumeError, match=r"^/nowhere/file: no such file or directory$"):
        await in_thread(Path("/nowhere/file").read_bytes)


async def test_cancelled_caller_waits_for_its_thread() -> None:
    """When the caller is cancelled the thread's work is over before the caller goes on."""
    done: list[str] = []

    def work() -> None:
        time.sleep(0.2)
        done.append("done")

    task = asyncio.ensure_future(in_thread(work))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["done"]
