"""The process engine with the real agent and bubblewrap: life, layout, adoption, isolation."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runner.engines import BuildSpec, ContainerState, EngineError, Mount, Resources, Tmpfs
from runner.engines.process import ProcessEngine
from runner.engines.procfs import end_process, list_descendants
from tests.support.agent import APP_DNS, GATEWAY, build_client
from tests.support.passable import open_passable_folder
from tests.support.stage import AUTHORITY, MIB, Stage

IS_ROOT = os.geteuid() == 0
UID_BASE = 345600
APP = Path(__file__).with_name("process_app.py")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """One that the uids of agents and apps can pass through."""
    with open_passable_folder() as folder:
        yield folder


@pytest.fixture(params=["sandbox", "plain"])
def kind(request, monkeypatch) -> str:
    """With bubblewrap, and as where bubblewrap refuses to work."""
    if request.param == "plain":
        broken = (("--no-such-option",),)
        monkeypatch.setattr("runner.engines.interpreter.VARIANTS", broken)
    return request.param


@pytest.fixture
async def engine(kind, tmp_path) -> AsyncIterator[ProcessEngine]:
    """An engine in a folder of its own; nothing it started is left."""
    engine = ProcessEngine(tmp_path / "engine", uid_base=UID_BASE)
    facts = await engine.check()
    assert facts.image_id.startswith("process:bwrap:" if kind == "sandbox" else "process:plain:")
    yield engine
    for app in ("hello", "other"):
        await engine.remove_app(app)
    await engine.close()


@pytest.fixture
def stage(tmp_path) -> Stage:
    """Generation 1 of hello, whose code is the test's app."""
    stage = Stage(tmp_path, UID_BASE if IS_ROOT else None)
    stage.write_code(APP.read_text())
    stage.write_secrets(SECRET="canary")
    return stage


async def wait_for(path: Path, *logs: Path) -> str:
    """The text of a file that will appear; the logs say why if it does not."""
    for _ in range(200):
        if path.exists():
            return path.read_text()
        await asyncio.sleep(0.05)
    told = [log.read_text() for log in logs if log.exists()]
    raise AssertionError(f"{path} does not appear: {told}")


def list_logs(engine, stage) -> tuple[Path, Path]:
    """What the agent wrote, and what it said before it could write."""
    return stage.log, engine._files.errors_path(stage.app, stage.generation)


async def wait_for_exit(engine):
    """The observed process once it has exited."""
    for _ in range(200):
        (found,) = await engine.observe()
        if found.state is ContainerState.exited:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it does not exit")


async def start(engine, stage, **changes):
    """Start the test's app and wait until it has looked around."""
    identity = str(stage.places.identity)
    python = engine._ability.python.path
    spec = stage.furnish(engine, python, "app.py", "{port}", identity, **changes)
    started = await engine.start(spec)
    found = await wait_for(stage.places.scratch / "found.json", *list_logs(engine, stage))
    return started, json.loads(found)


async def test_start_observe_stop(engine, stage):
    """An app starts, is observed, gets SIGTERM through agent and sandbox, and is gone with all."""
    started, _ = await start(engine, stage)
    assert started.address.startswith("unix:/")
    assert (started.app, started.generation, started.spec_hash) == ("hello", 1, "cafe")
    assert list(await engine.observe()) == [started]
    await engine.stop("hello", 1, grace_s=10)
    assert (stage.places.scratch / "stopped").exists()
    assert list(await engine.observe()) == []
    assert list((engine._files._folder).iterdir()) == []
    assert sorted(p.name for p in stage.places.secrets.parent.iterdir()) == ["identity", "secrets"]


async def test_mutual_tls_at_the_socket(engine, stage, tmp_path):
    """The agent's door stands at the address: the gateway's certificate gets the app's answer."""
    started, _ = await start(engine, stage)
    leaf = AUTHORITY.issue(GATEWAY)
    context = build_client(AUTHORITY.root_pem, leaf, tmp_path)

    def visit() -> bytes:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(started.address.removeprefix("unix:"))
            with context.wrap_socket(plain, server_hostname=APP_DNS) as tls:
                tls.sendall(b"GET /app.py HTTP/1.0\r\n\r\n")
                return tls.recv(15)

    assert await asyncio.to_thread(visit) == b"HTTP/1.0 200 OK"


