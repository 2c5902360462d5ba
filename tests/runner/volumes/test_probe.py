"""What the marker of a probe must hold."""

from pathlib import Path

import pytest

from runner.volumes import VolumeError
from runner.volumes.probe import find_in_file, leave_marker, require_no_marker


def test_marker_in_the_clear_is_found(tmp_path: Path) -> None:
    """A marker left in a plain directory is found in the contents and in the name."""
    leave_marker(tmp_path, b"marker-123")
    with pytest.raises(VolumeError, match="in the clear"):
        require_no_marker([tmp_path / "marker-123"], b"marker-123")
    (tmp_path / "marker-123").rename(tmp_path / "other")
    with pytest.raises(VolumeError, match="in the clear"):
        require_no_marker([tmp_path / "other"], b"marker-123")
    (tmp_path / "other").write_bytes(b"")
    require_no_marker([tmp_path / "other"], b"marker-123")


def test_search_crosses_every_boundary(tmp_path: Path) -> None:
    """What is searched for is found at the start, the end and across pages; nothing else is."""
    for offset in (0, 4090, 65530, 1 << 20):
        path = tmp_path / "file"
        path.write_bytes(bytes(offset) + b"needle-in-it")
        assert find_in_file(path, b"needle-in-it")
        assert not find_in_file(path, b"needle-not-in-it")
