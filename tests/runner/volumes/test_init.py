"""What every volume driver must hold, whatever it is made of."""

import asyncio
import os
from pathlib import Path

import pytest

from runner.volumes import Choice, NoSpaceError, Skipped, VolumeDriver, VolumeError, choose_driver
from runner.volumes.mounts import find_mount

from .conftest import KEY, OTHER_KEY, SIZE, Box

APP, OTHER = "a" * 32, "b" * 32
PERSISTENT = ("fscrypt", "gocryptfs", "none")


def _is_closed(mountpoint: Path) -> bool:
    return find_mount(mountpoint) is None and not mountpoint.is_symlink()


async def test_probe_passes_and_leaves_nothing(box: Box) -> None:
    """The probe works here for real, and nothing of it stays."""
    driver = box.new()
    await driver.probe()
    assert await driver.list_open() == []
    assert [path for path in box.volumes.iterdir() if path.name != "plain"] == []


async def test_written_files_are_there_until_the_volume_is_destroyed(box: Box) -> None:
    """What was written is there after close and open where the driver lasts, else it is gone."""
    driver = box.new()
    where = await driver.open(APP, KEY, SIZE, box.mountpoint())
    (where / "code").mkdir()
    (where / "code" / "app.py").write_text("print()")
    await driver.close(box.mountpoint())
    assert _is_closed(box.mountpoint())
    again = await box.new().open(APP, KEY, SIZE, box.mountpoint())
    assert again == where
    assert (again / "code" / "app.py").exists() == (driver.name in PERSISTENT)
    await driver.destroy(APP, box.mountpoint())
    fresh = await driver.open(APP, OTHER_KEY, SIZE, box.mountpoint())
    assert [path.name for path in fresh.iterdir() if path.name != "lost+found"] == []


async def test_directory_lets_others_pass_but_not_look(box: Box) -> None:
    """The volume's directory is 0711: an app reaches what is bound from it and lists nothing."""
    where = await box.new().open(APP, KEY, SIZE, box.mountpoint())
    assert where.stat().st_mode & 0o7777 == 0o711
    assert where.stat().st_uid == os.geteuid()


async def test_open_volume_is_adopted(box: Box) -> None:
    """Opening what another process left open proves it and returns the same directory."""
    where = await box.new().open(APP, KEY, SIZE, box.mountpoint())
    (where / "kept").write_text("x")
    driver = box.new()
    assert [(item.volume_id, item.mountpoint) for item in await driver.list_open()] == [
        (APP, box.mountpoint())
    ]
    assert await driver.open(APP, KEY, SIZE, box.mountpoint()) == where
    assert (where / "kept").read_text() == "x"
    assert await driver.prove(box.mountpoint(), KEY) == where


async def test_wrong_key_proves_nothing_and_opens_nothing(box: Box) -> None:
    """Another key neither proves an open volume nor opens a closed one, which stays closed."""
    driver = box.new()
    await driver.open(APP, KEY, SIZE, box.mountpoint())
    with pytest.raises(VolumeError, match="another key"):
        await driver.prove(box.mountpoint(), OTHER_KEY)
    with pytest.raises(VolumeError, match="another key"):
        await driver.open(APP, OTHER_KEY, SIZE, box.mountpoint())
    await driver.prove(box.mountpoint(), KEY)
    await driver.close(box.mountpoint())
    if driver.name in PERSISTENT:
        with pytest.raises(VolumeError):
            await driver.open(APP, OTHER_KEY, SIZE, box.mountpoint())
        assert _is_closed(box.mountpoint())
    await driver.open(APP, KEY, SIZE, box.mountpoint())


async def test_short_key_is_refused(box: Box) -> None:
    """A key that is not 64 bytes opens nothing."""
    with pytest.raises(VolumeError, match="64 bytes"):
        await box.new().open(APP, b"short", SIZE, box.mountpoint())
    assert _is_closed(box.mountpoint())


async def test_plain_directory_is_never_taken_for_the_volume(box: Box) -> None:
    """A directory in the mount point's place, with the right shape inside, is refused."""
    driver = box.new()
    where = await driver.open(APP, KEY, SIZE, box.mountpoint())
    shape = where.relative_to(box.mountpoint()) if where.is_relative_to(box.mountpoint()) else "."
    await driver.destroy(APP, box.mountpoint())
    (box.mountpoint() / shape).mkdir(parents=True)
    with pytest.raises(VolumeError):
        await driver.prove(box.mountpoint(), KEY)


async def test_unmounted_mountpoint_proves_nothing(box: Box) -> None:
    """A closed volume, and one that never was, do not prove."""
    driver = box.new()
    with pytest.raises(VolumeError):
        await driver.prove(box.mountpoint(), KEY)
    await driver.open(APP, KEY, SIZE, box.mountpoint())
    await driver.close(box.mountpoint())
    with pytest.raises(VolumeError):
        await driver.prove(box.mountpoint(), KEY)


