"""The Docker engine, on a real one: life of containers, builds, errors, traces left behind."""

import asyncio
import json
import os
import socket
import subprocess
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from runner.engines import (
    BuildSpec,
    ContainerSpec,
    ContainerState,
    EngineError,
    Mount,
    Resources,
    Tmpfs,
)
from runner.engines.docker import DockerEngine
from tests.support.ports import pick_address_pool

MIB = 1024 * 1024
RESOURCES = Resources(memory_bytes=128 * MIB, cpus=1.0, pids=32)
LISTEN = """
import socket, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with socket.create_server(("0.0.0.0", 8443)) as server:
    while True:
        server.accept()[0].close()
"""


def find_reason_against_docker() -> str | None:
    """Why these tests cannot run here; None if they can."""
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except OSError as error:
        return f"no Docker engine: {error.strerror}"
    return None if os.geteuid() == 0 else "needs root to reach container addresses"


REASON = find_reason_against_docker()
pytestmark = [pytest.mark.docker, pytest.mark.skipif(REASON is not None, reason=str(REASON))]


@pytest.fixture
async def engine():
    """An engine with bridges and names of its own; whatever it made is gone afterwards."""
    engine = DockerEngine(uuid.uuid4().hex[:12], address_pool=pick_address_pool())
    await engine.check()
    yield engine
    for app in ("hello", "other"):
        await engine.remove_app(app)
    await engine.close()


def build_spec(*argv: str, **changes) -> ContainerSpec:
    """An app that does what `argv` says."""
    spec = ContainerSpec(
        app="hello",
        generation=1,
        uuid="ab" * 16,
        slot=0,
        spec_hash="cafe",
        argv=argv or ("python3", "-c", LISTEN),
        mounts=(),
        tmpfs=(Tmpfs("/tmp", MIB),),
        resources=RESOURCES,
    )
    return replace(spec, **changes)


def build_build(*argv: str, **changes) -> BuildSpec:
    """A build that does what `argv` says."""
    spec = BuildSpec(
        app="hello",
        uuid="ab" * 16,
        slot=0,
        argv=argv,
        env={},
        mounts=(),
        tmpfs=(Tmpfs("/tmp", MIB),),
        resources=RESOURCES,
        uid=234567,
        timeout_s=30,
    )
    return replace(spec, **changes)


def list_containers(engine) -> list[str]:
    """Every container of the engine's installation, of any role."""
    label = f"label=lockgate.installation={engine._installation}"
    return run_docker("ps", "--all", "--quiet", "--filter", label).split()


def list_networks(engine) -> list[str]:
    """Every network of the engine's installation."""
    label = f"label=lockgate.installation={engine._installation}"
    return run_docker("network", "ls", "--quiet", "--filter", label).split()


def run_docker(*words: str) -> str:
    """Output of a docker command that must succeed."""
    return subprocess.run(("docker", *words), check=True, capture_output=True, text=True).stdout


async def connect(address: str) -> bool:
    """Whether something accepts at `host:port` soon."""
    host, _, port = address.partition(":")
    for _ in range(50):
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return True
    return False


async def wait_for_exit(engine, generation: int = 1):
    """The observed container once it has exited."""
    for _ in range(200):
        for found in await engine.observe():
            if found.generation == generation and found.state is ContainerState.exited:
                return found
        await asyncio.sleep(0.05)
    raise AssertionError("the container does not exit")


async def test_check_tells_the_facts(engine):
    """Name, version, image and the Python in it are known after a check, with nothing given up."""
    facts = await engine.check()
    assert facts.name == "docker"
    assert facts.image_id.startswith("sha256:")
    assert facts.python >= "3.11"
    assert facts.python_path.startswith("/usr/")
    assert facts.gives_up is None


async def test_start_observe_stop(engine):
    """A started app answers at its address, is observed with its labels, and stops by SIGTERM."""
    started = await engine.start(build_spec())
    assert await connect(started.address)
    assert list(await engine.observe()) == [started]
    assert (started.app, started.generation, started.spec_hash) == ("hello", 1, "cafe")
    await engine.stop("hello", 1, grace_s=10)
    assert list(await engine.observe()) == []
    assert list_containers(engine) == []


async def test_exit_code_is_observed(engine):
    """An app that exits by itself stays to be seen, with its exit code and no address."""
    await engine.start(build_spec("python3", "-c", "raise SystemExit(3)"))
    found = await wait_for_exit(engine)
    assert (found.exit_code, found.oom_killed, found.address) == (3, False, None)