async def test_socket_is_open_to_the_gateway(engine, stage):
    """Another uid reaches the socket (its certificate decides), but no other file of ours."""
    started, _ = await start(engine, stage)
    path = Path(started.address.removeprefix("unix:"))
    assert path.stat().st_mode & 0o777 == 0o666
    assert path.parent.stat().st_mode & 0o777 == 0o711
    (record,) = path.parent.parent.glob("*.json")
    assert record.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["sandbox"], indirect=True)
async def test_layout_in_the_sandbox(engine, stage):
    """The app sees the layout of a container: its code, capped RAM, itself, and no agent."""
    _, found = await start(engine, stage)
    assert found["cwd"] == "/app/code"
    assert (found["home"], found["tmp"]) == ("/tmp/home", "/tmp")
    assert found["home is writable"] == "done"
    assert found["secret"] == "canary"
    assert found["write to the code"] == "OSError"
    assert found["write to the root"] == "OSError"
    assert found["fill /tmp"] == "OSError"
    assert found["processes"] == 2
    assert found["capabilities"] == "0" * 16
    assert found["no new privileges"] == "1"
    assert found["read the identity"] == "FileNotFoundError"
    assert found["identity in the box"] == "FileNotFoundError"
    assert {"home", "root", "work"}.isdisjoint(found["root"])


@pytest.mark.parametrize("kind", ["plain"], indirect=True)
async def test_layout_without_a_sandbox(engine, stage):
    """Without a sandbox the app works with the host's paths and keeps its secrets."""
    _, found = await start(engine, stage)
    assert found["cwd"] == str(stage.places.generation / "code")
    assert found["secret"] == "canary"
    assert found["home is writable"] == "done"
    assert found["tmp"] == str(stage.places.secrets.parent / "tmp")
    assert found["no new privileges"] == "1"


@pytest.mark.skipif(not IS_ROOT, reason="needs root for uids of their own")
async def test_uids_of_their_own(engine, stage):
    """As root, agent and app get the uids of the slot, and the app cannot read the identity."""
    started, found = await start(engine, stage)
    record = engine._files.find("hello", 1)
    assert os.stat(f"/proc/{record.process.pid}").st_uid in {0, UID_BASE}  # 0: not dumpable
    status = Path(f"/proc/{record.process.pid}/status").read_text()
    assert f"Uid:\t{UID_BASE}\t{UID_BASE}" in status
    assert found["uid"] == UID_BASE + 1
    assert found["read the identity"] in {"PermissionError", "FileNotFoundError"}
    assert started.state is ContainerState.running


async def test_exit_code_is_observed(engine, stage):
    """An app that exits by itself stays to be seen, with its exit code and no address."""
    python = engine._ability.python.path
    await engine.start(stage.furnish(engine, python, "-c", "raise SystemExit(5)"))
    found = await wait_for_exit(engine)
    assert (found.exit_code, found.address) == (5, None)


async def test_app_that_ignores_sigterm(engine, stage):
    """An app that refuses to stop is killed with its children, by the agent or by us."""
    script = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork();"
        "os.fork() or os.setsid(); time.sleep(0.3);"
        "open(os.environ['SCRATCH'] + '/found.json', 'w'); time.sleep(600)"
    )
    spec = stage.furnish(engine, engine._ability.python.path, "-c", script)
    await engine.start(spec)
    await wait_for(stage.places.scratch / "found.json", *list_logs(engine, stage))
    agent = engine._files.find("hello", 1).process.pid
    descendants = list_descendants(agent)
    assert len(descendants) >= 4
    await engine.stop("hello", 1, grace_s=0.5)
    for pid in (agent, *descendants):
        assert not Path(f"/proc/{pid}/exe").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()


async def test_later_engine_adopts(engine, stage, tmp_path):
    """An engine made later sees and stops what an earlier one started."""
    started, _ = await start(engine, stage)
    later = ProcessEngine(tmp_path / "engine", uid_base=UID_BASE)
    assert list(await later.observe()) == [started]
    await later.check()
    await later.stop("hello", 1, grace_s=5)
    assert (stage.places.scratch / "stopped").exists()
    assert list(await later.observe()) == []


