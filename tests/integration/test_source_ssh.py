"""A private repository over SSH: a read-only deploy key, a pinned host key."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import Site
from tests.support.git_server import SshServer, make_key, open_ssh_server
from tests.support.repos import Repo, build_probe_spec

pytestmark = [pytest.mark.docker, pytest.mark.root]


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    """A server that lets one key in."""
    with open_ssh_server(tmp_path / "ssh") as server:
        yield server


def build_ssh_spec(name: str, repo: Repo, ssh: SshServer, host_key: str = "") -> dict[str, object]:
    """A probe app whose code comes over SSH."""
    source = {
        "repo": ssh.build_url(repo.path),
        "deploy_key": "GIT_KEY",
        "host_key": host_key or ssh.host_key,
    }
    return build_probe_spec(name, repo, source=source)


def test_deploy_key_opens_the_repository(
    docker_site: Site, probe_repo: Repo, ssh: SshServer
) -> None:
    """With its key in the vault the app is deployed, and the key never reaches the app."""
    lockgate = docker_site.lockgate
    assert lockgate.lockgate("secrets", "set", "byssh", "GIT_KEY", stdin=ssh.deploy_key).code == 0
    lockgate.deploy(build_ssh_spec("byssh", probe_repo, ssh))
    assert docker_site.visitor.request("byssh.localhost").text.strip() == "version one"
    assert docker_site.visitor.ask("byssh", "/env", name="GIT_KEY") == {"value": None}


def test_wrong_deploy_key_is_refused(
    docker_site: Site, probe_repo: Repo, ssh: SshServer, tmp_path: Path
) -> None:
    """A key that the server does not know: one line that names the key and the server."""
    lockgate = docker_site.lockgate
    make_key(tmp_path / "other")
    lockgate.lockgate(
        "secrets", "set", "wrongkey", "GIT_KEY", stdin=(tmp_path / "other").read_text()
    )
    spec = lockgate.write_spec(build_ssh_spec("wrongkey", probe_repo, ssh))
    done = lockgate.lockgate("deploy", str(spec))
    assert done.code == 1
    assert done.stderr.strip() == (
        "error: wrong deploy key: 127.0.0.1 refuses it; add its public half to"
        f" {ssh.build_url(probe_repo.path)} as a read-only deploy key"
    )


def test_changed_host_key_is_refused(
    docker_site: Site, probe_repo: Repo, ssh: SshServer, tmp_path: Path
) -> None:
    """A server with another key than the pinned one gets nothing: one line that says so."""
    lockgate = docker_site.lockgate
    pinned = make_key(tmp_path / "former")
    lockgate.lockgate("secrets", "set", "newhost", "GIT_KEY", stdin=ssh.deploy_key)
    spec = lockgate.write_spec(build_ssh_spec("newhost", probe_repo, ssh, pinned))
    done = lockgate.lockgate("deploy", str(spec))
    assert done.code != 0
    assert "host key" in done.stderr
    assert "changed" in done.stderr or "not the pinned" in done.stderr