async def test_foreign_mount_is_neither_used_nor_closed(box: Box) -> None:
    """Something else at the mount point is refused by open, prove and close, and left alone."""
    box.mountpoint().mkdir(parents=True)
    (box.mountpoint() / "precious").write_text("x")
    driver = box.new()
    for attempt in (
        driver.open(APP, KEY, SIZE, box.mountpoint()),
        driver.prove(box.mountpoint(), KEY),
    ):
        with pytest.raises(VolumeError):
            await attempt
    assert (box.mountpoint() / "precious").read_text() == "x"


async def test_one_mountpoint_serves_one_volume(box: Box) -> None:
    """Opening another volume where one is open is refused and harms neither."""
    driver = box.new()
    where = await driver.open(APP, KEY, SIZE, box.mountpoint())
    with pytest.raises(VolumeError):
        await driver.open(OTHER, OTHER_KEY, SIZE, box.mountpoint())
    assert await driver.prove(box.mountpoint(), KEY) == where


async def test_closing_and_destroying_nothing_is_no_error(box: Box) -> None:
    """What is not there can be closed and destroyed, twice."""
    driver = box.new()
    for _ in range(2):
        await driver.close(box.mountpoint())
        await driver.destroy(APP, box.mountpoint())
    assert list(await driver.clean()) == []


async def test_destroyed_volume_leaves_no_file(box: Box) -> None:
    """Destroying an open volume removes its mount, its mount point and all it kept on the disk."""
    driver = box.new()
    where = await driver.open(APP, KEY, SIZE, box.mountpoint())
    (where / "f").write_text("x")
    await driver.destroy(APP, box.mountpoint())
    assert not box.mountpoint().exists()
    assert _is_closed(box.mountpoint())
    assert [path for path in box.volumes.rglob("*") if path.name != "plain"] == []
    assert not where.exists()


async def test_volumes_open_and_close_at_once(box: Box) -> None:
    """Six volumes opened, used and closed at the same time do not disturb each other."""
    driver = box.new()

    async def live(number: int) -> None:
        mountpoint, volume_id = box.mountpoint(f"app{number}"), f"{number:032x}"
        key = bytes([number]) * 64
        where = await driver.open(volume_id, key, SIZE, mountpoint)
        (where / "mine").write_text(str(number))
        await asyncio.sleep(0.01)
        assert (await driver.prove(mountpoint, key) / "mine").read_text() == str(number)
        await driver.close(mountpoint)
        await driver.destroy(volume_id, mountpoint)

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(live(number))
    assert await driver.list_open() == []
    assert list((box.root / "run").iterdir()) == []


async def test_cancelled_open_leaves_the_volume_closed(box: Box) -> None:
    """Wherever an open is cancelled, the volume is closed afterwards and opens again."""
    driver = box.new()
    for step in range(14):
        task = asyncio.ensure_future(driver.open(APP, KEY, SIZE, box.mountpoint()))
        await asyncio.sleep(step * 0.004)
        was_done = task.done()
        task.cancel()
        if not was_done:
            with pytest.raises(asyncio.CancelledError):
                await task
            assert _is_closed(box.mountpoint()), f"after {step * 4} ms"
            assert await driver.list_open() == []
        await driver.close(box.mountpoint())
    await driver.open(APP, KEY, SIZE, box.mountpoint())
    await driver.destroy(APP, box.mountpoint())


async def test_another_drivers_volume_is_not_shadowed(box: Box) -> None:
    """A volume that another driver made is refused by name instead of a second one being made."""
    driver = box.new()
    other = "none" if driver.name != "none" else "fscrypt"
    foreign = box.volumes / ("plain" if other == "none" else "")
    foreign.mkdir(exist_ok=True)
    (foreign / (f"{APP}-0" if other == "none" else f"{APP}.img")).write_text("x")
    with pytest.raises(VolumeError, match=f"made by the driver '{other}'"):
        await driver.open(APP, KEY, SIZE, box.mountpoint())
    await driver.destroy(APP, box.mountpoint())
    await driver.open(APP, KEY, SIZE, box.mountpoint())


async def test_volume_that_cannot_fit_is_refused_with_numbers(box: Box) -> None:
    """A size beyond what is free is refused before anything is made, with what to do."""
    driver = box.new()
    with pytest.raises(NoSpaceError, match=r"^no space left: .*asked for.* (free|available)"):
        await driver.open(APP, KEY, 1 << 50, box.mountpoint())
    assert _is_closed(box.mountpoint())
    assert [path for path in box.volumes.rglob("*") if path.name != "plain"] == []


class _Refusing:
    name = "refusing"

    async def probe(self) -> None:
        raise NoSpaceError("no room")


async def test_first_driver_that_works_is_chosen(box: Box) -> None:
    """A driver whose probe fails is skipped with its reason and the next one is tried."""
    refusing: VolumeDriver = _Refusing()  # type: ignore[assignment]
    driver = box.new()
    assert await choose_driver([refusing, driver]) == Choice(
        driver, (Skipped("refusing", "no room"),)
    )
    with pytest.raises(VolumeError, match=r"no way .*\(refusing: no room; refusing: no room\)"):
        await choose_driver([refusing, refusing])
