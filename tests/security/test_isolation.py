"""What code in a deployed app sees and may do, asked from inside through the real gateway."""

import errno
import signal
from pathlib import Path

import pytest

from tests.support.containers import Container, find_container
from tests.support.fixtures import Site
from tests.support.repos import PROBE_APP, build_probe_spec, make_repo

pytestmark = [pytest.mark.docker, pytest.mark.root]

MIB = 1024 * 1024
# CAP_KILL, CAP_SETGID, CAP_SETUID: capabilities(7); the agent needs them to change uid and signal
AGENT_CAPABILITIES = 1 << 5 | 1 << 6 | 1 << 7


@pytest.fixture
def container(docker_probe: Site) -> Container:
    """The probe app's container."""
    return find_container(docker_probe.lockgate.root, "probe")


@pytest.fixture(scope="module")
def neighbour(docker_probe: Site, session_dir: Path) -> Container:
    """Another app's container."""
    repo = make_repo(session_dir / "neighbour", PROBE_APP)
    docker_probe.lockgate.deploy(build_probe_spec("neighbour", repo))
    return find_container(docker_probe.lockgate.root, "neighbour")


def test_app_is_nobody(docker_probe: Site) -> None:
    """The app's process has a high uid, no extra groups, no capability, and can gain none."""
    process = docker_probe.visitor.ask("probe", "/process")
    assert all(int(uid) >= 65536 for uid in process["Uid"])
    assert all(int(gid) != 0 for gid in process["Gid"])
    assert set(process["Groups"]) <= {process["Gid"][0]}
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(process[kind][0], 16) == 0, kind
    assert process["NoNewPrivs"] == ["1"]
    assert process["Seccomp"] == ["2"]


def test_agent_holds_at_most_three_capabilities(docker_probe: Site) -> None:
    """Pid 1 is the agent under another uid than the app's; its bounding set has three at most."""
    agent = docker_probe.visitor.ask("probe", "/process", pid=1)
    app = docker_probe.visitor.ask("probe", "/process")
    assert agent["Uid"][0] not in {"0", app["Uid"][0]}
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(agent[kind][0], 16) & ~AGENT_CAPABILITIES == 0, kind
    assert agent["NoNewPrivs"] == ["1"]


@pytest.mark.parametrize("uid", [0, 200000])
def test_app_cannot_become_another(docker_probe: Site, uid: int) -> None:
    """Neither root nor the agent."""
    assert docker_probe.visitor.ask("probe", "/setuid", uid=uid) == {"error": "EPERM"}


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGKILL])
def test_app_cannot_signal_the_agent(docker_probe: Site, number: int) -> None:
    """Pid 1 belongs to another uid."""
    answer = docker_probe.visitor.ask("probe", "/signal", pid=1, signal=int(number))
    assert answer == {"error": "EPERM"}


@pytest.mark.parametrize(
    "path",
    [
        "/run/lockgate/identity/tls.key",
        "/run/lockgate/identity/..data/tls.key",
        "/proc/1/environ",
        "/proc/1/mem",
        "/proc/1/maps",
    ],
)
def test_app_cannot_read_what_is_the_agents(docker_probe: Site, path: str) -> None:
    """The key, the memory and the environment of the agent are closed to the app."""
    assert docker_probe.visitor.ask("probe", "/file", path=path) == {"error": "EACCES"}


@pytest.mark.parametrize(
    "path",
    [
        *("/file", "/etc/passwd", "/usr/bin/python3", "/app/code/app.py", "/app/venv/file"),
        *("/lockgate/agent/__main__.py", "/run/lockgate/secrets/file", "/run/lockgate/file"),
        *("/var/log/lockgate/file", "/proc/sys/kernel/core_pattern", "/sys/kernel/file"),
    ],
)
def test_app_cannot_write_outside_its_places(docker_probe: Site, path: str) -> None:
    """Root filesystem, code, environment, agent, secrets and logs are closed to writing."""
    answer = docker_probe.visitor.tell("probe", "/write", b"x", path=path)
    assert answer.get("error") in {"EROFS", "EACCES", "EPERM", "ENOENT"}


