"""What finding and making directories in RAM must hold."""

import os
from pathlib import Path

import pytest

from runner import ram
from runner.ram import (
    check_memory,
    has_swap,
    is_ram,
    list_shared_places,
    make_own_directory,
    pick_shared_place,
)
from runner.volumes import NoSpaceError, VolumeError


def test_disk_is_not_taken_for_ram(tmp_path: Path) -> None:
    """/dev/shm is RAM by the mount table; a directory on a disk is not."""
    assert is_ram(Path("/dev/shm"))
    assert not is_ram(tmp_path) or os.environ.get("TMPDIR", "").startswith("/dev/shm")


def test_each_place_has_its_reason(tmp_path: Path) -> None:
    """When no place will do, the error says of each why."""
    places = (tmp_path, tmp_path / "nowhere")
    with pytest.raises(VolumeError, match=r"is not in RAM; .*nowhere does not exist"):
        pick_shared_place(places, 1, runs_programs=False)


def test_lack_of_room_is_told_with_numbers() -> None:
    """A place that is RAM and too small makes it an error of room."""
    with pytest.raises(NoSpaceError, match=r"^no space left: 1024 TiB in RAM are asked for"):
        pick_shared_place((Path("/dev/shm"),), 1 << 50, runs_programs=False)


def test_memory_beyond_the_machine_is_refused() -> None:
    """More than what is available is refused; a little is not."""
    check_memory(4096)
    with pytest.raises(NoSpaceError, match="in RAM is asked for"):
        check_memory(1 << 50)


def test_own_directory_is_closed_and_never_a_link(tmp_path: Path) -> None:
    """Our directory is tightened to 0700; a link in its place is refused."""
    (tmp_path / "d").mkdir(mode=0o755)
    assert make_own_directory(tmp_path, "d").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "d")
    with pytest.raises(VolumeError, match="belongs to another user"):
        make_own_directory(tmp_path, "link")


def test_runtime_directory_is_a_place_only_if_there_is_one() -> None:
    """The usual tmpfs comes first, the session's own directory after it."""
    assert list_shared_places({}) == (Path("/dev/shm"),)
    assert list_shared_places({"XDG_RUNTIME_DIR": "/run/user/1"})[1] == Path("/run/user/1")


@pytest.mark.parametrize(
    ("rows", "is_on"),
    [
        ([], False),
        (["/dev/zram0 partition 1 0 -2"], False),
        (["/dev/vda2 partition 1 0 -2"], True),
        (["/dev/zram0 partition 1 0 -2", "/swapfile file 1 0 -3"], True),
    ],
)
def test_swap_in_compressed_memory_is_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[str], is_on: bool
) -> None:
    """Swap on a disk or in a file counts, compressed memory does not."""
    table = tmp_path / "swaps"
    table.write_text("\n".join(["Filename Type Size Used Priority", *rows]))
    monkeypatch.setattr(ram, "Path", lambda name: table)
    assert has_swap() is is_on
