from typing import Any

import pytest

from gateway import GatewayError, ProbeReport
from runner import retire
from runner.apply import IncompleteError
from runner.engines import EngineError
from runner.errors import RefusedError, RunnerError, UnknownAppError
from runner.events import AppState, Committed
from runner.lifecycle import format_bytes
from tests.support.assembly import Assembly


async def test_a_deploy_publishes_generation_one(assembly: Assembly) -> None:
    """Record, route, identity and address all name the same generation."""
    result = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert (result.generation, result.is_changed) == (1, True)
    assert result.url == "https://hello.localhost:8443"
    (route,) = assembly.gateway.table.routes
    (upstream,) = assembly.gateway.table.upstreams
    assert (route.upstream, route.state) == ("hello/1", "healthy")
    assert upstream.spiffe_id.endswith("/app/hello/1")
    assert set(assembly.pki.registered) == {("hello", 0), ("hello", 1)}
    (status,) = await assembly.lifecycle.status("hello")
    assert (status.state, status.commit) == (AppState.healthy, result.commit)


async def test_the_probe_comes_before_the_table(assembly: Assembly) -> None:
    """Visitors get only what has answered; `committed` is said before they can see a change."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    done = assembly.list_steps("done")
    assert done.index("probe") < done.index("publish")
    committed = next(i for i, e in enumerate(assembly.events) if isinstance(e, Committed))
    publishing = [i for i, e in enumerate(assembly.events) if getattr(e, "name", "") == "publish"]
    assert committed < publishing[1]


async def test_a_second_deploy_does_nothing(assembly: Assembly) -> None:
    """The same commit and spec: no step, no new table."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    table, assembly.events = assembly.gateway.table, []
    assert await assembly.lifecycle.plan(assembly.build_spec()) == []
    result = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert (result.is_changed, result.generation) == (False, 1)
    assert assembly.events == []
    assert assembly.gateway.table == table


