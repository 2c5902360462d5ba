"""What volumes in images that the kernel encrypts must hold."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from runner import host
from runner.volumes import VolumeError, fscrypt, kernel, mounts
from runner.volumes.fscrypt import FscryptDriver
from runner.volumes.probe import find_in_file

from .conftest import KEY, SIZE, needs_root

pytestmark = [pytest.mark.root, needs_root]
APP = "a" * 32
CANARY = b"canary-b7c1f0-in-the-clear"


@pytest.fixture
def driver(place: Path) -> FscryptDriver:
    """A driver on an empty directory."""
    return FscryptDriver(place / "volumes")


@pytest.fixture
def mountpoint(place: Path) -> Path:
    """Where the volume is opened."""
    return place / "run" / "hello"


async def test_canary_is_in_no_byte_of_the_image(
    driver: FscryptDriver, mountpoint: Path, place: Path
) -> None:
    """Contents, names and link targets are nowhere in the image, open or closed.

    The same scan finds the canary where it is written outside the encrypted directory.
    """
    image = place / "volumes" / f"{APP}.img"
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / CANARY.decode()).mkdir()
    (where / CANARY.decode() / "file").write_bytes(CANARY * 5000)
    (where / "small").write_bytes(CANARY)
    (where / "link").symlink_to(CANARY.decode())
    (where / "deleted").write_bytes(CANARY * 5000)
    os.sync()
    (where / "deleted").unlink()
    os.sync()
    assert not find_in_file(image, CANARY)
    await driver.close(mountpoint)
    assert not find_in_file(image, CANARY)
    await driver.open(APP, KEY, SIZE, mountpoint)
    (mountpoint / "clear").write_bytes(CANARY)
    await driver.close(mountpoint)
    assert find_in_file(image, CANARY)


async def test_closed_volume_is_gone_from_the_kernel(
    driver: FscryptDriver, mountpoint: Path, place: Path
) -> None:
    """After close there is no mount and no loop device, and without the key names are noise."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / "secret-name").write_text("x")
    await driver.close(mountpoint)
    assert str(place) not in Path("/proc/mounts").read_text()
    assert str(place) not in subprocess.run(["losetup", "-a"], capture_output=True).stdout.decode()
    other = place / "other"
    other.mkdir()
    subprocess.run(["mount", "-o", "loop", place / "volumes" / f"{APP}.img", other], check=True)
    names = os.listdir(other / "volume")
    assert len(names) == 1
    assert "secret-name" not in names
    with pytest.raises(OSError, match="key") as caught:
        (other / "volume" / names[0]).read_text()
    assert caught.value.errno == errno.ENOKEY


async def test_full_volume_is_enospc_and_the_host_goes_on(
    driver: FscryptDriver, mountpoint: Path
) -> None:
    """A volume ends at its size with ENOSPC, and what was written before reads back."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / "before").write_text("kept")
    with pytest.raises(OSError, match="No space left") as caught:
        (where / "big").write_bytes(bytes(SIZE))
    assert caught.value.errno == errno.ENOSPC
    await driver.close(mountpoint)
    assert (await driver.open(APP, KEY, SIZE, mountpoint) / "before").read_text() == "kept"


async def test_images_never_promise_more_than_there_is(
    driver: FscryptDriver, mountpoint: Path, place: Path
) -> None:
    """The room that sparse images of other apps may still take counts as taken."""
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    other = place / "volumes" / f"{'b' * 32}.img"
    other.touch()
    os.truncate(other, free - SIZE)
    with pytest.raises(VolumeError, match=r"no space left: .* other apps may grow by .* GiB"):
        await driver.open(APP, KEY, 2 * SIZE, mountpoint)
    os.truncate(other, 0)
    await driver.open(APP, KEY, 2 * SIZE, mountpoint)


async def test_volume_grows_and_keeps_its_files(driver: FscryptDriver, mountpoint: Path) -> None:
    """A larger size takes effect at the next open; a smaller one changes nothing."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / "kept").write_text("x")
    await driver.close(mountpoint)
    for asked in (3 * SIZE, SIZE):
        await driver.open(APP, KEY, asked, mountpoint)
        facts = os.statvfs(where)
        assert facts.f_blocks * facts.f_frsize > 2 * SIZE
        assert (where / "kept").read_text() == "x"
        await driver.close(mountpoint)