async def test_exited_container_makes_way(engine):
    """The same generation can be started again once it has exited, but not while it runs."""
    await engine.start(build_spec("true"))
    await wait_for_exit(engine)
    await engine.start(build_spec())
    with pytest.raises(EngineError, match=r"lockgate-hello-1\.\w+ is running already"):
        await engine.start(build_spec())
    assert [found.state for found in await engine.observe()] == [ContainerState.running]


async def test_app_that_ignores_sigterm_is_killed(engine):
    """Grace over, SIGKILL: an app cannot refuse to stop."""
    await engine.start(build_spec("sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
    began = asyncio.get_running_loop().time()
    await engine.stop("hello", 1, grace_s=1)
    assert asyncio.get_running_loop().time() - began < 8
    assert list_containers(engine) == []


async def test_stop_and_remove_of_nothing(engine):
    """What is not there needs no stopping and no removing."""
    await engine.stop("hello", 9, grace_s=1)
    await engine.remove_app("hello")


async def test_two_generations_share_a_bridge(engine):
    """Old and new generation run side by side on one network, which goes with the app."""
    await engine.start(build_spec())
    await engine.start(build_spec(generation=2))
    assert sorted(found.generation for found in await engine.observe()) == [1, 2]
    assert len(list_networks(engine)) == 1
    await engine.remove_app("hello")
    assert (list_containers(engine), list_networks(engine)) == ([], [])


async def test_new_engine_adopts(engine):
    """An engine object made later sees the containers that an earlier one started."""
    started = await engine.start(build_spec())
    later = DockerEngine(engine._installation, address_pool=engine._address_pool)
    assert list(await later.observe()) == [started]
    await later.close()


async def test_installations_do_not_mix(engine):
    """Another installation neither sees nor removes our containers."""
    await engine.start(build_spec())
    other = DockerEngine(uuid.uuid4().hex[:12], address_pool=engine._address_pool)
    assert list(await other.observe()) == []
    await other.remove_app("hello")
    await other.stop("hello", 1, grace_s=0)
    await other.close()
    assert len(await engine.observe()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mounts": (Mount(Path("/no/such/place"), "/app"),)}, "does not exist: /no/such/place"),
        ({"argv": ("no-such-program",)}, "no-such-program"),
    ],
    ids=["missing mount", "missing program"],
)
async def test_failed_start_leaves_nothing(engine, changes, words):
    """A start that fails says why in one line and leaves no container, network or directory."""
    with pytest.raises(EngineError, match=words) as caught:
        await engine.start(build_spec(**changes))
    assert "\n" not in str(caught.value)
    assert (list_containers(engine), list_networks(engine)) == ([], [])
    assert not Path("/no/such/place").exists()


async def test_cancelled_start_leaves_nothing(engine):
    """A start that is cancelled at any moment leaves no container behind."""
    for pause in (0.0, 0.05, 0.15, 0.3):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(engine.start(build_spec()))
            await asyncio.sleep(pause)
            task.cancel()
        if task.cancelled():
            assert list_containers(engine) == []
        await engine.remove_app("hello")


async def test_network_conflict_names_the_key(engine):
    """A subnet that is taken is told with the key to change."""
    other = DockerEngine(uuid.uuid4().hex[:12], address_pool=engine._address_pool)
    await other.start(build_spec(app="other"))
    try:
        with pytest.raises(EngineError, match=r"network 10\.\S+/28 for app hello: .*address_pool"):
            await engine.start(build_spec())
    finally:
        await other.remove_app("other")
        await other.close()


async def test_inspect_is_clean(engine, tmp_path):
    """The engine keeps of a container what we gave it and no output, port or secret besides."""
    await engine.start(build_spec(mounts=(Mount(tmp_path, "/app"),)))
    (identifier,) = list_containers(engine)
    (found,) = json.loads(run_docker("inspect", identifier))
    assert {name.partition("=")[0] for name in found["Config"]["Env"]} <= {"PATH", "LANG"}
    assert found["HostConfig"]["LogConfig"]["Type"] == "none"
    assert found["NetworkSettings"]["Ports"] == {}
    assert found["LogPath"] == ""
    assert [mount["Propagation"] for mount in found["Mounts"]] == ["rprivate"]


async def test_build_streams_lines_and_returns_the_code(engine):
    """A build's output arrives line by line, from both streams, and its exit code is returned."""
    lines: list[str] = []
    script = "echo one; echo two >&2; id -u; exit 5"
    code = await engine.build(build_build("sh", "-c", script), lines.append)
    assert code == 5
    assert sorted(lines) == ["234567", "one", "two"]
    assert list_containers(engine) == []


async def test_build_of_much_output_loses_nothing(engine):
    """Every line of a long output arrives, in order."""
    lines: list[str] = []
    script = "for i in range(20000): print('line', i)"
    assert await engine.build(build_build("python3", "-c", script), lines.append) == 0
    assert lines == [f"line {number}" for number in range(20000)]


async def test_build_that_takes_too_long(engine):
    """A build is killed at its timeout, says so, and returns 124."""
    lines: list[str] = []
    spec = build_build("sh", "-c", "echo begin; sleep 60", timeout_s=2)
    assert await engine.build(spec, lines.append) == 124
    assert lines == ["begin", "not done after 2 s: stopped"]
    assert list_containers(engine) == []


async def test_build_that_is_cancelled(engine):
    """A cancelled build leaves no container and no thread at work."""
    begun = asyncio.Event()
    threads = threading.active_count()
    async with asyncio.TaskGroup() as group:
        spec = build_build("sh", "-c", "echo begin; sleep 60")
        task = group.create_task(engine.build(spec, lambda line: begun.set()))
        await asyncio.wait_for(begun.wait(), 20)
        task.cancel()
    assert list_containers(engine) == []
    assert threading.active_count() <= threads + 2


async def test_build_that_runs_out_of_memory(engine):
    """A build over its memory limit is killed and the reason is among its lines."""
    lines: list[str] = []
    spec = build_build("python3", "-c", f"x = b'1' * {256 * MIB}")
    assert await engine.build(spec, lines.append) == 137
    assert lines[-1] == "killed: out of memory"


async def test_build_reaches_the_network(engine):
    """A build has a name server and a way out; nothing is fetched here."""
    lines: list[str] = []
    script = "import pathlib; print(pathlib.Path('/proc/net/route').read_text().count('\\n'))"
    assert await engine.build(build_build("python3", "-c", script), lines.append) == 0
    assert int(lines[0]) >= 3


async def test_left_build_is_taken_away(engine):
    """A build container that a killed runner left is gone after the next check."""
    await engine.build(build_build("true"), print)
    label = f"lockgate.installation={engine._installation}"
    argv = ("run", "--detach", "--label", label, "--label", "lockgate.role=build")
    run_docker(*argv, "lockgate-base:1", "sleep", "60")
    later = DockerEngine(engine._installation, address_pool=engine._address_pool)
    await later.check()
    await later.close()
    assert list_containers(engine) == []


async def test_image_that_is_not_there(engine):
    """An image that can be neither found nor pulled is told by the key that names it."""
    other = DockerEngine("1f2e3d4c5b6a", image="lockgate.invalid/no/such:1")
    with pytest.raises(EngineError, match=r"engine\.image lockgate\.invalid/no/such:1 is not here"):
        await other.check()
    await other.close()


async def test_image_without_python(engine, tmp_path):
    """An image that has no Python is refused by name."""
    tar = tmp_path / "empty.tar"
    subprocess.run(("tar", "-cf", tar, "-T", "/dev/null"), check=True)
    tag = f"lockgate-test:{uuid.uuid4().hex[:8]}"
    client = docker.from_env()
    client.api.import_image_from_file(str(tar), *tag.split(":"))
    other = DockerEngine("1f2e3d4c5b6a", image=tag)
    try:
        with pytest.raises(EngineError, match=f"runner.engine.image {tag} has no usable python3"):
            await other.check()
    finally:
        await other.close()
        client.images.remove(tag)
        client.close()


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("unix:///no/such.sock", "no Docker engine: /no/such.sock does not exist"),
        ("tcp://127.0.0.1:1", "unset DOCKER_HOST"),
    ],
)
async def test_no_engine(host, words):
    """Without an engine the error is one line with the remedy."""
    engine = DockerEngine("1f2e3d4c5b6a", docker_host=host)
    with pytest.raises(EngineError, match=f"{words}.*runner.engine.kind to process") as caught:
        await engine.check()
    assert "\n" not in str(caught.value)
    await engine.close()


async def test_socket_that_nobody_serves(tmp_path):
    """A socket file without a listener says to start the engine."""
    path = tmp_path / "d.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    engine = DockerEngine("1f2e3d4c5b6a", docker_host=f"unix://{path}")
    with pytest.raises(EngineError, match="start it"):
        await engine.check()
    await engine.close()
