"""A raw scan of every disk that an app touches finds none of its content.

The state directory is a filesystem of its own on an image of this test, so that the scan of that
image also sees deleted files, journals and slack.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.containers import read_data_root
from tests.support.fixtures import Site, open_site_at
from tests.support.leftovers import run_docker
from tests.support.repos import PROBE_APP, build_probe_spec, make_repo
from tests.support.scan import Canaries, Hit, scan_deleted_files, scan_tree

pytestmark = [pytest.mark.docker, pytest.mark.root]

DISK_BYTES = 2 << 30
UPLOAD_REPEATS = 40_000


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder with `image`, a filesystem that is mounted at `root`."""
    folder = Path(tempfile.mkdtemp(prefix="lgd-"))
    folder.chmod(0o755)
    (folder / "root").mkdir()
    with (folder / "image").open("wb") as image:
        image.truncate(DISK_BYTES)
    subprocess.run(("mkfs.ext4", "-q", str(folder / "image")), check=True)
    mount = ("mount", "-o", "loop", str(folder / "image"), str(folder / "root"))
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(("umount", str(folder / "root")), check=True)
        shutil.rmtree(folder)


@pytest.fixture
def site(disk: Path) -> Iterator[Site]:
    """Lockgate with everything that it keeps on that disk."""
    with open_site_at(disk / "root", "docker") as site:
        yield site


@pytest.fixture
def ram_dir() -> Iterator[Path]:
    """A folder in RAM: the repository with the canary in its code must itself be on no disk."""
    folder = Path(tempfile.mkdtemp(prefix="lgr-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def plant_everywhere(site: Site, canaries: Canaries, ram_dir: Path) -> None:
    """Code, name of a file, secret, scratch, log, upload, WebSocket: one canary each."""
    lockgate, visitor = site.lockgate, site.visitor
    repo = make_repo(ram_dir / "repo", PROBE_APP)
    repo.commit({"page.txt": canaries.plant("code"), f"{canaries.plant('name')}.txt": "x"})
    lockgate.lockgate("secrets", "set", "rests", "TOKEN", stdin=canaries.plant("secret"))
    lockgate.deploy(build_probe_spec("rests", repo, volume={"size": "256MiB"}))
    assert visitor.ask("rests", "/env", name="TOKEN")["value"] == canaries.plant("secret")
    assert visitor.request("rests.localhost").text == canaries.plant("code")
    body = canaries.plant("scratch").encode() * 1000
    visitor.tell("rests", "/write", body, path=f"/scratch/{canaries.plant('name')}")
    visitor.tell("rests", "/write", canaries.plant("temp").encode(), path="/tmp/upload")
    visitor.tell("rests", "/print", canaries.plant("log").encode())
    assert canaries.plant("log") in lockgate.lockgate("logs", "rests").stdout
    upload = canaries.plant("upload").encode() * UPLOAD_REPEATS
    assert visitor.tell("rests", "/hash", upload)["size"] == len(upload)
    with visitor.open_websocket("rests.localhost") as tab:
        tab.send(canaries.plant("websocket"))
        tab.recv(timeout=10)


def scan_disks(disk: Path, canaries: Canaries) -> list[Hit]:
    """The image below the state directory, the files on it, the engine's files, deleted files."""
    os.sync()
    places = [disk / "image", disk / "root", read_data_root()]
    return [*scan_tree(places, canaries), *scan_deleted_files(canaries)]


def test_nothing_is_found_while_running_nor_after_removal(
    site: Site, disk: Path, ram_dir: Path
) -> None:
    """0 hits while the app runs and after it is removed; canaries planted in the clear are seen."""
    canaries, control = Canaries(), Canaries()
    plant_everywhere(site, canaries, ram_dir)
    assert scan_disks(disk, canaries) == []
    plant_in_the_clear(disk, control)
    with careless_container(control):
        assert find_names(scan_disks(disk, control)) == {"plain", "deleted", "log", "variable"}
    assert site.lockgate.lockgate("remove", "rests", "--yes").code == 0
    assert scan_disks(disk, canaries) == []


def plant_in_the_clear(disk: Path, control: Canaries) -> None:
    """What the scan must find: a file, and a file that is deleted again."""
    for name in ("plain", "deleted"):
        path = disk / "root" / name
        path.write_text(control.plant(name))
        with path.open("rb") as file:
            os.fsync(file.fileno())
    (disk / "root" / "deleted").unlink()


@contextmanager
def careless_container(control: Canaries) -> Iterator[None]:
    """What the engine keeps of a container that nobody fenced: its log, and its environment."""
    image = run_docker("images", "--quiet", "lockgate-base").split()[0]
    variable = f"SECRET={control.plant('variable')}"
    name = f"careless-{os.getpid()}"
    script = f"echo {control.plant('log')}"
    options = ("--name", name, "--network", "none", "--log-driver", "json-file", "--env", variable)
    run_docker("run", *options, image, "sh", "-c", script)
    try:
        yield
    finally:
        run_docker("rm", "--force", name)


def find_names(hits: list[Hit]) -> set[str]:
    """Under which names the canaries that were found had been planted."""
    return {hit.text.split("-")[1] for hit in hits}