async def test_deleted_files_give_their_room_back(
    driver: FscryptDriver, mountpoint: Path, place: Path
) -> None:
    """The sparse image shrinks on the host when files in it are deleted."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    image = place / "volumes" / f"{APP}.img"
    (where / "big").write_bytes(os.urandom(30 * 2**20))
    os.sync()
    used = image.stat().st_blocks * 512
    (where / "big").unlink()
    await driver.close(mountpoint)
    assert image.stat().st_blocks * 512 < used - 25 * 2**20


async def test_bare_mountpoint_takes_no_file(driver: FscryptDriver, mountpoint: Path) -> None:
    """While a volume is closed even root cannot leave plaintext in its mount point."""
    await driver.open(APP, KEY, SIZE, mountpoint)
    await driver.close(mountpoint)
    assert mountpoint.stat().st_mode & 0o777 == 0
    with pytest.raises(PermissionError):
        (mountpoint / "leak").write_text("x")


async def test_plaintext_in_the_mountpoint_stops_the_open(
    driver: FscryptDriver, mountpoint: Path
) -> None:
    """Files found in a bare mount point are told instead of being covered."""
    mountpoint.mkdir(parents=True)
    (mountpoint / "leak").write_text("x")
    with pytest.raises(VolumeError, match="mount point is not empty"):
        await driver.open(APP, KEY, SIZE, mountpoint)


async def test_proof_fails_on_each_sabotage(
    driver: FscryptDriver, mountpoint: Path, place: Path
) -> None:
    """Each way to fake or spoil the mount is told apart."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    await host.run_checked(["mount", "-t", "tmpfs", "none", str(where)], deadline_s=10)
    with pytest.raises(VolumeError, match="something else is mounted over it"):
        await driver.prove(mountpoint, KEY)
    await host.run_checked(["umount", str(where)], deadline_s=10)
    await host.run_checked(["mount", "-o", "remount,dev", str(mountpoint)], deadline_s=10)
    with pytest.raises(VolumeError, match="not mounted nosuid,nodev"):
        await driver.prove(mountpoint, KEY)
    await host.run_checked(["mount", "-o", "remount,nodev", str(mountpoint)], deadline_s=10)
    await driver.prove(mountpoint, KEY)
    kernel.remove_key(mountpoint, kernel.derive_identifier(KEY))
    with pytest.raises(VolumeError, match="locked"):
        await driver.prove(mountpoint, KEY)
    where.rename(mountpoint / "moved")
    where.mkdir()
    with pytest.raises(VolumeError, match="not encrypted"):
        await driver.prove(mountpoint, KEY)
    with pytest.raises(VolumeError, match="not encrypted"):
        await driver.open(APP, KEY, SIZE, mountpoint)
    await driver.destroy(APP, mountpoint)
    mountpoint.mkdir()
    await host.run_checked(["mount", "-t", "tmpfs", "none", str(mountpoint)], deadline_s=10)
    with pytest.raises(VolumeError, match="not one of our volumes"):
        await driver.prove(mountpoint, KEY)
    with pytest.raises(VolumeError, match="not one of our volumes"):
        await driver.close(mountpoint)


async def test_locked_but_mounted_volume_is_opened_again(
    driver: FscryptDriver, mountpoint: Path
) -> None:
    """A crash between locking and unmounting is mended by the next open."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / "kept").write_text("x")
    kernel.remove_key(mountpoint, kernel.derive_identifier(KEY))
    assert (await driver.open(APP, KEY, SIZE, mountpoint) / "kept").read_text() == "x"


async def test_busy_volume_says_who_holds_it_and_closes_later(
    driver: FscryptDriver, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing under a process that has a file open fails with its name; afterwards it succeeds."""
    monkeypatch.setattr(fscrypt, "LOCK_PATIENCE_S", 0.2)
    monkeypatch.setattr(mounts, "UNMOUNT_PATIENCE_S", 0.2)
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    (where / "f").write_text("x")
    child = await host.spawn(["sleep", "60"], stdout=where / "f")
    with pytest.raises(VolumeError, match=rf"held by sleep pid {child.pid}"):
        await driver.close(mountpoint)
    with pytest.raises(OSError, match="key"):
        (where / "new").write_text("x")
    await child.terminate(grace_s=5)
    await driver.close(mountpoint)
    assert await driver.list_open() == []


