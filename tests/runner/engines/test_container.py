"""The documents that fence a container in."""

import json
from pathlib import Path

import pytest

from runner.engines import (
    SHM,
    BuildSpec,
    ContainerSpec,
    EngineError,
    Mount,
    Resources,
    Tmpfs,
)
from runner.engines.container import (
    Ground,
    build_app_container,
    build_build_container,
    build_container_name,
    build_installation_id,
    build_network,
    build_paths,
    build_probe_container,
    pick_subnet,
)

MIB = 1024 * 1024
GROUND = Ground("sha256:1", "1f2e3d4c5b6a", "lockgate-hello.1f2e3d")
RESOURCES = Resources(memory_bytes=512 * MIB, cpus=1.5, pids=64)
MOUNTS = (Mount(Path("/vol/code"), "/app"), Mount(Path("/vol/s"), "/scratch", is_writable=True))
RAM = (Tmpfs("/tmp", 10 * MIB), Tmpfs(SHM, 5 * MIB))
APP = ContainerSpec(
    app="hello",
    generation=3,
    uuid="ab" * 16,
    slot=2,
    spec_hash="cafe",
    argv=("python3", "/lockgate/agent"),
    mounts=MOUNTS,
    tmpfs=RAM,
    resources=RESOURCES,
)
BUILD = BuildSpec(
    app="hello",
    uuid="ab" * 16,
    slot=2,
    argv=("uv", "venv"),
    env={"HOME": "/x"},
    mounts=MOUNTS,
    tmpfs=RAM,
    resources=RESOURCES,
    uid=200005,
    timeout_s=60,
)
PROBE = build_probe_container(("python3",), Ground("sha256:1", "1f2e3d4c5b6a", None))


@pytest.mark.parametrize(
    "document",
    [build_app_container(APP, GROUND), build_build_container(BUILD, GROUND), PROBE],
    ids=["app", "build", "probe"],
)
def test_fence_of_every_container(document):
    """Every container has a read-only root, no capabilities of its own, no swap, log or dump."""
    host = document["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["MemorySwap"] == host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Type"] == "none"
    assert host["Ulimits"] == [{"Name": "core", "Soft": 0, "Hard": 0}]
    assert host["IpcMode"] == "private"
    assert host["RestartPolicy"] == {"Name": "no"}
    assert host["PublishAllPorts"] is False
    assert "PortBindings" not in host
    assert "Binds" not in host
    assert document["Labels"]["lockgate.installation"] == "1f2e3d4c5b6a"


def test_capabilities():
    """The agent may change uid and signal, a build and a probe may do nothing special."""
    assert build_app_container(APP, GROUND)["HostConfig"]["CapAdd"] == ["SETUID", "SETGID", "KILL"]
    assert build_build_container(BUILD, GROUND)["HostConfig"]["CapAdd"] == []
    assert PROBE["HostConfig"]["CapAdd"] == []


def test_users():
    """Only an app's container starts as uid 0; a build runs as the app's uid."""
    assert build_app_container(APP, GROUND)["User"] == "0:0"
    assert build_build_container(BUILD, GROUND)["User"] == "200005:200005"
    assert PROBE["User"] == "65534:65534"


def test_mounts_and_ram():
    """Binds are read-only unless asked and private; RAM directories are capped."""
    host = build_app_container(APP, GROUND)["HostConfig"]
    assert host["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/vol/code",
            "Target": "/app",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rprivate"},
        },
        {
            "Type": "bind",
            "Source": "/vol/s",
            "Target": "/scratch",
            "ReadOnly": False,
            "BindOptions": {"Propagation": "rprivate"},
        },
    ]
    assert host["Tmpfs"] == {"/tmp": f"size={10 * MIB},mode=1777,nosuid,nodev,exec"}
    assert host["ShmSize"] == 5 * MIB


def test_limits():
    """Memory is bytes, cores are billionths, tasks are a count."""
    host = build_app_container(APP, GROUND)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (512 * MIB, 1_500_000_000, 64)


def test_document_says_who_it_is_and_nothing_else():
    """Labels carry app, generation, uuid and hash; the environment of an app is a locale alone."""
    document = build_app_container(APP, GROUND)
    assert document["Labels"] == {
        "lockgate.installation": "1f2e3d4c5b6a",
        "lockgate.role": "app",
        "lockgate.app": "hello",
        "lockgate.generation": "3",
        "lockgate.uuid": "ab" * 16,
        "lockgate.spec_hash": "cafe",
    }
    assert document["Env"] == ["LANG=C.UTF-8"]
    assert document["Hostname"] == "hello"
    assert document["Entrypoint"] == ["python3", "/lockgate/agent"]
    assert json.loads(json.dumps(document)) == document


def test_quirks_of_an_engine():
    """A remapping engine gets the host's users; extra security options come after our own."""
    ground = Ground("sha256:1", "1f", "n", ("label=disable",), remaps_users=True)
    host = build_app_container(APP, ground)["HostConfig"]
    assert host["UsernsMode"] == "host"
    assert host["SecurityOpt"] == ["no-new-privileges:true", "label=disable"]


def test_network_is_isolated():
    """The app's bridge forbids talk between its containers and takes the subnet it is given."""
    arguments = build_network("hello", "10.201.0.32/28", "1f2e3d4c5b6a")
    assert arguments["name"] == "lockgate-hello.1f2e3d"
    assert arguments["options"] == {"com.docker.network.bridge.enable_icc": "false"}
    assert arguments["ipam"]["Config"] == [{"Subnet": "10.201.0.32/28"}]


@pytest.mark.parametrize(
    ("slot", "subnet"),
    [(0, "10.201.0.0/28"), (1, "10.201.0.16/28"), (4095, "10.201.255.240/28")],
)
def test_subnet_of_a_slot(slot, subnet):
    """The n-th app has the n-th /28 of the pool."""
    assert pick_subnet("10.201.0.0/16", slot) == subnet


def test_pool_that_ends():
    """An app beyond the pool is refused with the key to change."""
    with pytest.raises(EngineError, match=r"engine\.address_pool 10\.201\.0\.0/27 has no /28"):
        pick_subnet("10.201.0.0/27", 2)


def test_installations_differ():
    """Two state directories never share a container name."""
    one, other = build_installation_id("/var/lib/lockgate"), build_installation_id("/srv/x")
    assert build_container_name("hello", 3, one) != build_container_name("hello", 3, other)
    assert build_container_name("hello", 3, "1f2e3d4c5b6a") == "lockgate-hello-3.1f2e3d"


def test_paths_are_the_containers():
    """In a container agent and app find everything at the fixed places."""
    paths = build_paths(200004, 200005)
    assert paths.agent_argv[-1] == "/run/lockgate/identity/agent.json"
    assert (paths.listen, paths.app_port) == ("0.0.0.0:8443", 8501)
    assert (paths.agent_uid, paths.app_uid, paths.sandbox_argv) == (200004, 200005, ())
