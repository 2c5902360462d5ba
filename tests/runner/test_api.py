"""What the runner's socket must hold, spoken to over a real one."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from runner.api import RunnerApi, open_socket, read_peer, serve_api
from runner.errors import RunnerError
from runner.events import Json
from runner.operations import Operations
from runner.spec.model import AppSpec
from tests.fakes.deployer import FakeApp, FakeDeployer


def build_spec(**env: str) -> AppSpec:
    """A spec whose `env` steers the fake."""
    return AppSpec.model_validate(
        {
            "name": "hello",
            "hosts": ["hello.localhost"],
            "source": {"repo": "/srv/hello"},
            "entrypoint": "app.py",
            "env": env,
        }
    )


class Caller:
    """A raw HTTP client on the socket, and the fake behind it."""

    def __init__(self, session: aiohttp.ClientSession, fake: FakeDeployer, api: RunnerApi) -> None:
        self.session, self.fake, self.api = session, fake, api

    async def ask(self, method: str, path: str, content: bytes | None = None) -> tuple[int, Json]:
        """Status and answer."""
        async with self.session.request(method, f"http://r{path}", data=content) as said:
            return said.status, await said.json()

    async def stream(self, method: str, path: str, content: bytes | None = None) -> list[Json]:
        """All events of an NDJSON answer."""
        async with self.session.request(method, f"http://r{path}", data=content) as said:
            assert said.content_type == "application/x-ndjson", await said.text()
            return [json.loads(line) async for line in said.content]

    async def deploy(self, **env: str) -> list[Json]:
        """All events of a deploy."""
        return await self.stream("POST", "/deploy", build_spec(**env).model_dump_json().encode())


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    """A served fake."""
    path, fake = tmp_path / "r.sock", FakeDeployer()
    connector = aiohttp.UnixConnector(str(path))
    async with (
        Operations() as operations,
        serve_api(fake, operations, path) as api,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        yield Caller(session, fake, api)


async def test_a_deploy_streams_its_steps_and_ends_with_its_result(caller: Caller) -> None:
    """Steps as they happen, a line of output, the point of no return, the result."""
    events = await caller.deploy()
    kinds = [event["event"] for event in events]
    assert kinds == ["step", "step", "step", "line", "step", "committed", "step", "step", "result"]
    assert events[-1]["url"] == "https://hello.localhost:8443"
    assert events[-1]["changed"] is True


async def test_a_second_deploy_changes_nothing(caller: Caller) -> None:
    """Converged is told as such."""
    await caller.deploy()
    events = await caller.deploy()
    assert [event["event"] for event in events] == ["result"]
    assert events[0]["changed"] is False


async def test_a_failed_deploy_says_why_with_the_end_of_the_log(caller: Caller) -> None:
    """One line, the log's last lines and its place."""
    result = (await caller.deploy(FAIL="no such package"))[-1]
    assert (result["ok"], result["error"]) == (False, "no such package")
    assert (result["log_tail"], result["log_path"]) == (
        ["line one", "line two"],
        "/logs/build-1.log",
    )


async def test_a_second_operation_on_the_app_is_refused_meanwhile(caller: Caller) -> None:
    """409 names what is under way and which process asked for it; another app is free."""
    slow = asyncio.create_task(caller.deploy(SLOW_S="0.5"))
    await asyncio.sleep(0.1)
    content = build_spec().model_dump_json().encode()
    status, answer = await caller.ask("POST", "/deploy", content)
    secret_status, _ = await caller.ask("PUT", "/apps/hello/secrets/X", b"v")
    other_status, _ = await caller.ask("PUT", "/apps/other/secrets/X", b"v")
    await slow
    assert (status, secret_status, other_status) == (409, 409, 200)
    assert f"process {os.getpid()} (uid {os.getuid()})" in answer["error"]


async def leave_during_deploy(caller: Caller, **env: str) -> None:
    """Hang up 0.2 s into a deploy."""
    task = asyncio.create_task(caller.deploy(**env))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.2)


async def test_a_caller_that_hangs_up_early_cancels_its_deploy(caller: Caller) -> None:
    """Nothing is left of a deploy that nobody waits for before it is committed."""
    await leave_during_deploy(caller, SLOW_S="30")
    assert caller.fake.cancelled == ["hello"]
    assert "hello" not in caller.fake.apps


async def test_a_caller_that_hangs_up_late_leaves_the_deploy_running(caller: Caller) -> None:
    """Past the point of no return it is finished without its caller."""
    await leave_during_deploy(caller, SLOW_AFTER_S="0.6")
    assert caller.fake.apps.get("hello") is None
    await asyncio.sleep(0.5)
    assert caller.fake.apps["hello"].generation == 1


async def test_a_caller_that_hangs_up_at_once_leaves_nothing_behind(caller: Caller) -> None:
    """An operation that was cancelled before it began does not keep its app busy."""
    operation = caller.api.operations.start("hello", "deploy", "me", lambda _: asyncio.sleep(9))
    operation.leave()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (await caller.deploy())[-1]["ok"]


