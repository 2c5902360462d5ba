"""What code in an app's container tries against its fence, on a real Docker engine."""

import asyncio
import json
import os
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from runner.engines import ContainerSpec, ContainerState, Mount, Resources, Tmpfs
from runner.engines.docker import DockerEngine
from tests.runner.engines.test_docker import LISTEN, REASON, connect
from tests.support.ports import pick_address_pool

MIB = 1024 * 1024
PROBES = Path(__file__).with_name("fence_probes.py")
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


@pytest.fixture
def scratch(tmp_path):
    """A writable directory of the container."""
    place = tmp_path / "scratch"
    place.mkdir()
    place.chmod(0o777)
    return place


def build_spec(scratch: Path, *argv: str, **changes) -> ContainerSpec:
    """An app with the probes at `/app` and a writable `/scratch`."""
    spec = ContainerSpec(
        app="hello",
        generation=1,
        uuid="ab" * 16,
        slot=0,
        spec_hash="cafe",
        argv=argv,
        mounts=(Mount(PROBES.parent, "/app"), Mount(scratch, "/scratch", is_writable=True)),
        tmpfs=(Tmpfs("/tmp", MIB),),
        resources=Resources(memory_bytes=96 * MIB, cpus=1.0, pids=24),
    )
    return replace(spec, **changes)


async def run_probes(engine, scratch: Path, *arguments: str, **changes) -> dict[str, str]:
    """What each attempt from inside came to: `done`, or the error that met it."""
    argv = ("python3", "/app/fence_probes.py", "/scratch/found.json", *arguments)
    await engine.start(build_spec(scratch, *argv, **changes))
    found = scratch / "found.json"
    for _ in range(300):
        if found.exists():
            return json.loads(found.read_text())
        await asyncio.sleep(0.1)
    raise AssertionError(f"no result: {await engine.observe()}")


@pytest.mark.parametrize("uid", ["0", "234567"], ids=["as the agent starts", "as an app"])
async def test_attempts_from_inside(engine, scratch, uid):
    """Neither the uid that the agent starts with nor an app's gets out of its fence by one way."""
    found = await run_probes(engine, scratch, uid)
    assert {name: came for name, came in found.items() if came == "done"} == {"control": "done"}
    assert found["write to the root"] == "EROFS"
    assert found["write to the code"] == "EROFS"
    assert found["make a device"] == "EPERM"
    assert found["mount"] == "EPERM"
    assert found["new user namespace"] == "EPERM"
    assert found["raw socket"] == "EPERM"
    assert found["trace another process"] == "EPERM"
    assert found["dump core"] == "limit 0"
    assert found["fill /tmp"] == "ENOSPC"
    assert found["fork without end"] == "EAGAIN"
    assert found["set-uid program"] == "NoNewPrivs"
    assert found["seccomp"] == "filter"
    assert found["devices"] == "usual"
    assert found["engine socket"] == "ENOENT"


async def test_capabilities_of_the_agent(engine, scratch):
    """The agent starts with SETUID, SETGID and KILL, an app's uid has nothing."""
    found = await run_probes(engine, scratch, "0")
    assert found["capabilities"] == "00000000000000e0"
    await engine.stop("hello", 1, grace_s=0)
    (scratch / "found.json").unlink()
    assert (await run_probes(engine, scratch, "234567"))["capabilities"] == "0" * 16


async def test_memory_limit(engine, scratch):
    """An app that takes more memory than it may is killed, and that is told."""
    script = f"x = b'1' * {200 * MIB}"
    await engine.start(build_spec(scratch, "python3", "-c", script))
    for _ in range(200):
        (found,) = await engine.observe()
        if found.state is ContainerState.exited:
            break
        await asyncio.sleep(0.05)
    assert (found.oom_killed, found.exit_code) == (True, 137)


async def test_two_apps_cannot_reach_each_other(engine, scratch):
    """An app reaches neither another app's address nor its own other generation's."""
    listen = ("python3", "-c", LISTEN)
    other = await engine.start(build_spec(scratch, *listen, app="other", slot=1))
    elder = await engine.start(build_spec(scratch, *listen, generation=2))
    assert await connect(other.address), "the other app does not listen: the test proves nothing"
    assert await connect(elder.address), "the other generation does not listen"
    found = await run_probes(engine, scratch, "234567", other.address, elder.address)
    assert found[other.address] == "TimeoutError"
    assert found[elder.address] == "TimeoutError"


async def test_apps_have_loopbacks_of_their_own(engine, scratch):
    """A port that this machine listens on at 127.0.0.1 is not there inside."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await run_probes(engine, scratch, "234567", f"127.0.0.1:{port}")
    assert found[f"127.0.0.1:{port}"] == "ECONNREFUSED"


async def test_root_file_system_stays_empty(engine, scratch):
    """After all attempts the container's writable layer holds mount points and no file."""
    await run_probes(engine, scratch, "0")
    (container,) = engine._list([])
    upper = engine._api().inspect_container(container)["GraphDriver"]["Data"].get("UpperDir")
    if upper is None:
        pytest.skip("the engine's storage driver has no upper directory")
    files = [name for folder, _, names in os.walk(upper) for name in names]
    assert [name for name in files if os.path.basename(name) not in KNOWN_FILES] == []


# made empty by the engine as mount points
KNOWN_FILES = {".dockerenv", "hosts", "hostname", "resolv.conf", "console"}
