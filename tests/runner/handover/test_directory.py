"""What the hand-over of identities and secrets through RAM must hold."""

import json
import os
import subprocess
import tempfile
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runner.handover import directory as room
from runner.handover.directory import Handover, HandoverError, open_handover
from runner.ram import is_ram
from runner.volumes import VolumeError, mounts
from runner.volumes.mounts import find_mount

AGENT, APP = 64996, 64997
IDENTITY = {"tls.key": b"KEY", "tls.crt": b"CRT", "agent.json": b"{}"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory that other uids may pass through, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="lockgate-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(
    params=[pytest.param("mount", marks=[pytest.mark.root, needs_root]), "shared"],
)
async def handover(
    request: pytest.FixtureRequest, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Handover]:
    """A hand-over on a mount of its own, and one in a tmpfs of the host."""
    if request.param == "shared":
        await _refuse_mounts(monkeypatch)
    opened = await open_handover(run_dir)
    yield opened
    opened.close()


async def _refuse_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*args: object) -> None:
        raise VolumeError("not permitted")

    monkeypatch.setattr(room, "mount_tmpfs", refuse)


def _owner(uid: int) -> int | None:
    return uid if os.geteuid() == 0 else None


async def test_everything_lies_in_ram(handover: Handover) -> None:
    """The root is on a tmpfs by the kernel's own table."""
    assert is_ram(handover.root)
    handover.write_identity("hello", 1, IDENTITY, _owner(AGENT))
    assert is_ram(handover.identity_dir("hello", 1) / "tls.key")


async def test_identity_and_secrets_reach_their_readers(handover: Handover) -> None:
    """What was written is read back in the forms that agent and app expect."""
    handover.write_identity("hello", 3, IDENTITY, _owner(AGENT))
    handover.write_secrets("hello", 3, {"TOKEN": "a", "db.url": "b"}, _owner(APP))
    assert handover.read_identity("hello", 3, "tls.crt") == b"CRT"
    folder = handover.secrets_dir("hello", 3)
    assert json.loads((folder / "env.json").read_bytes()) == {"TOKEN": "a"}
    assert tomllib.loads((folder / "secrets.toml").read_text()) == {
        "TOKEN": "a",
        "db": {"url": "b"},
    }
    assert handover.list_generations() == [("hello", 3)]


@pytest.mark.root
@needs_root
async def test_other_uids_read_nothing(handover: Handover) -> None:
    """The app cannot read the agent's key, nor the agent the app's secrets, nor others either."""
    handover.write_identity("hello", 1, IDENTITY, AGENT)
    handover.write_secrets("hello", 1, {"TOKEN": "a"}, APP)
    key = handover.identity_dir("hello", 1) / "tls.key"
    env = handover.secrets_dir("hello", 1) / "env.json"
    expected = {
        (key, AGENT): True,
        (key, APP): False,
        (env, AGENT): False,
        (env, APP): True,
        (key, 65534): False,
        (env, 65534): False,
    }
    for (path, uid), may in expected.items():
        done = subprocess.run(["cat", path], user=uid, group=uid, extra_groups=[], check=False)
        assert (done.returncode == 0) is may, (path, uid)


async def test_secret_that_was_removed_is_gone(handover: Handover) -> None:
    """Writing the secrets anew leaves no trace of one that is no longer there."""
    handover.write_secrets("hello", 1, {"OLD": "canary-77"}, _owner(APP))
    handover.write_secrets("hello", 1, {"NEW": "x"}, _owner(APP))
    texts = [path.read_text() for path in handover.root.rglob("*") if path.is_file()]
    assert texts
    assert not any("canary-77" in text for text in texts)


async def test_removal_takes_one_generation_then_the_app(handover: Handover) -> None:
    """Removing a generation leaves the others; removing the app leaves nothing; twice is fine."""
    for number in (1, 2):
        handover.write_identity("hello", number, IDENTITY, _owner(AGENT))
    handover.remove("hello", 1)
    assert handover.list_generations() == [("hello", 2)]
    handover.remove("hello", 1)
    handover.remove_app("hello")
    handover.remove_app("hello")
    assert list((handover.root / "apps").iterdir()) == []
    with pytest.raises(HandoverError, match=r"hello/2: no tls\.key in RAM"):
        handover.read_identity("hello", 2, "tls.key")


async def test_second_opening_adopts_what_is_there(handover: Handover, run_dir: Path) -> None:
    """A runner that was killed finds what it handed over."""
    handover.write_identity("hello", 1, IDENTITY, _owner(AGENT))
    again = await open_handover(run_dir)
    assert again.root == handover.root
    assert again.is_mount == handover.is_mount
    assert again.read_identity("hello", 1, "tls.key") == b"KEY"


async def test_closing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After close there is no mount, no directory and no file, by mount or in a shared place."""
    for is_shared in (False, True):
        if is_shared:
            await _refuse_mounts(monkeypatch)
        opened = await open_handover(tmp_path)
        opened.write_identity("hello", 1, IDENTITY, _owner(AGENT))
        opened.close()
        assert not opened.root.exists()
        assert find_mount(opened.root) is None
        assert list(tmp_path.iterdir()) == []


@pytest.mark.root
@needs_root
async def test_mount_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing while a process sits in the RAM directory names it; afterwards it closes."""
    monkeypatch.setattr(mounts, "UNMOUNT_PATIENCE_S", 0.2)
    opened = await open_handover(tmp_path)
    sitting = subprocess.Popen(["sleep", "60"], cwd=opened.root)
    try:
        with pytest.raises(HandoverError, match=rf"held by sleep pid {sitting.pid}"):
            opened.close()
    finally:
        sitting.kill()
        sitting.wait()
        opened.close()


@pytest.mark.root
@needs_root
async def test_foreign_mount_is_refused(tmp_path: Path) -> None:
    """Another file system in the RAM directory's place is not used."""
    (tmp_path / "ram").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "other", tmp_path / "ram"], check=True)
    try:
        with pytest.raises(HandoverError, match="something else than our tmpfs"):
            await open_handover(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path / "ram"], check=True)


async def test_without_ram_there_is_no_handover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no tmpfs is to be had the error names each place and why."""
    await _refuse_mounts(monkeypatch)
    monkeypatch.setattr(room, "list_shared_places", lambda env: (tmp_path, tmp_path / "none"))
    with pytest.raises(HandoverError, match=r"is not in RAM; .*none does not exist"):
        await open_handover(tmp_path)


async def test_bad_secret_names_the_app(handover: Handover) -> None:
    """Secrets that make no document are an error with the app and without a value."""
    with pytest.raises(HandoverError, match="hello: 'a' is a value and a table") as caught:
        handover.write_secrets("hello", 1, {"a": "canary-1", "a.b": "canary-2"}, None)
    assert "canary" not in str(caught.value)
