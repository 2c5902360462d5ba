"""What one `lockgate up` claims must hold."""

import os
from pathlib import Path

import pytest

from runner.config import load_config
from runner.errors import StartError
from runner.up.claim import Lock, prepare_dir, prepare_dirs


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    """With the pid, and what to do."""
    first, second = Lock(tmp_path / "up.lock"), Lock(tmp_path / "up.lock")
    first.acquire()
    with pytest.raises(StartError, match=rf"running already \(pid {os.getpid()}\)"):
        second.acquire()
    first.release()
    third = Lock(tmp_path / "up.lock")
    third.acquire()
    third.release()


def test_a_lock_file_of_a_crash_is_no_lock(tmp_path: Path) -> None:
    """Only a living process holds it."""
    (tmp_path / "up.lock").write_text("99999\n")
    lock = Lock(tmp_path / "up.lock")
    lock.acquire()
    assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_directories_get_the_modes_that_processes_rely_on(tmp_path: Path) -> None:
    """As root others may pass, nobody else may write; again changes nothing."""
    dirs = {"LOCKGATE_STATE_DIR": f"{tmp_path}/s/t", "LOCKGATE_RUN_DIR": f"{tmp_path}/r"}
    config = load_config(None, env=dirs)
    for _ in range(2):
        prepare_dirs(config)
    expected = (0o711, 0o755) if os.geteuid() == 0 else (0o700, 0o700)
    modes = tuple(d.stat().st_mode & 0o777 for d in (config.state_dir, config.run_dir))
    assert modes == expected
    assert (config.run_dir / "logs").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """Somebody could have put sockets there before us."""
    open_dir = tmp_path / "open"
    open_dir.mkdir()
    open_dir.chmod(0o777)
    with pytest.raises(StartError, match="chmod go-w"):
        prepare_dir(open_dir, 0o700)


def test_a_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    """A link in /tmp could lead anywhere."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StartError, match="not a directory"):
        prepare_dir(tmp_path / "link", 0o700)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """It is named with its owner."""
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(StartError, match="belongs to uid 12345"):
        prepare_dir(tmp_path / "theirs", 0o700)


def test_a_place_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """One line with the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="set another directory"):
        prepare_dir(tmp_path / "file" / "x", 0o700)
