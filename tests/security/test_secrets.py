"""A secret reaches its app and nothing else: not the engine, not the disk, not a neighbour."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import find_container, read_data_root
from tests.support.fixtures import Site
from tests.support.leftovers import run_docker
from tests.support.repos import PROBE_APP, build_probe_spec, make_repo
from tests.support.scan import Canaries, scan_tree

pytestmark = [pytest.mark.docker, pytest.mark.root]


@dataclass(frozen=True, slots=True)
class Kept:
    """A deployed app that was given a secret."""

    site: Site
    canaries: Canaries
    value: str


@pytest.fixture(scope="module")
def kept(docker_site: Site, session_dir: Path) -> Iterator[Kept]:
    """The app `keeper` with the secret API_TOKEN."""
    canaries = Canaries()
    value = canaries.plant("secret")
    done = docker_site.lockgate.lockgate("secrets", "set", "keeper", "API_TOKEN", stdin=value)
    assert done.code == 0, done.text
    repo = make_repo(session_dir / "keeper", PROBE_APP)
    docker_site.lockgate.deploy(build_probe_spec("keeper", repo))
    yield Kept(docker_site, canaries, value)
    docker_site.lockgate.lockgate("remove", "keeper", "--yes")


def test_app_gets_it_as_variable_and_file(kept: Kept) -> None:
    """Environment and `secrets.toml` hold the value."""
    ask = kept.site.visitor.ask
    assert ask("keeper", "/env", name="API_TOKEN") == {"value": kept.value}
    text = ask("keeper", "/file", path="/run/lockgate/secrets/secrets.toml")["text"]
    assert tomllib.loads(text)["API_TOKEN"] == kept.value


def test_list_shows_names_only(kept: Kept) -> None:
    """`secrets list` names it, and no command of the CLI shows its value."""
    lockgate = kept.site.lockgate
    listed = lockgate.lockgate("secrets", "list", "keeper")
    assert "API_TOKEN" in listed.stdout
    for words in (
        ("secrets", "list", "keeper", "--json"),
        ("status", "--json"),
        ("logs", "keeper"),
    ):
        assert kept.canaries.prefix not in lockgate.lockgate(*words).text


def test_engine_never_learns_it(kept: Kept) -> None:
    """Neither `docker inspect` nor a file of the engine holds it."""
    container = find_container(kept.site.lockgate.root, "keeper")
    assert kept.canaries.prefix not in run_docker("inspect", container.id)
    assert scan_tree([read_data_root()], kept.canaries) == []


def test_it_is_sealed_at_rest(kept: Kept) -> None:
    """The state directory has no trace of it; nor have the logs of Lockgate."""
    lockgate = kept.site.lockgate
    assert scan_tree([lockgate.state_dir], kept.canaries) == []
    assert kept.canaries.prefix not in lockgate.log_path.read_text()


def test_agent_and_supervisor_do_not_carry_it(kept: Kept) -> None:
    """No process but the app's has it in its environment or on its command line."""
    needle = kept.canaries.prefix.encode()
    carriers = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                if needle in (process / name).read_bytes():
                    carriers.append((process / "cmdline").read_bytes().split(b"\0")[1:2])
            except OSError:
                continue
    assert carriers == [[b"app.py"]]


def test_neighbour_does_not_see_it(kept: Kept, docker_probe: Site) -> None:
    """Another app has neither the variable nor the file."""
    assert docker_probe.visitor.ask("probe", "/env", name="API_TOKEN") == {"value": None}
    answer = docker_probe.visitor.ask("probe", "/file", path="/run/lockgate/secrets/secrets.toml")
    assert kept.canaries.prefix not in answer.get("text", "")


def test_changed_secret_reaches_the_next_deploy(kept: Kept) -> None:
    """A new value is what the app has after the next restart."""
    lockgate = kept.site.lockgate
    lockgate.lockgate("secrets", "set", "keeper", "SECOND", stdin="two")
    assert lockgate.lockgate("restart", "keeper").code == 0
    assert kept.site.visitor.ask("keeper", "/env", name="SECOND") == {"value": "two"}
    assert kept.site.visitor.ask("keeper", "/env", name="API_TOKEN") == {"value": kept.value}
