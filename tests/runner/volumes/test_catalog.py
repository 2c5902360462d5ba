"""What choosing a volume driver must hold."""

import asyncio
import concurrent.futures.thread  # noqa: F401 (a forked child cannot read our interpreter's files)
import ctypes
import os
import stat
import subprocess
import traceback
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from runner.handover.directory import open_handover
from runner.volumes import VolumeError, catalog
from runner.volumes.catalog import AUTO, KINDS, build_driver, build_drivers, choose_volume_driver
from runner.volumes.probe import find_in_file

from .conftest import KEY, SIZE, needs_gocryptfs, needs_root

NOBODY = 65534  # fusermount3 wants a uid that has a name
CLONE_NEWNS = 0x20000
APP = "a" * 32


def test_every_kind_is_built_by_its_name(place: Path) -> None:
    """Each name of the configuration makes the driver of that name."""
    for kind in KINDS[1:]:
        assert build_driver(kind, place / "volumes").name == kind
    with pytest.raises(VolumeError, match=r"'luks2' is none of auto, fscrypt,"):
        build_driver("luks2", place / "volumes")


def test_the_clear_is_never_tried_by_itself(place: Path) -> None:
    """`auto` tries encrypted drivers only; another name tries that one alone."""
    tried = build_drivers("auto", place / "volumes")
    assert [driver.name for driver in tried] == list(AUTO)
    assert all(driver.is_encrypted for driver in tried)
    assert [driver.name for driver in build_drivers("none", place / "volumes")] == ["none"]


@pytest.mark.root
@needs_root
async def test_first_choice_here_is_what_works(place: Path) -> None:
    """`auto` takes a driver that works on this machine; those before it have their reasons."""
    choice = await choose_volume_driver("auto", place / "volumes")
    before = AUTO[: AUTO.index(choice.driver.name)]
    assert tuple(item.name for item in choice.skipped) == before
    assert all(item.reason for item in choice.skipped)


async def test_nothing_that_works_is_told_with_the_remedy(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no driver works the error has each reason and how to go on."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        VolumeError, match=r"\(fscrypt: needs root\); install .*runner.volumes.encryption to none"
    ):
        await choose_volume_driver("fscrypt", place / "volumes")


def _as_nobody(place: Path, work: Callable[[], Coroutine[None, None, None]]) -> str:
    """Run a coroutine in a child that is an ordinary user; empty, or what went wrong."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        text = ""
        try:
            _open_fuse_to_all(place)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            asyncio.run(work())
        except BaseException:
            text = traceback.format_exc()
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


def _open_fuse_to_all(place: Path) -> None:
    """Where only root may use /dev/fuse: in a mount namespace of our own, let everybody."""
    if os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        return
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        raise OSError("unshare failed")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    os.mknod(place / "fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
    os.chmod(place / "fuse", 0o666)
    subprocess.run(["mount", "--bind", place / "fuse", "/dev/fuse"], check=True)
    os.unlink(place / "fuse")


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    "kind", ["auto", pytest.param("gocryptfs", marks=needs_gocryptfs), "tmpfs", "none"]
)
def test_ordinary_user_has_volumes_too(place: Path, kind: str) -> None:
    """Without root a driver is found, keeps a volume through open and close, and leaves nothing."""
    os.chown(place, NOBODY, NOBODY)
    canary = b"canary-18a7-of-an-ordinary-user"

    async def work() -> None:
        choice = await choose_volume_driver(kind, place / "volumes")
        driver, mountpoint = choice.driver, place / "run" / "hello"
        where = await driver.open(APP, KEY, SIZE, mountpoint)
        (where / canary.decode()).write_bytes(canary)
        assert await driver.open(APP, KEY, SIZE, mountpoint) == where
        files = [path for path in (place / "volumes").rglob("*") if path.is_file()]
        assert driver.is_encrypted != any(find_in_file(path, canary) for path in files)
        await driver.close(mountpoint)
        again = await driver.open(APP, KEY, SIZE, mountpoint)
        assert (again / canary.decode()).exists() == (driver.name != "tmpfs")
        await driver.destroy(APP, mountpoint)
        assert await driver.list_open() == []
        left = [path for path in place.rglob("*") if path.name not in ("volumes", "plain", "run")]
        assert left == []

    said = _as_nobody(place, work)
    assert not said, said.splitlines()[-1]


@pytest.mark.root
@needs_root
def test_ordinary_user_has_a_handover_too(place: Path) -> None:
    """Without root identities and secrets go through a shared tmpfs, and nothing is left of it."""
    os.chown(place, NOBODY, NOBODY)

    async def work() -> None:
        for _ in range(2):
            handover = await open_handover(place)
            handover.write_identity("hello", 1, {"tls.key": b"1"}, None)
            handover.write_identity("hello", 1, {"tls.key": b"2"}, None)
            handover.write_secrets("hello", 1, {"A": "x"}, None)
        assert not handover.is_mount
        assert handover.read_identity("hello", 1, "tls.key") == b"2"
        handover.remove("hello", 1)
        handover.write_secrets("hello", 2, {"A": "x"}, None)
        handover.close()
        assert not handover.root.exists()

    said = _as_nobody(place, work)
    assert not said, said.splitlines()[-1]


def test_order_prefers_what_the_kernel_does(place: Path) -> None:
    """The order is: encryption by the kernel, by a program, RAM."""
    assert catalog.AUTO == ("fscrypt", "gocryptfs", "tmpfs")
