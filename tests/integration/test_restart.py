"""`lockgate up` is killed and started again: apps and visitors do not notice."""

import time
from collections.abc import Callable

import pytest

from tests.support.containers import find_container
from tests.support.fixtures import Site
from tests.support.repos import Repo, build_probe_spec

pytestmark = [pytest.mark.docker, pytest.mark.root]


def test_killed_supervisor_is_succeeded(new_site: Callable[..., Site], probe_repo: Repo) -> None:
    """After kill -9 the next `up` adopts the container; a WebSocket meanwhile lives on."""
    site = new_site("docker")
    lockgate = site.lockgate
    spec = build_probe_spec("stays", probe_repo)
    lockgate.deploy(spec)
    container = find_container(lockgate.root, "stays")
    with site.visitor.open_websocket("stays.localhost") as tab:
        lockgate.kill()
        tab.send("nobody looks after us")
        assert tab.recv(timeout=10) == "nobody looks after us"
        lockgate.start()
        lockgate.wait_for_state("stays", "healthy")
        tab.send("somebody does again")
        assert tab.recv(timeout=10) == "somebody does again"
    adopted = find_container(lockgate.root, "stays")
    assert (adopted.id, adopted.pid) == (container.id, container.pid)
    assert site.visitor.request("stays.localhost").status == 200
    plan = lockgate.lockgate("plan", str(lockgate.write_spec(spec)))
    assert "nothing" in plan.stdout.lower()


def test_stop_and_start_brings_apps_back(new_site: Callable[..., Site], probe_repo: Repo) -> None:
    """After a clean stop the next `up` runs the apps again, with their files and secrets."""
    site = new_site("docker")
    lockgate = site.lockgate
    lockgate.lockgate("secrets", "set", "back", "TOKEN", stdin="abc")
    lockgate.deploy(build_probe_spec("back", probe_repo))
    site.visitor.tell("back", "/write", b"kept", path="/scratch/file")
    assert lockgate.stop() == 0
    lockgate.start()
    lockgate.wait_for_state("back", "healthy")
    assert site.visitor.ask("back", "/file", path="/scratch/file") == {"text": "kept"}
    assert site.visitor.ask("back", "/env", name="TOKEN") == {"value": "abc"}


def test_crashed_app_is_started_again(docker_site: Site, probe_repo: Repo) -> None:
    """An app that exits by itself comes back without an operator."""
    docker_site.lockgate.deploy(build_probe_spec("crashes", probe_repo))
    before = find_container(docker_site.lockgate.root, "crashes")
    docker_site.visitor.request("crashes.localhost", "/exit?code=3")
    deadline = time.monotonic() + 60
    while docker_site.visitor.request("crashes.localhost").status != 200:
        assert time.monotonic() < deadline, docker_site.lockgate.read_status("crashes")
        time.sleep(0.5)
    assert find_container(docker_site.lockgate.root, "crashes").pid != before.pid
