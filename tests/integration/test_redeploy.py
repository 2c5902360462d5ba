"""Deploying again: nothing to do, a change of code, and a deploy that fails."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.containers import find_container, find_containers_of
from tests.support.fixtures import Site
from tests.support.repos import Repo, build_probe_spec

pytestmark = [pytest.mark.docker, pytest.mark.root]


@contextmanager
def visits(site: Site, host: str, failures: list[str]) -> Iterator[None]:
    """Visit again and again; note every answer that is not 200."""
    is_over = threading.Event()

    def visit() -> None:
        while not is_over.is_set():
            answer = site.visitor.request(host)
            if answer.status != 200:
                failures.append(f"{answer.status} {answer.text[:80]}")
            time.sleep(0.02)

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield
    finally:
        is_over.set()
        visitor.join()


def test_second_deploy_does_nothing(docker_site: Site, probe_repo: Repo) -> None:
    """Deploying what runs already changes nothing: same container, same generation, empty plan."""
    lockgate = docker_site.lockgate
    spec = build_probe_spec("twice", probe_repo)
    lockgate.deploy(spec)
    first = find_container(lockgate.root, "twice").id
    status = lockgate.read_status("twice")
    plan = lockgate.lockgate("plan", str(lockgate.write_spec(spec)))
    assert plan.code == 0
    assert "nothing" in plan.stdout.lower()
    lockgate.deploy(spec)
    assert find_container(lockgate.root, "twice").id == first
    assert lockgate.read_status("twice") == status


def test_plan_says_what_deploy_would_do(docker_site: Site, probe_repo: Repo) -> None:
    """`plan` of an unknown app prints steps and leaves nothing behind."""
    lockgate = docker_site.lockgate
    plan = lockgate.lockgate("plan", str(lockgate.write_spec(build_probe_spec("dry", probe_repo))))
    assert plan.code == 0, plan.text
    assert "start" in plan.stdout
    assert lockgate.read_status("dry") == {}
    assert find_containers_of(lockgate.root, "dry") == []


def test_code_change_replaces_the_app_without_a_failed_request(
    docker_site: Site, probe_repo: Repo
) -> None:
    """New requests see the new code, no request fails meanwhile, an open WebSocket lives on."""
    lockgate = docker_site.lockgate
    spec = build_probe_spec("changes", probe_repo)
    lockgate.deploy(spec)
    failures: list[str] = []
    with docker_site.visitor.open_websocket("changes.localhost") as tab:
        probe_repo.commit({"page.txt": "version two"})
        with visits(docker_site, "changes.localhost", failures):
            lockgate.deploy(spec)
            assert docker_site.visitor.request("changes.localhost").text == "version two"
        tab.send("still here")
        assert tab.recv(timeout=10) == "still here"
    assert failures == []


def test_failed_deploy_changes_nothing(docker_site: Site, probe_repo: Repo) -> None:
    """A new version that exits at once is refused; visitors keep the old one, the log is kept."""
    lockgate = docker_site.lockgate
    spec = build_probe_spec("keeps", probe_repo)
    lockgate.deploy(spec)
    status = lockgate.read_status("keeps")
    container = find_container(lockgate.root, "keeps").id
    probe_repo.commit(
        {"app.py": "print('the new version gives up', flush=True)\nraise SystemExit(7)\n"}
    )
    failures: list[str] = []
    with visits(docker_site, "keeps.localhost", failures):
        done = lockgate.lockgate("deploy", str(lockgate.write_spec(spec)))
    assert done.code == 1
    assert "the new version gives up" in done.text
    assert failures == []
    assert docker_site.visitor.request("keeps.localhost").text.strip() == "version one"
    assert find_container(lockgate.root, "keeps").id == container
    after = lockgate.read_status("keeps")
    assert (after["state"], after["generation"]) == ("healthy", status["generation"])
