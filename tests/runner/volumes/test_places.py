"""What the places of volumes must hold."""

from pathlib import Path

import pytest

from runner.volumes import VolumeError
from runner.volumes.places import delete_places, refuse_foreign

APP, OTHER = "a" * 32, "b" * 32


def _make_all(directory: Path, volume_id: str) -> None:
    (directory / f"{volume_id}.img").touch()
    (directory / f"{volume_id}.gocryptfs").mkdir()
    (directory / "plain").mkdir(exist_ok=True)
    (directory / "plain" / f"{volume_id}-0").mkdir()


def test_deleting_takes_every_place_of_one_volume(tmp_path: Path) -> None:
    """All that any driver keeps of a volume goes, and nothing of another volume."""
    _make_all(tmp_path, APP)
    _make_all(tmp_path, OTHER)
    delete_places(tmp_path, APP)
    assert [path for path in tmp_path.rglob("*") if APP in path.name] == []
    assert len([path for path in tmp_path.rglob("*") if OTHER in path.name]) == 3


def test_own_volume_is_no_foreign_one(tmp_path: Path) -> None:
    """Only another driver's volume is refused, with both names and what to do."""
    (tmp_path / f"{APP}.img").touch()
    refuse_foreign(tmp_path, APP, "fscrypt")
    refuse_foreign(tmp_path, OTHER, "tmpfs")
    with pytest.raises(VolumeError, match="'fscrypt', but 'tmpfs' is in use now; set"):
        refuse_foreign(tmp_path, APP, "tmpfs")
