"""What the demo must hold."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from runner.config import load_config, load_spec
from runner.errors import StartError
from runner.up.demo import (
    CHECKOUT,
    HTTP,
    Place,
    build_demo_config,
    describe_trust,
    find_demo_spec,
    pick_place,
)
from runner.up.ports import is_free


@pytest.fixture
def demo_place(tmp_path: Path) -> Place:
    """A place of its own."""
    return Place(tmp_path / "demo", tmp_path / "run")


def test_a_user_keeps_the_demo_in_the_checkout(tmp_path: Path) -> None:
    """`.demo`, which `make clean` removes; sockets where their paths are short."""
    place = pick_place({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, tmp_path)
    assert place == Place(tmp_path / ".demo", Path("/run/user/1000/lockgate-demo"))
    assert pick_place({}, 1000, tmp_path).run_dir == Path("/tmp/lockgate-demo-1000")


def test_an_installed_package_keeps_it_in_the_users_state(tmp_path: Path) -> None:
    """Where the code lies nobody may write."""
    absent = tmp_path / "absent"
    assert pick_place({"HOME": "/home/ada"}, 1000, absent).root == Path(
        "/home/ada/.local/state/lockgate-demo"
    )
    assert pick_place({"XDG_STATE_HOME": "/s"}, 1000, absent).root == Path("/s/lockgate-demo")


def test_root_needs_a_place_that_its_other_users_can_enter(tmp_path: Path) -> None:
    """A checkout below a closed home directory would lock the pki out."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert pick_place({}, 0, closed) == Place(
        Path("/var/lib/lockgate-demo"), Path("/run/lockgate-demo")
    )


def test_the_demo_is_reachable_from_this_machine_only(demo_place: Place) -> None:
    """Loopback, the promised port, and a file for other commands that means the same."""
    config = build_demo_config(demo_place, {"HOME": "/nowhere"})
    assert config.gateway.https == "127.0.0.1:8443"
    assert config.state_dir == demo_place.root / "state"
    assert config.gateway.run_dir == config.pki.run_dir == demo_place.run_dir
    assert load_config(demo_place.config_path) == config


def test_a_taken_http_port_does_not_stop_the_demo(demo_place: Place) -> None:
    """8080 is often in use; redirects are left out then."""
    if not is_free(HTTP):
        assert build_demo_config(demo_place, {}).gateway.http is None
        return
    assert build_demo_config(demo_place, {}).gateway.http == HTTP
    with socket.create_server(("127.0.0.1", 8080)):
        assert build_demo_config(demo_place, {}).gateway.http is None


async def test_the_demo_app_is_the_checkouts(demo_place: Place) -> None:
    """From the very repository, if it is one."""
    if not (CHECKOUT / ".git").exists():
        pytest.skip("this source tree has no Git history")
    assert await find_demo_spec(demo_place) == CHECKOUT / "configs/apps/hello.yaml"


async def test_a_source_tree_without_history_gets_a_repository(
    demo_place: Place, tmp_path: Path
) -> None:
    """An unpacked archive works as well; twice is no problem."""
    tree = tmp_path / "tree"
    shutil.copytree(CHECKOUT / "configs", tree / "configs")
    config = build_demo_config(demo_place, {})
    for _ in range(2):
        spec = load_spec(await find_demo_spec(demo_place, tree), config)
    assert (spec.name, spec.entrypoint, spec.source.subdirectory) == ("hello", "app.py", ".")
    git = ["git", "-C", spec.source.repo, "ls-files"]
    files = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
    assert {"app.py", "requirements.txt"} <= set(files)


async def test_without_a_source_tree_it_says_where_the_demo_is(
    demo_place: Place, tmp_path: Path
) -> None:
    """A wheel has no example app."""
    with pytest.raises(StartError, match="make demo"):
        await find_demo_spec(demo_place, tmp_path)


def test_the_root_certificate_is_saved_and_explained(demo_place: Place) -> None:
    """Where it is and how curl and a browser trust it."""
    demo_place.root.mkdir()
    lines = describe_trust(demo_place, b"PEM", "https://hello.localhost:8443")
    assert demo_place.root_path.read_bytes() == b"PEM"
    assert f"  curl --cacert {demo_place.root_path} https://hello.localhost:8443" in lines
    assert any(str(demo_place.config_path) in line for line in lines)