async def test_reused_pid_is_nobody(engine, stage):
    """A record whose pid belongs to another process now is exited, and nobody is signalled."""
    await start(engine, stage)
    record = engine._files.find("hello", 1)
    path = engine._files._record_path("hello", 1)
    fields = json.loads(path.read_text())
    fields["process"]["pid"] = os.getpid()
    path.write_text(json.dumps(fields))
    (found,) = await engine.observe()
    assert found.state is ContainerState.exited
    later = ProcessEngine(engine._files._folder, uid_base=UID_BASE)
    await later.stop("hello", 1, grace_s=0)  # would end this very test
    await end_process(record.process, 0)


async def test_two_apps_side_by_side(engine, stage, tmp_path):
    """Apps have ports of their own, and one is removed without the other."""
    other = Stage(tmp_path, stage.uid_base, app="other", slot=1)
    other.write_code(APP.read_text())
    await start(engine, stage)
    await start(engine, other)
    assert {found.app for found in await engine.observe()} == {"hello", "other"}
    await engine.remove_app("hello")
    assert [found.app for found in await engine.observe()] == ["other"]


async def test_running_generation_is_not_started_twice(engine, stage):
    """A generation that runs is not started again; one that has exited is."""
    await start(engine, stage)
    with pytest.raises(EngineError, match="hello/1 is running already"):
        await engine.start(stage.furnish(engine, "true"))
    os.kill(engine._files.find("hello", 1).process.pid, signal.SIGKILL)
    await wait_for_exit(engine)
    assert (await start(engine, stage))[0].state is ContainerState.running


async def test_failed_start_leaves_nothing(engine, stage):
    """A start without a mount's source fails in one line and leaves no folder."""
    spec = stage.furnish(engine, "true")
    stage.places.scratch.rmdir()
    with pytest.raises(EngineError, match=r"mount source does not exist: \S+scratch"):
        await engine.start(spec)
    assert list(engine._files._folder.iterdir()) == []


async def test_stop_and_remove_of_nothing(engine):
    """What is not there needs no stopping and no removing."""
    await engine.stop("hello", 9, grace_s=1)
    await engine.remove_app("hello")


def build_build(engine, tmp_path, *argv, **changes) -> BuildSpec:
    """A build that does what `argv` says, with a writable `/app/venv`."""
    place = tmp_path / "env"
    place.mkdir(exist_ok=True)
    if IS_ROOT:
        os.chown(place, UID_BASE + 1, UID_BASE + 1)
    fields = {
        "app": "hello",
        "uuid": "ab" * 16,
        "slot": 0,
        "argv": argv,
        "env": {"A": "b"},
        "mounts": (Mount(place, "/app/venv", is_writable=True),),
        "tmpfs": (Tmpfs("/tmp", MIB),),
        "resources": Resources(256 * MIB, 1.0, 64),
        "uid": UID_BASE + 1 if IS_ROOT else os.getuid(),
        "timeout_s": 30,
    }
    return BuildSpec(**fields | changes)


async def test_build(engine, tmp_path):
    """A build runs as the app's uid with its own environment; lines and exit code come back."""
    lines: list[str] = []
    mounts = build_build(engine, tmp_path).mounts
    target = f"{engine.locate(mounts, '/app/venv')}/made"
    script = f"id -u; echo $A; echo err >&2; touch {target}; exit 5"
    code = await engine.build(build_build(engine, tmp_path, "sh", "-c", script), lines.append)
    assert code == 5
    assert sorted(lines) == sorted([str(UID_BASE + 1 if IS_ROOT else os.getuid()), "b", "err"])
    assert (tmp_path / "env/made").exists()


async def test_build_that_takes_too_long(engine, tmp_path):
    """A build is killed at its timeout, with what it started, says so, and returns 124."""
    lines: list[str] = []
    mark = f"sleep 61.{os.getpid()}"
    spec = build_build(engine, tmp_path, "sh", "-c", f"{mark} & echo x; {mark}", timeout_s=1)
    assert await engine.build(spec, lines.append) == 124
    assert lines == ["x", "not done after 1 s: stopped"]
    await asyncio.sleep(0.2)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [line for line in commands if mark.replace(" ", "\0").encode() in line]


async def test_facts(engine, kind):
    """What isolation is given up is one line; a sandbox that does not work says why."""
    facts = await engine.check()
    assert facts.name == "process"
    assert facts.python >= "3.11"
    assert "\n" not in facts.gives_up
    assert ("bubblewrap sandbox" in facts.gives_up) is (kind == "sandbox")
    assert bool(facts.notes) is (kind == "plain")
    if kind == "plain":
        assert "no-such-option" in facts.notes[0]