async def test_a_removal_goes_on_without_its_caller(caller: Caller) -> None:
    """Half a removal would be worse than one that nobody watched."""
    caller.fake.apps["hello"] = FakeApp(build_spec(), 1)
    task = asyncio.create_task(caller.stream("POST", "/apps/hello/remove"))
    await asyncio.sleep(0.03)
    task.cancel()
    await asyncio.sleep(0.2)
    assert "hello" not in caller.fake.apps


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/apps/nope", 404),
        ("POST", "/apps/nope/remove", 404),
        ("POST", "/apps/nope/restart", 404),
        ("GET", "/apps/nope/logs", 404),
        ("GET", "/apps/nope/secrets", 404),
        ("GET", "/apps/No%2FName", 404),
        ("DELETE", "/apps/hello/secrets/GONE", 422),
        ("PUT", "/apps/hello/secrets/A-B", 422),
        ("PUT", "/apps/hello/secrets/LOCKGATE_X", 422),
        ("GET", "/apps/hello/logs?lines=-1", 422),
        ("GET", "/nothing", 404),
        ("PUT", "/facts", 405),
    ],
)
async def test_what_cannot_be_is_refused_with_one_line(
    caller: Caller, method: str, path: str, status: int
) -> None:
    """Every refusal is JSON with an error of one line."""
    caller.fake.apps["hello"] = FakeApp(build_spec(), 1)
    found, answer = await caller.ask(method, path)
    assert found == status
    assert answer["error"]
    assert "\n" not in answer["error"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(b"\xff\xfe", "UTF-8"), (b"a\0b", "NUL"), (b"x" * 300_000, "256 KiB")],
)
async def test_a_value_that_no_variable_can_hold_is_refused(
    caller: Caller, value: bytes, said: str
) -> None:
    """Too large, not text, or with a NUL byte."""
    status, answer = await caller.ask("PUT", "/apps/hello/secrets/X", value)
    assert status == 422
    assert said in answer["error"]


async def test_no_answer_holds_a_secret(caller: Caller) -> None:
    """Values go in and never come out."""
    await caller.ask("PUT", "/apps/hello/secrets/X", b"hunter2-value")
    answers = [await caller.ask("GET", path) for path in ("/apps", "/apps/hello/secrets", "/facts")]
    assert caller.fake.apps["hello"].secrets == {"X": "hunter2-value"}
    assert answers[1][1] == {"secrets": ["X"]}
    assert "hunter2" not in json.dumps(answers)


@pytest.mark.parametrize("content", [b"", b"{", b'{"name": "hello"}', b"[]", b"\xff"])
async def test_a_spec_of_another_make_is_refused(caller: Caller, content: bytes) -> None:
    """A command line of another version gets a line that names the key."""
    status, answer = await caller.ask("POST", "/deploy", content)
    assert status == 422
    assert "description" in answer["error"]


async def test_a_followed_log_ends_when_its_reader_leaves(caller: Caller) -> None:
    """Lines come as they are written; leaving closes the source."""
    app = caller.fake.apps["hello"] = FakeApp(build_spec(), 1, log=["one", "two", "three"])
    url = "http://r/apps/hello/logs?lines=2&follow=1"
    async with caller.session.get(url) as said:
        lines = [json.loads(await said.content.readline())["text"] for _ in range(2)]
        app.log.append("four")
        caller.fake.lines_added.set()
        lines.append(json.loads(await said.content.readline())["text"])
    assert lines == ["two", "three", "four"]


async def test_a_log_that_fails_half_way_says_so(caller: Caller) -> None:
    """An error becomes the stream's result."""
    caller.fake.apps["hello"] = FakeApp(build_spec(), 1)
    (result,) = await caller.stream("GET", "/apps/hello/logs?generation=9")
    assert (result["ok"], result["error"]) == (False, "hello has no generation 9")


async def test_stop_cancels_stops_and_tells(caller: Caller) -> None:
    """After `POST /stop` nothing runs and nothing begins."""
    slow = asyncio.create_task(caller.deploy(SLOW_S="30"))
    await asyncio.sleep(0.1)
    status, _ = await caller.ask("POST", "/stop")
    assert (status, caller.fake.is_stopped, caller.api.stopped.is_set()) == (200, True, True)
    assert (await slow)[-1]["error"] == "the deploy was cancelled"
    status, answer = await caller.ask("POST", "/deploy", build_spec().model_dump_json().encode())
    assert status == 503
    assert "stopping" in answer["error"]


async def test_a_defect_is_one_line_and_the_runner_lives(caller: Caller) -> None:
    """No traceback crosses the socket."""
    result = (await caller.deploy(BREAK="x"))[-1]
    assert result["error"].startswith("internal error (ZeroDivisionError)")
    assert (await caller.ask("GET", "/facts"))[0] == 200


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    """A crash leaves a file; a second runner must not take the first one's place."""
    path = tmp_path / "r.sock"
    open_socket(path).close()
    with open_socket(path), pytest.raises(RunnerError, match="another runner"):
        open_socket(path)


def test_the_peer_is_who_the_kernel_says() -> None:
    """Pid and uid of the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert read_peer(ours) == (os.getpid(), os.getuid())


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_another_user_gets_no_answer(caller: Caller, tmp_path: Path) -> None:
    """Even with the file's mode opened by mistake, a stranger's uid is refused."""
    path = tmp_path / "r.sock"
    path.chmod(0o777)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    child = await asyncio.create_subprocess_exec(
        *("curl", "-s", "--unix-socket", str(path), "http://r/facts"),
        user=65534,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    assert json.loads(said)["error"] == "only root may ask that"
