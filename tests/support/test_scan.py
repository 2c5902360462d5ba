"""The raw scan finds what it is meant to find: without this, 0 hits would prove nothing."""

import base64
import os
from pathlib import Path

import pytest

from tests.support.scan import CHUNK_BYTES, Canaries, scan_deleted_files, scan_tree


def test_plain_canary_is_found_with_its_place(tmp_path: Path) -> None:
    """A canary in a file is reported with path, offset and the name it was planted under."""
    canaries = Canaries()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_text("xyz" + canaries.plant("secret"))
    (hit,) = scan_tree([tmp_path], canaries)
    assert (hit.path, hit.offset) == (str(tmp_path / "deep" / "file"), 3)
    assert hit.text == canaries.plant("secret")


@pytest.mark.parametrize("shift", range(3))
def test_base64_hides_no_canary(tmp_path: Path, shift: int) -> None:
    """A canary inside base64 is found at every alignment."""
    canaries = Canaries()
    content = b"#" * shift + canaries.plant("secret").encode() + b"more"
    (tmp_path / "file").write_bytes(base64.b64encode(content))
    assert len(scan_tree([tmp_path], canaries)) == 1


@pytest.mark.parametrize("offset", [CHUNK_BYTES - 10, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
def test_borders_and_holes_hide_no_canary(tmp_path: Path, offset: int) -> None:
    """A canary across a chunk's border or behind a hole is found."""
    canaries = Canaries()
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(5 * CHUNK_BYTES)
        file.seek(offset)
        file.write(canaries.plant("code").encode())
    assert [hit.offset for hit in scan_tree([tmp_path], canaries)] == [offset]


def test_neighbours_hide_no_canary(tmp_path: Path) -> None:
    """Two canaries side by side are two hits."""
    canaries = Canaries()
    (tmp_path / "file").write_text("\0" * 500 + "\0".join(map(canaries.plant, ("code", "log"))))
    assert len(scan_tree([tmp_path], canaries)) == 2


def test_clean_tree_has_no_hits(tmp_path: Path) -> None:
    """Canaries of another run are not ours."""
    (tmp_path / "file").write_text(Canaries().plant("secret"))
    assert scan_tree([tmp_path], Canaries()) == []


def test_deleted_file_is_found(tmp_path: Path) -> None:
    """A canary in a file that is deleted but still open is found."""
    canaries = Canaries()
    path = tmp_path / "spool"
    with path.open("w") as file:
        file.write(canaries.plant("upload"))
        file.flush()
        path.unlink()
        hits = scan_deleted_files(canaries)
    assert [hit.text for hit in hits] == [canaries.plant("upload")]


def test_deleted_file_in_memory_is_no_hit() -> None:
    """RAM is where uploads may live: a memfd is not reported."""
    canaries = Canaries()
    fd = os.memfd_create("spool")
    try:
        os.write(fd, canaries.plant("upload").encode())
        assert scan_deleted_files(canaries) == []
    finally:
        os.close(fd)
