"""What image files must hold."""

import os
from pathlib import Path

import pytest

from runner.volumes import VolumeError, images
from runner.volumes.images import SMALLEST_BYTES, Images, require_root

APP = "a" * 32


@pytest.fixture
def made(place: Path) -> Images:
    """Images in an empty directory."""
    return Images(place, ("encrypt",))


async def test_image_is_sparse_private_and_made_once(made: Images, place: Path) -> None:
    """An image has its full size, takes little room, is 0600, and is not made a second time."""
    await made.create(APP, 1 << 30)
    facts = made.path(APP).stat()
    assert facts.st_size == 1 << 30
    assert facts.st_blocks * 512 < 1 << 27
    assert facts.st_mode & 0o777 == 0o600
    await made.create(APP, 1 << 31)
    assert made.path(APP).stat().st_ino == facts.st_ino
    assert [path.name for path in place.iterdir()] == [f"{APP}.img"]


async def test_too_small_is_refused(made: Images, place: Path) -> None:
    """A size that no file system fits in is refused with the least one."""
    with pytest.raises(VolumeError, match="at least 16 MiB"):
        await made.create(APP, SMALLEST_BYTES - 1)
    assert list(place.iterdir()) == []


async def test_failed_making_leaves_no_image(
    made: Images, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When mkfs fails there is neither an image nor a half-made one."""

    async def fail(argv: list[str], *, deadline_s: float) -> None:
        raise VolumeError("mkfs.ext4: no")

    monkeypatch.setattr(images, "run_checked", fail)
    with pytest.raises(VolumeError, match="no"):
        await made.create(APP, SMALLEST_BYTES)
    assert list(place.iterdir()) == []


async def test_interrupted_growth_is_finished_later(made: Images) -> None:
    """An image that was lengthened before a crash gets its file system grown by the next try."""
    await made.create(APP, SMALLEST_BYTES)
    os.truncate(made.path(APP), 4 * SMALLEST_BYTES)
    assert images._read_filesystem_bytes(made.path(APP)) == SMALLEST_BYTES
    await made.grow(APP, 4 * SMALLEST_BYTES)
    assert images._read_filesystem_bytes(made.path(APP)) == 4 * SMALLEST_BYTES


async def test_growth_beyond_the_free_room_changes_nothing(made: Images) -> None:
    """An image is not lengthened past what its disk can hold."""
    await made.create(APP, SMALLEST_BYTES)
    with pytest.raises(VolumeError, match="no space left"):
        await made.grow(APP, 1 << 50)
    assert made.path(APP).stat().st_size == SMALLEST_BYTES


def test_ordinary_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root there are no images to mount."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(VolumeError, match="needs root"):
        require_root()


def test_other_loop_devices_are_not_ours(made: Images) -> None:
    """Loop devices on files elsewhere are never listed."""
    assert made.list_loops() == []
    assert made.find_image("7:999") is None
