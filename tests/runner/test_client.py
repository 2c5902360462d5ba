"""What the socket's client must hold."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runner.api import serve_api
from runner.client import RunnerClient, check_result
from runner.errors import BusyError, RefusedError, RunnerError, UnknownAppError, UnreachableError
from runner.operations import Operations
from tests.fakes.deployer import SINCE, FakeApp, FakeDeployer
from tests.runner.test_api import build_spec


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeDeployer]:
    """A fake served on `r.sock`."""
    deployer = FakeDeployer()
    async with Operations() as operations, serve_api(deployer, operations, tmp_path / "r.sock"):
        yield deployer


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[RunnerClient]:
    """A client of `r.sock`."""
    async with RunnerClient(tmp_path / "r.sock") as found:
        yield found


async def test_a_whole_life_of_an_app(fake: FakeDeployer, client: RunnerClient) -> None:
    """Plan, secrets, deploy, status, logs, restart, remove: all through the socket."""
    spec = build_spec()
    assert [step["verb"] for step in await client.fetch_plan(spec)][-1] == "publish"
    await client.set_secret("hello", "X", "v\u00fc")
    assert fake.apps["hello"].secrets == {"X": "v\u00fc"}
    events = [event async for event in client.deploy(spec)]
    assert events[-1]["ok"]
    assert await client.fetch_plan(spec) == []
    (status,) = await client.fetch_status("hello")
    assert (status.generation, status.since) == (1, SINCE)
    lines = [event async for event in client.logs("hello", lines=1)]
    assert lines[0] == {"event": "line", "text": "generation 1 started"}
    assert [event async for event in client.restart("hello")][-1]["generation"] == 1
    assert await client.list_secrets("hello") == ["X"]
    await client.remove_secret("hello", "X")
    assert [event async for event in client.remove("hello")][-1]["removed"]
    assert await client.fetch_status() == []


async def test_errors_keep_their_kind(fake: FakeDeployer, client: RunnerClient) -> None:
    """A caller can tell an unknown app from a refusal."""
    with pytest.raises(UnknownAppError):
        await client.fetch_status("nope")
    fake.apps["hello"] = FakeApp()
    with pytest.raises(RefusedError):
        await client.remove_secret("hello", "X")
    with pytest.raises(UnknownAppError):
        [event async for event in client.remove("nope")]


@pytest.mark.parametrize("kind", [UnknownAppError, BusyError, RefusedError, UnreachableError])
def test_a_failed_result_becomes_the_error_that_it_was(kind: type[RunnerError]) -> None:
    """Also when the failure came at the end of a stream."""
    answer = {
        "ok": False,
        "error": "why",
        "status": kind.status,
        "log_tail": ["l"],
        "log_path": "p",
    }
    with pytest.raises(kind, match="why") as caught:
        check_result(answer)
    assert (caught.value.log_tail, caught.value.log_path) == (("l",), "p")


def test_a_good_result_is_no_error() -> None:
    """Answers without `ok` are good as well."""
    check_result({"ok": True})
    check_result({"apps": []})


async def test_no_runner_is_said_with_socket_and_remedy(client: RunnerClient) -> None:
    """The most frequent mistake gets the clearest words."""
    with pytest.raises(UnreachableError, match=r"lockgate up is not running.*r\.sock.*--config"):
        await client.fetch_facts()
    with pytest.raises(UnreachableError, match="not running"):
        [event async for event in client.deploy(build_spec())]


async def test_a_forbidden_socket_is_not_called_absent(
    tmp_path: Path, client: RunnerClient
) -> None:
    """Somebody else's socket means: become that user."""
    (tmp_path / "r.sock").touch(0o000)
    is_root = os.geteuid() == 0
    try:
        if is_root:  # who may open everything
            os.seteuid(65534)
        with pytest.raises(UnreachableError, match="not allowed"):
            await client.fetch_facts()
    finally:
        if is_root:
            os.seteuid(0)


async def test_stop_and_doctor_and_facts(fake: FakeDeployer, client: RunnerClient) -> None:
    """The calls that concern the whole runner."""
    assert (await client.fetch_facts())["engine"] == "fake"
    assert [check["ok"] for check in await client.fetch_checks()] == [True, False]
    await client.stop()
    assert fake.is_stopped
