"""What a directory that is swapped as a whole must hold."""

import contextlib
import os
import threading
from pathlib import Path

import pytest

from runner.handover.swap import read_one, write_all

UID = 64998
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")


def _read(folder: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        return file.read()


def test_files_are_links_into_one_set(tmp_path: Path) -> None:
    """Each name leads through `..data` to a file of 0400 in a directory of 0500."""
    write_all(tmp_path / "d", {"a": b"1", "b.c": b"2"}, None)
    assert (tmp_path / "d" / "a").read_bytes() == b"1"
    assert os.readlink(tmp_path / "d" / "b.c") == "..data/b.c"
    current = tmp_path / "d" / os.readlink(tmp_path / "d" / "..data")
    assert current.stat().st_mode & 0o777 == 0o500
    assert (current / "a").stat().st_mode & 0o777 == 0o400
    assert read_one(tmp_path / "d", "b.c") == b"2"


def test_replaced_set_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    """Files that are no longer given are gone, with their links and the old set."""
    write_all(tmp_path / "d", {"a": b"1", "old": b"2"}, None)
    write_all(tmp_path / "d", {"a": b"3", "new": b"4"}, None)
    names = sorted(os.listdir(tmp_path / "d"))
    assert len(names) == 4
    assert names[1:] == ["..data", "a", "new"] or names[:1] == ["..data"]
    assert read_one(tmp_path / "d", "a") == b"3"
    with pytest.raises(FileNotFoundError):
        read_one(tmp_path / "d", "old")


def test_reader_never_sees_half_of_two_sets(tmp_path: Path) -> None:
    """A reader that enters `..data` once sees a pair that belongs together, in every swap."""
    target = tmp_path / "d"
    write_all(target, {"crt": b"0", "key": b"0"}, None)
    stop, pairs = threading.Event(), list[tuple[bytes, bytes]]()

    def read() -> None:
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):  # replaced meanwhile: read again
                folder = os.open(target / "..data", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    pairs.append((_read(folder, "crt"), _read(folder, "key")))
                finally:
                    os.close(folder)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(150):
        content = str(number).encode()
        write_all(target, {"crt": content, "key": content}, None)
    stop.set()
    reader.join()
    assert len(pairs) > 10
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


@pytest.mark.parametrize("name", ["../x", "/x", ".x", "", "a/b", "..data"])
def test_name_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    """A name that is a path, or one of ours, is refused."""
    with pytest.raises(ValueError, match="not a file name"):
        write_all(tmp_path / "d", {name: b""}, None)
    with pytest.raises(FileNotFoundError):
        read_one(tmp_path, name)


@pytest.mark.root
@needs_root
def test_owner_alone_reads(tmp_path: Path) -> None:
    """The set belongs to the reader's uid, which can read it and not write it."""
    write_all(tmp_path / "d", {"a": b"1"}, UID)
    for path in (tmp_path / "d", (tmp_path / "d" / "a").resolve().parent):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (UID, 0o500)
    assert (tmp_path / "d" / "a").stat().st_uid == UID


@pytest.mark.root
@needs_root
def test_owner_cannot_turn_our_hands_elsewhere(tmp_path: Path) -> None:
    """Links planted by the owner of the directory lead neither our writes nor our reads outside."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "a").write_text("precious")
    target = tmp_path / "d"
    write_all(target, {"a": b"1"}, UID)
    os.unlink(target / "..data")
    os.symlink(victim, target / "..data")
    with pytest.raises(FileNotFoundError):
        read_one(target, "a")
    os.symlink(victim, target / "..0123456789abcdef")
    write_all(target, {"a": b"2"}, UID)
    assert read_one(target, "a") == b"2"
    assert (victim / "a").read_text() == "precious"
    assert not (target / "..0123456789abcdef").exists()
    os.rename(target, tmp_path / "gone")
    os.symlink(victim, target)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        write_all(target, {"a": b"3"}, UID)
    assert (victim / "a").read_text() == "precious"
