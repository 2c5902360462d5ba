"""The search for leftovers sees a mount, a loop device and a process of its root."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leftovers import find_leftovers, find_processes

POOL = "10.99.0.0/16"


def test_process_is_seen_until_it_ends(tmp_path: Path) -> None:
    """A process with the root in its command line is reported; after its end nothing is."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    argv = (sys.executable, "-c", code, f"{tmp_path}/x")
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        process.stdout.readline()
        assert [entry.split(":")[0] for entry in find_processes(tmp_path)] == [
            f"process {process.pid}"
        ]
    assert find_leftovers(tmp_path, POOL) == []


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A loop image, mounted below the root."""
    image, point = tmp_path / "image", tmp_path / "point"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(("mkfs.ext4", "-q", str(image)), check=True)
    subprocess.run(("mount", "-o", "loop", str(image), str(point)), check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(("umount", str(point)), check=True)


@pytest.mark.root
def test_mount_and_loop_are_seen(mounted: Path) -> None:
    """A mounted image is reported twice: as a mount and as a loop device."""
    kinds = [entry.split()[0] for entry in find_leftovers(mounted, POOL)]
    assert kinds == ["mount", "loop"]