@pytest.mark.parametrize("path", ["/tmp/file", "/var/tmp/file", "/dev/shm/file", "/scratch/file"])
def test_app_can_write_into_its_places(docker_probe: Site, path: str) -> None:
    """Temporary directories and scratch are there to be used."""
    assert docker_probe.visitor.tell("probe", "/write", b"x", path=path) == {"written": 1}


@pytest.mark.parametrize("folder", ["/tmp", "/var/tmp", "/dev/shm"])
def test_temporary_directories_are_capped(docker_probe: Site, folder: str) -> None:
    """Each RAM directory has the size that the YAML says, and refuses more."""
    assert docker_probe.visitor.ask("probe", "/stat", path=folder)["size_bytes"] <= 16 * MIB
    body = b"\0" * (17 * MIB)
    answer = docker_probe.visitor.tell("probe", "/write", body, path=f"{folder}/large")
    assert answer == {"error": errno.errorcode[errno.ENOSPC]}
    docker_probe.visitor.tell("probe", "/write", b"", path=f"{folder}/large")


def test_no_core_is_dumped(docker_probe: Site) -> None:
    """The limit of core files is 0 and cannot be raised."""
    assert docker_probe.visitor.ask("probe", "/limits")["core"] == [0, 0]


def test_processes_are_limited(docker_probe: Site) -> None:
    """A fork bomb stops at the YAML's `pids`."""
    assert docker_probe.visitor.ask("probe", "/fork", count=200)["started"] < 64


def test_engine_was_asked_for_the_fence(container: Container) -> None:
    """Read-only root, dropped capabilities, no swap, no log of the engine, no namespace of ours."""
    wanted = container.host_config
    assert wanted["ReadonlyRootfs"] is True
    assert wanted["Privileged"] is False
    assert wanted["CapDrop"] == ["ALL"]
    assert len(wanted["CapAdd"]) <= 3
    assert wanted["LogConfig"]["Type"] == "none"
    assert wanted["MemorySwap"] == wanted["Memory"] == 256 * MIB
    assert wanted["PidsLimit"] <= 64
    assert any(option.startswith("no-new-privileges") for option in wanted["SecurityOpt"])
    assert not any("unconfined" in option for option in wanted["SecurityOpt"])
    assert "host" not in {wanted["NetworkMode"], wanted["PidMode"], wanted["IpcMode"]}
    assert not wanted["Binds"]
    assert not wanted["PortBindings"]


def test_apps_cannot_reach_each_other(docker_probe: Site, neighbour: Container) -> None:
    """Neither the neighbour's agent nor its app answers; the neighbour is up all the while."""
    for port in (8443, 8501):
        answer = docker_probe.visitor.ask("probe", "/connect", host=neighbour.address, port=port)
        assert "connected" not in answer
    assert docker_probe.visitor.request("neighbour.localhost").status == 200


def test_app_cannot_reach_lockgate_itself(docker_probe: Site, container: Container) -> None:
    """No socket of the engine or of Lockgate is in the container."""
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/lockgate/runner.sock"):
        assert "error" in docker_probe.visitor.ask("probe", "/stat", path=path)


def test_environment_is_what_was_promised(docker_probe: Site) -> None:
    """The app's name and address are there; nothing of the host's environment is."""
    names = docker_probe.visitor.ask("probe", "/env")["names"]
    assert {"LOCKGATE_APP", "LOCKGATE_URL", "HOME", "PATH", "TMPDIR"} <= set(names)
    assert not {"SSH_AUTH_SOCK", "DOCKER_HOST", "SUDO_USER", "LOCKGATE_CONFIG"} & set(names)
    url = docker_probe.visitor.ask("probe", "/env", name="LOCKGATE_URL")["value"]
    assert url.rstrip("/") == docker_probe.lockgate.url("probe").rstrip("/")
