"""Removing an app leaves nothing of it: what it was made of is looked for, thing by thing."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import find_containers_of
from tests.support.fixtures import Site
from tests.support.leftovers import find_loops, find_mounts, find_networks, find_processes
from tests.support.repos import Repo, build_probe_spec

pytestmark = [pytest.mark.docker, pytest.mark.root]


def list_traces(site: Site, app: str) -> dict[str, Any]:
    """Everything on this machine that there is because of the app."""
    lockgate = site.lockgate
    state = [path.relative_to(lockgate.state_dir) for path in lockgate.state_dir.rglob("*")]
    return {
        "containers": [c.id for c in find_containers_of(lockgate.root, app)],
        "networks": sorted(find_networks(lockgate.address_pool)),
        "mounts": sorted(find_mounts(lockgate.root)),
        "loops": sorted(find_loops(lockgate.root)),
        "processes": len(find_processes(lockgate.root)),
        "status": lockgate.read_status(app),
        "files": sorted(str(path) for path in state if is_of_an_app(path)),
        "ram": sorted(str(path) for path in (lockgate.run_dir / "ram").glob(f"apps/{app}*")),
    }


def is_of_an_app(path: Path) -> bool:
    """Whether a file of the state directory belongs to one app (not to the whole)."""
    is_inside = path.parts[0] in {"vault", "apps", "volumes"} and len(path.parts) > 1
    return is_inside and path.name != ".lock"


def test_remove_leaves_nothing(new_site: Any, probe_repo: Repo) -> None:
    """Container, network, volume, key, mount, loop, route, secret: all gone, others untouched."""
    site = new_site("docker")
    before = list_traces(site, "gone")
    site.lockgate.lockgate("secrets", "set", "gone", "TOKEN", stdin="abc")
    site.lockgate.deploy(build_probe_spec("gone", probe_repo))
    assert site.visitor.request("gone.localhost").status == 200
    during = list_traces(site, "gone")
    for kind in ("containers", "networks", "mounts", "loops", "files", "ram"):
        assert len(during[kind]) > len(before[kind]), f"{kind} would not be noticed"
    done = site.lockgate.lockgate("remove", "gone", "--yes")
    assert done.code == 0, done.text
    assert list_traces(site, "gone") == before
    answer = site.visitor.request("gone.localhost", is_name_checked=False)
    assert answer.status == 404
    with pytest.raises(ssl.SSLCertVerificationError):
        site.visitor.request("gone.localhost")


def test_removed_name_inherits_nothing(docker_site: Site, probe_repo: Repo) -> None:
    """A new app under the name of a removed one sees neither its scratch nor its secrets."""
    lockgate = docker_site.lockgate
    lockgate.lockgate("secrets", "set", "again", "TOKEN", stdin="abc")
    lockgate.deploy(build_probe_spec("again", probe_repo))
    docker_site.visitor.tell("again", "/write", b"mine", path="/scratch/file")
    assert docker_site.visitor.ask("again", "/env", name="TOKEN") == {"value": "abc"}
    assert lockgate.lockgate("remove", "again", "--yes").code == 0
    lockgate.deploy(build_probe_spec("again", probe_repo))
    assert docker_site.visitor.ask("again", "/env", name="TOKEN") == {"value": None}
    assert docker_site.visitor.ask("again", "/file", path="/scratch/file") == {"error": "ENOENT"}


def test_removing_an_unknown_app_is_an_error(docker_site: Site) -> None:
    """`remove` of a name that is not there exits 1 and names it."""
    done = docker_site.lockgate.lockgate("remove", "nobody", "--yes")
    assert done.code == 1
    assert "nobody" in done.stderr
