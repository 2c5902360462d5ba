"""What volumes encrypted by gocryptfs must hold."""

import os
import signal
from pathlib import Path

import pytest

from runner import host
from runner.volumes import VolumeError
from runner.volumes.gocryptfs import GocryptfsDriver
from runner.volumes.mounts import find_mount
from runner.volumes.probe import find_in_file

from .conftest import KEY, OTHER_KEY, SIZE, needs_gocryptfs

pytestmark = needs_gocryptfs
APP = "a" * 32
CANARY = b"canary-0c41d2-in-the-clear"


@pytest.fixture
def driver(place: Path) -> GocryptfsDriver:
    """A driver on an empty directory."""
    return GocryptfsDriver(place / "volumes")


@pytest.fixture
def mountpoint(place: Path) -> Path:
    """Where the volume is opened."""
    return place / "run" / "hello"


def _find_daemon(place: Path) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"gocryptfs\0" in argv and str(place).encode() in argv:
            return int(folder.name)
    raise AssertionError("no gocryptfs serves this place")


def _install_fake(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (place / "bin").mkdir()
    fake = place / "bin" / "gocryptfs"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place / 'bin'}:{os.environ['PATH']}")


async def test_canary_is_in_no_file_and_no_name(
    driver: GocryptfsDriver, mountpoint: Path, place: Path
) -> None:
    """Contents and names of the volume are nowhere in its ciphertext, open or closed."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / CANARY.decode()).write_bytes(CANARY * 5000)
    for is_closed in (False, True):
        if is_closed:
            await driver.close(mountpoint)
        files = [path for path in (place / "volumes").rglob("*") if path.is_file()]
        assert len(files) >= 3
        assert not any(CANARY.decode() in str(path) for path in files)
        assert not any(find_in_file(path, CANARY) for path in files)


async def test_key_is_in_no_argument_and_no_file(
    driver: GocryptfsDriver, mountpoint: Path, place: Path
) -> None:
    """The process that serves the volume shows its key in no argument and no variable."""
    await driver.open(APP, KEY, SIZE, mountpoint)
    folder = Path("/proc") / str(_find_daemon(place))
    shown = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    assert KEY.hex().encode() not in shown
    assert not any(
        find_in_file(path, KEY.hex().encode())
        for path in (place / "volumes").rglob("*")
        if path.is_file()
    )


async def test_program_that_mounts_nothing_is_not_believed(
    driver: GocryptfsDriver, mountpoint: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gocryptfs that exits with 0 and mounts nothing opens nothing."""
    _install_fake(place, monkeypatch, "exit 0")
    with pytest.raises(VolumeError, match="nothing is mounted there"):
        await driver.open(APP, KEY, SIZE, mountpoint)
    assert list(mountpoint.iterdir()) == []
    with pytest.raises(VolumeError, match="nothing is mounted there"):
        await driver.probe()
    assert [path.name for path in (place / "volumes").iterdir()] == [f"{APP}.gocryptfs"]


async def test_program_that_fails_is_told_with_its_reason(
    driver: GocryptfsDriver, mountpoint: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gocryptfs says when it fails is the error, and no half-made volume stays."""
    _install_fake(place, monkeypatch, "echo broken >&2; exit 3")
    with pytest.raises(VolumeError, match=r"^gocryptfs: broken$"):
        await driver.open(APP, KEY, SIZE, mountpoint)
    assert list((place / "volumes").iterdir()) == []


async def test_program_that_hangs_is_ended(
    driver: GocryptfsDriver, mountpoint: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gocryptfs that never answers is killed at the deadline."""
    _install_fake(place, monkeypatch, "sleep 60")
    monkeypatch.setattr("runner.volumes.gocryptfs.OPEN_DEADLINE_S", 0.3)
    with pytest.raises(VolumeError, match=r"not done after 0\.3 s"):
        await driver.open(APP, KEY, SIZE, mountpoint)


async def test_killed_daemon_is_noticed_and_mended(
    driver: GocryptfsDriver, mountpoint: Path, place: Path
) -> None:
    """When the serving process dies the volume no longer proves, and opens again whole."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / "kept").write_text("x")
    os.kill(_find_daemon(place), signal.SIGKILL)
    while True:
        try:
            (where / "kept").read_text()
        except OSError:
            break
    with pytest.raises(VolumeError):
        await driver.prove(mountpoint, KEY)
    assert (await driver.open(APP, KEY, SIZE, mountpoint) / "kept").read_text() == "x"
    os.kill(_find_daemon(place), signal.SIGKILL)
    while True:
        try:
            os.statvfs(mountpoint)
        except OSError:
            break
    assert list(await driver.clean()) == []
    assert find_mount(mountpoint) is None


async def test_wrong_key_is_told_and_leaves_it_closed(
    driver: GocryptfsDriver, mountpoint: Path
) -> None:
    """Opening under another key says so in gocryptfs's words and mounts nothing."""
    await driver.open(APP, KEY, SIZE, mountpoint)
    await driver.close(mountpoint)
    with pytest.raises(VolumeError, match="Password incorrect"):
        await driver.open(APP, OTHER_KEY, SIZE, mountpoint)
    assert find_mount(mountpoint) is None


async def test_remnants_of_a_crash_are_cleaned(
    driver: GocryptfsDriver, mountpoint: Path, place: Path
) -> None:
    """Half-made volumes and open probes go; an open volume stays."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (place / "volumes" / f"{'b' * 32}.gocryptfs-making").mkdir()
    await driver.open("probe-01", KEY, SIZE, place / "volumes" / "probe-01.mount")
    assert list(await GocryptfsDriver(place / "volumes").clean()) == []
    assert [path.name for path in (place / "volumes").iterdir()] == [f"{APP}.gocryptfs"]
    assert await driver.prove(mountpoint, KEY) == where


async def test_lost_witness_does_not_prove(driver: GocryptfsDriver, mountpoint: Path) -> None:
    """A mount without the record that the key made is not the volume."""
    await driver.open(APP, KEY, SIZE, mountpoint)
    (mountpoint / "witness").unlink()
    with pytest.raises(VolumeError, match="another key"):
        await driver.prove(mountpoint, KEY)


async def test_missing_program_is_named_with_its_package(
    driver: GocryptfsDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gocryptfs the probe says which package to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(host, "SYSTEM_FOLDERS", "/nowhere")
    with pytest.raises(host.HostError, match=r"gocryptfs is not installed \(Debian: "):
        await driver.probe()


def test_notes_say_what_is_given_up(driver: GocryptfsDriver) -> None:
    """The operator is told that sizes are not enforced."""
    assert "the size of a volume is not enforced" in driver.notes
