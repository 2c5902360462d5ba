"""What volumes in RAM must hold."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from runner.ram import is_ram
from runner.volumes import VolumeError, tmpfs
from runner.volumes.mounts import find_mount
from runner.volumes.tmpfs import SharedTmpfsDriver, TmpfsDriver

from .conftest import KEY, SIZE, needs_root

APP, OTHER = "a" * 32, "b" * 32


@pytest.mark.root
@needs_root
async def test_full_volume_is_enospc(place: Path) -> None:
    """A volume in RAM ends at its size."""
    where = await TmpfsDriver(place / "volumes").open(APP, KEY, 4 * 2**20, place / "run")
    with pytest.raises(OSError, match="No space left") as caught:
        (where / "big").write_bytes(bytes(8 * 2**20))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.root
@needs_root
async def test_mount_is_private_and_never_swapped(place: Path) -> None:
    """The mount is nosuid, nodev and, where the kernel can, noswap; else the notes say so."""
    driver = TmpfsDriver(place / "volumes")
    await driver.open(APP, KEY, SIZE, place / "run")
    row = find_mount(place / "run")
    assert row is not None
    assert row.options >= {"nosuid", "nodev"}
    assert ("noswap" in row.options) or tmpfs.SWAP_NOTE in driver.notes or not tmpfs.has_swap()
    assert tmpfs.LOST_NOTE in driver.notes


@pytest.mark.root
@needs_root
async def test_kernel_without_noswap_is_told_when_there_is_swap(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the first mount is refused the second is without noswap, and the notes say so."""
    real, tried = tmpfs.mount_tmpfs.__globals__["run_checked"], []

    async def old_kernel(argv: list[str]) -> None:
        tried.append(argv[4])
        if "noswap" in argv[4]:
            raise VolumeError("mount: bad option")
        await real(argv)

    monkeypatch.setitem(tmpfs.mount_tmpfs.__globals__, "run_checked", old_kernel)
    monkeypatch.setattr(tmpfs, "has_swap", lambda: True)
    driver = TmpfsDriver(place / "volumes")
    await driver.open(APP, KEY, SIZE, place / "run")
    assert len(tried) == 2
    assert tmpfs.SWAP_NOTE in driver.notes


@pytest.mark.root
@needs_root
async def test_another_installations_volume_is_not_ours(place: Path) -> None:
    """Two installations neither list, prove nor close each other's volumes."""
    first, second = TmpfsDriver(place / "one"), TmpfsDriver(place / "two")
    await first.open(APP, KEY, SIZE, place / "run")
    assert await second.list_open() == []
    with pytest.raises(VolumeError, match="not one of our volumes"):
        await second.prove(place / "run", KEY)
    with pytest.raises(VolumeError, match="not one of our volumes"):
        await second.close(place / "run")


@pytest.mark.root
@needs_root
async def test_left_probe_is_cleaned(place: Path) -> None:
    """A probe whose runner was killed is unmounted by the next one."""
    driver = TmpfsDriver(place / "volumes")
    await driver.open("probe-1", KEY, SIZE, place / "volumes" / "probe-1.mount")
    await driver.clean()
    assert await driver.list_open() == []
    assert list((place / "volumes").iterdir()) == []


@pytest.mark.root
@needs_root
async def test_more_than_the_memory_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume larger than what memory is available is refused with both numbers."""
    with pytest.raises(VolumeError, match=r"a volume of 4 TiB in RAM .* are available"):
        await TmpfsDriver(place / "volumes").open(APP, KEY, 1 << 42, place / "run")


async def test_shared_volume_is_in_ram_and_gone_when_closed(place: Path) -> None:
    """The directory lies in a tmpfs of the host, and closing leaves nothing there."""
    driver = SharedTmpfsDriver(place / "volumes")
    where = await driver.open(APP, KEY, SIZE, place / "run" / "hello")
    assert is_ram(where)
    (where / "file").write_text("x")
    root = where.parent
    assert root.stat().st_mode & 0o777 == 0o700
    await driver.open(OTHER, KEY, SIZE, place / "run" / "other")
    await driver.close(place / "run" / "hello")
    assert not where.exists()
    assert root.exists()
    await driver.close(place / "run" / "other")
    assert not root.exists()


async def test_shared_directory_without_a_link_is_cleaned(place: Path) -> None:
    """Directories that nothing leads to any more are deleted, others stay."""
    driver = SharedTmpfsDriver(place / "volumes")
    lost = await driver.open(APP, KEY, SIZE, place / "run" / "hello")
    kept = await driver.open(OTHER, KEY, SIZE, place / "run" / "other")
    (place / "run" / "hello").unlink()
    await SharedTmpfsDriver(place / "volumes").clean()
    assert not lost.exists()
    assert kept.exists()


@pytest.mark.root
@needs_root
async def test_place_that_runs_no_programs_is_passed_over(place: Path) -> None:
    """A tmpfs mounted noexec cannot hold a virtualenv: the next place is taken, or it is told."""
    (place / "noexec").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "x", place / "noexec"], check=True)
    driver = SharedTmpfsDriver(place / "volumes", [place / "noexec", Path("/dev/shm")])
    where = await driver.open(APP, KEY, SIZE, place / "run")
    assert where.is_relative_to("/dev/shm")
    alone = SharedTmpfsDriver(place / "volumes", [place / "noexec"])
    with pytest.raises(VolumeError, match=r"no RAM directory to use: .*noexec runs no programs"):
        await alone.open(OTHER, KEY, SIZE, place / "run2")


@pytest.mark.root
@needs_root
async def test_directory_that_another_user_made_is_refused(place: Path) -> None:
    """A directory prepared by somebody else under our name is not used."""
    driver = SharedTmpfsDriver(place / "volumes")
    trap = Path("/dev/shm") / f"lockgate-{os.geteuid()}-{tmpfs.build_tag(place / 'volumes')}"
    trap.mkdir()
    os.chown(trap, 65534, 65534)
    with pytest.raises(VolumeError, match="belongs to another user"):
        await driver.open(APP, KEY, SIZE, place / "run")


async def test_probe_needs_root_for_mounts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user is told that mounting needs root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(VolumeError, match="needs root"):
        await TmpfsDriver(place / "volumes").probe()
