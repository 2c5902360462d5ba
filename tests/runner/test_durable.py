"""What durable files must hold."""

import os
import threading
from pathlib import Path

import pytest

from runner.durable import lock_directory, make_private_directory, save_file, shred_file


def test_saved_file_is_private_and_leaves_nothing_else(tmp_path: Path) -> None:
    """A saved file is 0600 whatever the umask, and no scratch file stays behind."""
    before = os.umask(0)
    try:
        save_file(tmp_path / "a.json", b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_failed_save_keeps_the_old_content(tmp_path: Path) -> None:
    """When the new content cannot be put in place, the old stays and the scratch file goes."""
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "x").write_text("kept")
    with pytest.raises(OSError, match="directory"):
        save_file(tmp_path / "busy", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["busy"]


def test_shredding_save_overwrites_the_replaced_content(tmp_path: Path) -> None:
    """What the file held before is overwritten, seen through a hard link to its old blocks."""
    save_file(tmp_path / "a", b"old key material")
    os.link(tmp_path / "a", tmp_path / "witness")
    save_file(tmp_path / "a", b"new", shred=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert b"old key" not in (tmp_path / "witness").read_bytes()


def test_shred_overwrites_and_unlinks(tmp_path: Path) -> None:
    """A shredded file is gone and its blocks are overwritten; a missing one is no error."""
    save_file(tmp_path / "a", b"key material")
    os.link(tmp_path / "a", tmp_path / "witness")
    assert shred_file(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert b"key" not in (tmp_path / "witness").read_bytes()
    assert not shred_file(tmp_path / "a")


def test_shred_does_not_follow_a_link(tmp_path: Path) -> None:
    """A symbolic link in a file's place is refused, and what it points to is untouched."""
    (tmp_path / "target").write_text("precious")
    (tmp_path / "a").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"):
        shred_file(tmp_path / "a")
    assert (tmp_path / "target").read_text() == "precious"


def test_lock_excludes_other_threads(tmp_path: Path) -> None:
    """Read-modify-write under the lock loses no update among eight threads."""
    save_file(tmp_path / "n", b"0")

    def add() -> None:
        for _ in range(10):
            with lock_directory(tmp_path):
                save_file(tmp_path / "n", str(int((tmp_path / "n").read_bytes()) + 1).encode())

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "n").read_bytes() == b"80"


def test_existing_directory_is_tightened(tmp_path: Path) -> None:
    """A directory that others could read is closed to them."""
    (tmp_path / "d").mkdir(mode=0o755)
    make_private_directory(tmp_path / "d")
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
