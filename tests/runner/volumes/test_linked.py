"""What volumes reached through a link must hold."""

import os
from pathlib import Path

import pytest

from runner.volumes import OpenVolume, VolumeError
from runner.volumes.linked import (
    build_digest,
    close_linked,
    delete_linked,
    list_linked,
    open_linked,
    prove_linked,
)

from .conftest import KEY, OTHER_KEY

APP = "a" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the volumes are."""
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_link_leads_to_a_directory_named_by_volume_and_key(root: Path, tmp_path: Path) -> None:
    """Opening links the mount point to the directory of this volume and key."""
    where = open_linked(root, APP, KEY, tmp_path / "run" / "app")
    assert where == root / f"{APP}-{build_digest(KEY)}"
    assert (tmp_path / "run" / "app").readlink() == where
    assert list_linked(root) == [OpenVolume(APP, tmp_path / "run" / "app")]
    assert prove_linked(root, tmp_path / "run" / "app", KEY) == where


def test_dangling_link_of_ours_is_renewed(root: Path, tmp_path: Path) -> None:
    """After a reboot emptied the RAM, a link that leads nowhere does not stop the open."""
    where = open_linked(root, APP, KEY, tmp_path / "app")
    delete_linked(root, APP)
    assert list_linked(root) == []
    (tmp_path / "app").unlink()
    (tmp_path / "app").symlink_to(root / "nothing")
    assert open_linked(root, APP, KEY, tmp_path / "app") == where


def test_links_that_lead_elsewhere_prove_nothing(root: Path, tmp_path: Path) -> None:
    """A link out of the root, to a link in it, or to a directory others may write is refused."""
    where = open_linked(root, APP, KEY, tmp_path / "app")
    digest = build_digest(KEY)
    outside = tmp_path / f"x-{digest}"
    outside.mkdir()
    (root / f"y-{digest}").symlink_to(outside)
    for target in (outside, root / f"y-{digest}", root / f"z-{digest}"):
        (tmp_path / "app").unlink()
        (tmp_path / "app").symlink_to(target)
        with pytest.raises(VolumeError, match="does not lead to a volume of ours"):
            prove_linked(root, tmp_path / "app", KEY)
    (tmp_path / "app").unlink()
    (tmp_path / "app").symlink_to(where)
    where.chmod(0o777)
    with pytest.raises(VolumeError, match="others may write there"):
        prove_linked(root, tmp_path / "app", KEY)


def test_close_leaves_what_is_not_ours(root: Path, tmp_path: Path) -> None:
    """Closing removes a link into the root only."""
    (tmp_path / "app").symlink_to(tmp_path)
    with pytest.raises(VolumeError, match="not one of our volumes"):
        close_linked(root, tmp_path / "app")
    (tmp_path / "app").unlink()
    (tmp_path / "app").mkdir()
    with pytest.raises(VolumeError, match="not one of our volumes"):
        close_linked(root, tmp_path / "app")
    assert close_linked(root, tmp_path / "nothing") is None


def test_volume_under_another_key_is_refused(root: Path, tmp_path: Path) -> None:
    """A volume that exists under one key is not made again under another."""
    open_linked(root, APP, KEY, tmp_path / "app")
    with pytest.raises(VolumeError, match="made under another key"):
        open_linked(root, APP, OTHER_KEY, tmp_path / "app2")


def test_delete_takes_links_without_following_them(root: Path, tmp_path: Path) -> None:
    """Deleting a volume removes its directory and record, and never what a link points to."""
    open_linked(root, APP, KEY, tmp_path / "app")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").touch()
    (root / f"{APP}-link").symlink_to(tmp_path / "victim")
    delete_linked(root, APP)
    assert os.listdir(root) == []
    assert (tmp_path / "victim" / "file").exists()