async def test_remnants_of_a_crash_are_cleaned(
    driver: FscryptDriver, place: Path, mountpoint: Path
) -> None:
    """Half-made images, probes and loop devices without a mount go; open volumes stay."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    volumes = place / "volumes"
    (volumes / f"{'c' * 32}.making").write_bytes(bytes(4096))
    lost = volumes / f"{'d' * 32}.img"
    lost.write_bytes(bytes(2**20))
    for _ in range(2):
        await host.run_checked(["losetup", "--find", str(lost)], deadline_s=10)
    await driver.open("probe-0123", KEY, SIZE, volumes / "probe-0123.mount")
    lost.unlink()
    assert await FscryptDriver(volumes).clean() == []
    assert sorted(path.name for path in volumes.iterdir()) == [f"{APP}.img"]
    assert len(list(Path("/sys/block").glob("loop*/loop/backing_file"))) >= 1
    loops = subprocess.run(["losetup", "-a"], capture_output=True).stdout.decode()
    assert loops.count(str(place)) == 1
    assert await driver.prove(mountpoint, KEY) == where


async def test_deleted_image_that_is_still_mounted_is_told(
    driver: FscryptDriver, place: Path, mountpoint: Path
) -> None:
    """An image without a name that something still mounts is reported, and can be closed."""
    await driver.open(APP, KEY, SIZE, mountpoint)
    (place / "volumes" / f"{APP}.img").unlink()
    left = await driver.clean()
    assert len(left) == 1
    assert "still holds the deleted image" in left[0]
    await driver.close(mountpoint)
    assert await driver.clean() == []


async def test_interrupted_making_of_the_directory_is_mended(
    driver: FscryptDriver, mountpoint: Path
) -> None:
    """A crash before the encrypted directory got its name does not keep the volume from opening."""
    where = await driver.open(APP, KEY, SIZE, mountpoint)
    where.rename(where.with_name(".volume.making"))
    assert await driver.open(APP, KEY, SIZE, mountpoint) == where


async def test_damaged_image_is_one_line(
    driver: FscryptDriver, place: Path, mountpoint: Path
) -> None:
    """An image that is no file system is an error that names mount, and nothing stays attached."""
    (place / "volumes" / f"{APP}.img").write_bytes(os.urandom(2**20))
    with pytest.raises(VolumeError) as caught:
        await driver.open(APP, KEY, SIZE, mountpoint)
    assert "\n" not in str(caught.value)
    assert await driver.clean() == []


async def test_missing_program_is_named_with_its_package(
    driver: FscryptDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without mkfs.ext4 the probe says which package to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(host, "SYSTEM_FOLDERS", "/nowhere")
    with pytest.raises(host.HostError, match=r"mkfs.ext4 is not installed \(Debian: .*e2fsprogs"):
        await driver.probe()


async def test_unencrypting_driver_fails_its_probe(
    driver: FscryptDriver, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the directory were not really encrypted, the probe would say so and leave nothing."""

    def skip(path: Path, identifier: bytes) -> None:
        return None

    monkeypatch.setattr(kernel, "set_policy", skip)
    with pytest.raises(VolumeError, match="not encrypted"):
        await driver.probe()
    monkeypatch.setattr(kernel, "read_policy", lambda path: kernel.derive_identifier(bytes(64)))
    monkeypatch.setattr(fscrypt.secrets, "token_bytes", lambda size: bytes(size))
    with pytest.raises(VolumeError, match="on the disk in the clear"):
        await driver.probe()
    assert list((place / "volumes").iterdir()) == []