async def test_a_new_commit_replaces_the_old_generation(assembly: Assembly) -> None:
    """The old container, identity and code are gone; an unchanged environment was kept."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.repo.commit({"app.py": "print('other')\n"})
    builds = len(assembly.engine.builds)
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert set(assembly.engine.containers) == {("hello", 2)}
    assert set(assembly.pki.registered) == {("hello", 0), ("hello", 2)}
    assert [g.number for g in assembly.need_record().generations] == [2]
    assert len(assembly.engine.builds) == builds


async def test_open_sockets_keep_the_old_generation_alive(assembly: Assembly) -> None:
    """A redeploy cuts no WebSocket: the old generation drains and stays."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.gateway.sockets["hello/1"] = 2
    assembly.repo.commit({"app.py": "print('other')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert ("hello", 1) in assembly.engine.containers
    assert assembly.gateway.closed == []
    states = {g.number: g.state for g in assembly.need_record().generations}
    assert states == {1: "draining", 2: "published"}


async def test_a_deploy_that_fails_to_start_changes_nothing(assembly: Assembly) -> None:
    """The published generation serves on; what the failed one had is taken back."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    table = assembly.gateway.table
    assembly.repo.commit({"app.py": "print('other')\n"})
    assembly.engine.start_error = "no such image"
    with pytest.raises(EngineError, match="no such image"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert set(assembly.engine.containers) == {("hello", 1)}
    assert set(assembly.pki.registered) == {("hello", 0), ("hello", 1)}
    assert assembly.gateway.table.upstreams == table.upstreams
    (status,) = await assembly.lifecycle.status("hello")
    assert (status.state, status.generation) == (AppState.healthy, 1)
    assert "last deploy failed: no such image" in status.reason


async def test_a_first_deploy_that_does_not_build_is_failed_and_keeps_its_log(
    assembly: Assembly,
) -> None:
    """The error names where the log lies, and the log has the build's words."""
    assembly.engine.build_code = 1
    with pytest.raises(RunnerError) as caught:
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    with open(caught.value.log_path) as log:
        assert "it does not build" in log.read()
    (status,) = await assembly.lifecycle.status("hello")
    assert status.state is AppState.failed
    (route,) = assembly.gateway.table.routes
    assert (route.upstream, route.state) == (None, "failed")


async def test_an_app_that_exits_at_once_is_told_with_its_exit_code(assembly: Assembly) -> None:
    """The probe does not wait for its timeout when the container is gone."""
    assembly.gateway.answer = ProbeReport(ok=False, status=None, reason="connect_refused")

    class Crashing:
        async def probe(self, *args: object, **kwargs: object) -> ProbeReport:
            assembly.engine.crash("hello", 1, 3)
            return assembly.gateway.answer

    assembly.gateway.probe = Crashing().probe  # type: ignore[method-assign]
    with pytest.raises(RunnerError, match="the app exited with code 3"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.engine.containers == {}


async def test_an_app_that_never_answers_is_told_with_the_last_try(assembly: Assembly) -> None:
    """The path, the time it had and what the last probe saw."""
    assembly.gateway.answer = ProbeReport(ok=False, status=500, reason="status")
    with pytest.raises(RunnerError, match=r"/_stcore/health within 0.2 s .*answered 500"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)


async def test_generation_numbers_are_not_reused_after_a_failure(assembly: Assembly) -> None:
    """A number is part of an identity, so it is given out once."""
    assembly.engine.start_error = "no"
    with pytest.raises(EngineError):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.engine.start_error = ""
    result = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert result.generation == 2


async def test_a_deploy_stands_even_if_the_old_generation_cannot_be_taken_away(
    assembly: Assembly,
) -> None:
    """The new one is published: it stays, and the reconcile loop takes the old one away later."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.repo.commit({"app.py": "print('other')\n"})
    assembly.engine.stop_error = "the engine went away"
    result = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert result.generation == 2
    assert ("hello", 2) in assembly.engine.containers
    assert ("hello", 2) in assembly.pki.registered
    assert [g.state for g in assembly.need_record().generations] == ["draining", "published"]


async def test_a_deploy_of_what_stands_already_brings_it_back_in_its_own_environment(
    assembly: Assembly,
) -> None:
    """The same commit and spec while the app is down: the same generation, its own virtualenv."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    before, spec = assembly.need_record(), assembly.engine.specs[("hello", 1)]
    assembly.engine.crash("hello", 1, 1)
    result = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert result.generation == 1
    assert assembly.engine.specs[("hello", 1)].mounts == spec.mounts
    assert assembly.need_record().generations == before.generations


async def test_a_host_of_another_app_is_refused_before_anything_happens(
    assembly: Assembly,
) -> None:
    """The owner is named."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    spec = assembly.build_spec("other", hosts=["hello.localhost"])
    with pytest.raises(RefusedError, match=r"host hello.localhost belongs to app hello"):
        await assembly.lifecycle.deploy(spec, assembly.events.append)
    assert assembly.parts.store.load("other") is None


async def test_a_restart_is_a_new_generation_of_the_same_commit(assembly: Assembly) -> None:
    """Code comes from the volume, so it works while the repository is out of reach."""
    first = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.repo.path.rename(assembly.repo.path.with_name("away"))
    result = await assembly.lifecycle.restart("hello", assembly.events.append)
    assert result.generation == 2
    (status,) = await assembly.lifecycle.status("hello")
    assert (status.generation, status.commit) == (2, first.commit)


async def test_a_token_that_is_not_set_is_refused_with_the_command_that_sets_it(
    assembly: Assembly,
) -> None:
    """The message names key, secret and remedy."""
    spec = assembly.build_spec(
        source={"repo": "https://git.example.org/a.git", "token": "GIT_TOKEN"}
    )
    with pytest.raises(RefusedError, match="lockgate secrets set hello GIT_TOKEN"):
        await assembly.lifecycle.deploy(spec, assembly.events.append)


async def test_a_removal_leaves_nothing(assembly: Assembly) -> None:
    """Key, container, volume, route, identity, RAM directory, record."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    uuid = assembly.need_record().uuid
    await assembly.lifecycle.remove("hello", assembly.events.append)
    assert not assembly.parts.vault.has_app(uuid)
    assert assembly.engine.containers == {}
    assert list(await assembly.parts.driver.list_open()) == []
    assert assembly.gateway.table.routes == ()
    assert assembly.pki.registered == {}
    assert assembly.parts.handover.list_generations() == []
    with pytest.raises(UnknownAppError):
        await assembly.lifecycle.status("hello")


async def test_a_removal_that_is_incomplete_is_loud_and_can_go_on(assembly: Assembly) -> None:
    """The key is gone all the same, the record stays until the rest is gone too."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    uuid = assembly.need_record().uuid
    assembly.engine.stop_error = "engine does not answer"
    with pytest.raises(IncompleteError, match="remove containers: engine does not answer"):
        await assembly.lifecycle.remove("hello", assembly.events.append)
    assert not assembly.parts.vault.has_app(uuid)
    assert assembly.need_record().reason.startswith("being removed")
    with pytest.raises(RefusedError, match="hello is being removed"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.engine.stop_error = ""
    await assembly.lifecycle.remove("hello", assembly.events.append)
    assert assembly.parts.store.load("hello") is None


async def test_a_name_can_be_used_again_and_inherits_nothing(assembly: Assembly) -> None:
    """Another uuid, another volume, no secret."""
    service = assembly.build_service()
    await service.set_secret("hello", "API_KEY", "canary")
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    uuid = assembly.need_record().uuid
    await assembly.lifecycle.remove("hello", assembly.events.append)
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.need_record().uuid != uuid
    assert await service.list_secrets("hello") == []


@pytest.mark.parametrize(
    ("size", "text"),
    [(4 * 1024**3, "4 GiB"), (1536 * 1024**2, "1.5 GiB"), (256 * 1024**2, "256 MiB"), (12, "12 B")],
)
def test_sizes_are_told_in_the_largest_unit(size: int, text: str) -> None:
    """As people write them."""
    assert format_bytes(size) == text


async def test_an_app_that_does_not_come_back_is_unhealthy_with_the_last_reason(
    assembly: Assembly,
) -> None:
    """Not `starting` for ever after a stop, and no word of a container that we took away."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    await retire.stop_app(assembly.parts, assembly.need_record())
    assembly.engine.start_error = "no room"
    for _ in range(2):
        with pytest.raises(RunnerError, match="no room"):
            await assembly.lifecycle.recover("hello", assembly.events.append)
    record = assembly.need_record()
    assert (record.state, record.reason) == ("unhealthy", "starting it again failed: no room")


async def test_a_deploy_of_what_serves_clears_the_reason_of_a_failed_one(
    assembly: Assembly,
) -> None:
    """Who goes back to what serves reads no more of what did not."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.engine.start_error = "no room"
    with pytest.raises(RunnerError, match="no room"):
        await assembly.lifecycle.deploy(assembly.build_spec(env={"A": "b"}), assembly.events.append)
    assert "last deploy failed" in assembly.need_record().reason
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert (assembly.need_record().state, assembly.need_record().reason) == ("healthy", "")


async def test_a_gateway_that_is_started_again_fails_no_deploy(assembly: Assembly) -> None:
    """A probe that nobody answers is tried again as long as the app has time."""
    probe, tries = assembly.gateway.probe, []

    async def stumble(*args: Any, **kwargs: Any) -> ProbeReport:
        tries.append(args)
        if len(tries) == 1:
            raise GatewayError("gateway did not answer")
        return await probe(*args, **kwargs)

    assembly.gateway.probe = stumble  # type: ignore[method-assign]
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.need_record().state == "healthy"


async def test_what_a_git_server_says_is_read_as_the_apps_uid(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the mere look for the newest commit."""
    result = await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    asked = []

    async def resolve(*_: object, uid: int | None, **__: object) -> str:
        asked.append(uid)
        return result.commit

    monkeypatch.setattr("runner.lifecycle.resolve_commit", resolve)
    await assembly.lifecycle.plan(assembly.build_spec())
    assert asked == [assembly.parts.find_owners(assembly.need_record()).app]
