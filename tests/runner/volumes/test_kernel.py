"""What the calls to the kernel's file encryption must hold."""

from pathlib import Path

import pytest

from runner.volumes import VolumeError, kernel
from runner.volumes.fscrypt import FscryptDriver

from .conftest import KEY, OTHER_KEY, SIZE, needs_root


@pytest.mark.root
@needs_root
async def test_identifier_is_the_kernels(place: Path) -> None:
    """The identifier we derive from a key is the one that the kernel answers with."""
    await FscryptDriver(place / "volumes").open("a" * 32, KEY, SIZE, place / "run")
    assert kernel.add_key(place / "run", OTHER_KEY) == kernel.derive_identifier(OTHER_KEY)
    assert kernel.derive_identifier(KEY) != kernel.derive_identifier(OTHER_KEY)


@pytest.mark.root
@needs_root
async def test_status_follows_the_key(place: Path) -> None:
    """A key is absent, present after adding, absent after removing; removing twice is no error."""
    await FscryptDriver(place / "volumes").open("a" * 32, KEY, SIZE, place / "run")
    identifier = kernel.derive_identifier(OTHER_KEY)
    assert kernel.read_key_status(place / "run", identifier) is kernel.KeyStatus.absent
    kernel.add_key(place / "run", OTHER_KEY)
    assert kernel.read_key_status(place / "run", identifier) is kernel.KeyStatus.present
    for _ in range(2):
        assert kernel.remove_key(place / "run", identifier) is kernel.KeyStatus.absent


@pytest.mark.root
@needs_root
async def test_policy_needs_an_empty_directory(place: Path) -> None:
    """A policy is refused for a directory that holds something; without one there is none."""
    await FscryptDriver(place / "volumes").open("a" * 32, KEY, SIZE, place / "run")
    full, empty = place / "run" / "full", place / "run" / "empty"
    (full / "x").mkdir(parents=True)
    empty.mkdir()
    with pytest.raises(VolumeError, match="not empty"):
        kernel.set_policy(full, kernel.derive_identifier(KEY))
    assert kernel.read_policy(empty) is None


def test_file_system_without_encryption_is_told() -> None:
    """Where the file system cannot encrypt, adding a key says so and there is no policy."""
    with pytest.raises(VolumeError, match="cannot add a key: this file system has no encryption"):
        kernel.add_key(Path("/dev/shm"), KEY)
    assert kernel.read_policy(Path("/dev/shm")) is None


def test_missing_and_linked_directories_are_refused(place: Path) -> None:
    """A path that is missing or a link is an error with its name."""
    (place / "link").symlink_to("/dev/shm")
    for name in ("nowhere", "link"):
        with pytest.raises(VolumeError, match=str(place / name)):
            kernel.read_policy(place / name)
