"""Whatever an operator gets wrong is answered with one line that names it and what to do."""

import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import Site
from tests.support.installation import Done, Installation, open_installation
from tests.support.repos import PROBE_APP, Repo, build_probe_spec, make_repo

SPEC = """\
name: hello
hosts: [hello.localhost]
source:
  repo: /nowhere
{rest}
"""

# what stands in the YAML from line 5 on -> the line that the operator reads
BAD_SPECS = {
    "unknown key": (
        "entrypont: app.py",
        "hello.yaml:5: entrypont: there is no such key (did you mean entrypoint?)",
    ),
    "bad size": (
        "entrypoint: app.py\nresources:\n  memory: 12 bananas",
        "hello.yaml:7: resources.memory: '12 bananas' is not a size (write a whole number and a"
        " unit: B, KiB, MiB, GiB or TiB, such as 200MiB)",
    ),
    "missing entrypoint": (
        "",
        "hello.yaml: entrypoint: nothing says how to start the app (add entrypoint: FILE.py for"
        " Streamlit, or command: … with {port} for anything else)",
    ),
}


@pytest.fixture
def lockgate() -> Any:
    """An installation that is not running: the CLI alone must notice these."""
    with open_installation("process") as lockgate:
        yield lockgate


@pytest.mark.parametrize("kind", BAD_SPECS)
def test_bad_spec_is_named_with_file_line_and_key(lockgate: Installation, kind: str) -> None:
    """File, line and key of the mistake, and what to write instead; exit code 2."""
    rest, message = BAD_SPECS[kind]
    (lockgate.root / "hello.yaml").write_text(SPEC.replace("{rest}", rest))
    done = lockgate.lockgate("deploy", "hello.yaml")
    assert done.stderr.strip() == f"error: {message}"
    assert done.code == 2


def test_bad_configuration_is_named_with_file_line_and_key(lockgate: Installation) -> None:
    """The same for Lockgate's own file."""
    lockgate.config_path.write_text("gateway:\n  htps: 127.0.0.1:8443\n")
    done = lockgate.lockgate("up")
    path = lockgate.config_path
    assert done.stderr.strip() == (
        f"error: {path}:2: gateway.htps: there is no such key (did you mean https?)"
    )
    assert done.code == 2


def test_commands_without_a_running_lockgate_say_so(lockgate: Installation) -> None:
    """No runner: one line that says what to start; exit code 1."""
    done = lockgate.lockgate("status")
    assert done.stderr.startswith("error: lockgate up is not running")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.code == 1


def test_port_that_is_taken_is_named(lockgate: Installation) -> None:
    """`up` on a taken port ends at once, names the address and leaves nothing."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", lockgate.https_port))
        other.listen()
        done = lockgate.lockgate("up", timeout_s=60)
    address = f"127.0.0.1:{lockgate.https_port}"
    assert re.fullmatch(
        rf"error: gateway\.https: {re.escape(address)} is taken by \S+ \(pid {os.getpid()}\):"
        r" stop that, or set gateway\.https to a free address",
        last_error(done),
    )
    assert done.code == 1


def test_engine_that_is_not_there_is_named(lockgate: Installation) -> None:
    """`up` with an engine that does not answer ends at once and says what to do."""
    socket_path = lockgate.root / "docker.sock"
    engine = {"kind": "docker", "docker_host": f"unix://{socket_path}"}
    lockgate.overrides = {"runner": {"engine": engine}}
    lockgate.write_config()
    done = lockgate.lockgate("up", timeout_s=60)
    assert done.code == 1
    assert f"no Docker engine: {socket_path} does not exist; install and start it" in done.stderr
    assert "set runner.engine.kind to process" in done.stderr
    assert "Traceback" not in done.stderr


def last_error(done: Done) -> str:
    """The line for the operator."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines, done.text
    return lines[-1]


Change = Callable[[Repo, Path], Mapping[str, Any]]


def point_nowhere(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """A repository that is not there."""
    return {"source": {"repo": str(folder / "nowhere")}}


def name_missing_file(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """An entrypoint that the commit does not have."""
    return {"command": None, "entrypoint": "missing.py"}


def name_missing_ref(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """A branch that the repository does not have."""
    return {"source": {"repo": str(repo.path), "ref": "no-such-branch"}}


def depend_on_nothing(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """A dependency that no registry has."""
    repo.commit({"requirements.txt": "lockgate-no-such-dependency==1.0\n"})
    return {}


def exit_at_once(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """An app that says something and ends."""
    repo.commit({"app.py": "print('my last words', flush=True)\nraise SystemExit(7)\n"})
    return {}


def never_listen(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """An app that runs and answers nobody."""
    repo.commit({"app.py": "import time\nprint('busy', flush=True)\ntime.sleep(600)\n"})
    return {"health": {"timeout": "3s"}}


def outgrow_the_volume(repo: Repo, folder: Path) -> Mapping[str, Any]:
    """More code than the volume holds."""
    with open("/dev/urandom", "rb") as source:
        repo.commit({"weights.bin": source.read(100 << 20)})
    return {"volume": {"size": "64MiB"}}


# what is wrong -> what the error line and what follows it must hold
BAD_DEPLOYS: dict[str, tuple[Change, tuple[str, ...]]] = {
    "repo": (point_nowhere, ("nowhere", "repo")),
    "ref": (name_missing_ref, ("no-such-branch",)),
    "entrypoint": (name_missing_file, ("entrypoint: missing.py is not in",)),
    "dependency": (depend_on_nothing, ("lockgate-no-such-dependency",)),
    "exit": (exit_at_once, ("my last words", "7")),
    "silence": (never_listen, ("busy", "3")),
    "space": (outgrow_the_volume, ("no space left on the app's volume", "volume.size")),
}


@pytest.mark.docker
@pytest.mark.root
@pytest.mark.parametrize("kind", BAD_DEPLOYS)
def test_bad_deploy_is_explained_and_leaves_nothing(
    docker_site: Site, tmp_path: Path, probe_repo: Repo, kind: str
) -> None:
    """One line says why; the app does not appear to visitors; the next good deploy works."""
    lockgate, name = docker_site.lockgate, f"bad-{kind}"
    change, words = BAD_DEPLOYS[kind]
    good = build_probe_spec(name, probe_repo)
    bad = {key: value for key, value in {**good, **change(probe_repo, tmp_path)}.items() if value}
    done = lockgate.lockgate("deploy", str(lockgate.write_spec(bad)))
    assert done.code in {1, 2}, done.text
    last_error(done)
    for word in words:
        assert word in done.stderr, done.text
    assert "Traceback" not in done.text
    lockgate.deploy({**good, "source": {"repo": str(make_repo(tmp_path / "good", PROBE_APP).path)}})
    assert docker_site.visitor.request(f"{name}.localhost").text.strip() == "version one"
