"""What the process does to itself; giving up root is tested in a process of its own."""

import os
import socket
from pathlib import Path

import pytest

from gateway.process import StartError, open_control_socket, remove_socket


def test_control_socket_is_made_with_its_directory(tmp_path: Path) -> None:
    """The directory is made, closed to others' writing; every uid may connect and be judged."""
    path = tmp_path / "run" / "gateway.sock"
    with open_control_socket(path):
        assert path.parent.stat().st_mode & 0o777 == 0o755
        assert path.stat().st_mode & 0o777 == 0o666
    remove_socket(path)
    remove_socket(path)
    assert not path.exists()


def test_replaces_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    """What a killed gateway left behind is no obstacle."""
    path = tmp_path / "gateway.sock"
    tmp_path.chmod(0o755)
    open_control_socket(path).close()
    with open_control_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_leaves_a_living_gateway_alone(tmp_path: Path) -> None:
    """A socket that is served is not taken."""
    tmp_path.chmod(0o755)
    path = tmp_path / "gateway.sock"
    with open_control_socket(path), pytest.raises(StartError, match="another gateway"):
        open_control_socket(path)


def test_refuses_a_directory_that_others_can_write(tmp_path: Path) -> None:
    """Who can write the directory could put another socket there."""
    tmp_path.chmod(0o777)
    with pytest.raises(StartError, match="written to by others"):
        open_control_socket(tmp_path / "gateway.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a directory away")
def test_refuses_a_directory_of_somebody_else(tmp_path: Path) -> None:
    """The directory is root's or ours."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o755)
    os.chown(folder, 12345, 12345)
    with pytest.raises(StartError, match="not a directory of root"):
        open_control_socket(folder / "gateway.sock")
