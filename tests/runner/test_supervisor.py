from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from gateway import ProbeReport
from pki import IssuedLeaf, PkiError
from runner.engines import ContainerState, EngineError
from runner.errors import RunnerError
from runner.events import AppState
from runner.publish import set_state
from runner.store import AppRecord
from runner.supervisor import Supervisor, _log
from tests.support.assembly import Assembly


async def deploy(assembly: Assembly) -> Supervisor:
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    return assembly.build_supervisor()


async def settle(assembly: Assembly, supervisor: Supervisor) -> None:
    """One turn, and the operations that it began."""
    async with assembly.operations:
        await supervisor.turn()


async def test_an_app_that_serves_is_left_alone(assembly: Assembly) -> None:
    """A turn in peace changes nothing."""
    supervisor = await deploy(assembly)
    record, table = assembly.need_record(), assembly.gateway.table
    await settle(assembly, supervisor)
    assert assembly.need_record() == record
    assert assembly.gateway.table == table


async def test_an_app_that_exited_is_brought_back_as_the_same_generation(
    assembly: Assembly,
) -> None:
    """No new generation, no build: the container is started again."""
    supervisor = await deploy(assembly)
    assembly.engine.crash("hello", 1, 1)
    await settle(assembly, supervisor)
    assert assembly.engine.containers[("hello", 1)].state is ContainerState.running
    record = assembly.need_record()
    assert (record.state, record.last_generation) == ("healthy", 1)
    assert assembly.gateway.table.routes[0].upstream == "hello/1"


async def test_what_happened_is_told_while_it_is_down(assembly: Assembly) -> None:
    """Out of memory is not just an exit code."""
    supervisor = await deploy(assembly)
    assembly.engine.crash("hello", 1, 137, oom=True)
    assembly.engine.start_error = "not now"
    await settle(assembly, supervisor)
    record = assembly.need_record()
    assert assembly.gateway.table.routes[0].upstream is None
    assert "used more memory" in assembly.gateway.table.routes[0].reason
    assert record.state == "unhealthy"


async def test_an_app_that_does_not_stay_up_is_tried_with_growing_pauses(
    assembly: Assembly,
) -> None:
    """A second after the first try, two after the next, and so on: no storm of starts."""
    supervisor = await deploy(assembly)
    assembly.engine.crash("hello", 1, 1)
    assembly.engine.start_error = "still broken"
    tries = []
    for second in range(20):
        assembly.now_s = 100.0 + second
        before = len(assembly.engine.stopped)
        await supervisor_turn(assembly, supervisor)
        if len(assembly.engine.stopped) > before:
            tries.append(second)
    assert tries[0] == 0
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 4 * pauses[0]


async def supervisor_turn(assembly: Assembly, supervisor: Supervisor) -> None:
    """A turn with operations of its own, since `Operations` closes for good when it is left."""
    operations = type(assembly.operations)()
    supervisor._operations = operations
    async with operations:
        await supervisor.turn()


async def test_a_storm_of_starts_is_bounded(assembly: Assembly) -> None:
    """After a restart of the engine not all apps start at once."""
    for number in range(6):
        await assembly.lifecycle.deploy(assembly.build_spec(f"app{number}"), lambda _: None)
        assembly.engine.crash(f"app{number}", 1, 1)
    supervisor = assembly.build_supervisor()
    running = []
    async with assembly.operations:
        await supervisor.turn()
        running.append(assembly.operations.count)
    assert running == [4]


async def test_an_app_that_was_started_but_never_proven_is_probed(assembly: Assembly) -> None:
    """A runner killed between start and publication leaves a container that nobody has asked."""
    supervisor = await deploy(assembly)
    set_state(assembly.parts, "hello", AppState.unhealthy, "it exited; starting it again")
    probes = len(assembly.gateway.probed)
    await settle(assembly, supervisor)
    assert len(assembly.gateway.probed) == probes + 1
    assert assembly.need_record().state == "healthy"
    assert assembly.engine.stopped == []


async def test_a_gateway_that_forgot_its_table_gets_it_again(assembly: Assembly) -> None:
    """After a crash of the gateway the hosts are back within a turn."""
    supervisor = await deploy(assembly)
    assembly.gateway.restart()
    await settle(assembly, supervisor)
    assert [route.upstream for route in assembly.gateway.table.routes] == ["hello/1"]


async def test_a_drained_generation_is_retired(assembly: Assembly) -> None:
    """Once its last socket is gone: container, identity, code and record."""
    supervisor = await deploy(assembly)
    assembly.gateway.sockets["hello/1"] = 1
    assembly.repo.commit({"app.py": "print('other')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    await supervisor_turn(assembly, supervisor)
    assert ("hello", 1) in assembly.engine.containers
    assembly.gateway.sockets.clear()
    await supervisor_turn(assembly, supervisor)
    assert set(assembly.engine.containers) == {("hello", 2)}
    assert ("hello", 1) not in assembly.pki.registered
    assert [g.number for g in assembly.need_record().generations] == [2]


async def test_a_drain_ends_at_its_deadline(assembly: Assembly) -> None:
    """Sockets that are still open then are cut, and not a second earlier."""
    supervisor = await deploy(assembly)
    assembly.gateway.sockets["hello/1"] = 1
    assembly.repo.commit({"app.py": "print('other')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(drain="1m"), assembly.events.append)
    assembly.now_s = 59.0
    await supervisor_turn(assembly, supervisor)
    assert assembly.gateway.closed == []
    assembly.now_s = 60.0
    await supervisor_turn(assembly, supervisor)
    assert assembly.gateway.closed == ["hello/1"]
    assert ("hello", 1) not in assembly.engine.containers


async def test_a_leaf_is_renewed_at_half_life_and_the_agent_keeps_its_settings(
    assembly: Assembly,
) -> None:
    """Not before 45 % of its life, surely after 55 %."""
    supervisor = await deploy(assembly)
    settings = assembly.parts.handover.read_identity("hello", 1, "agent.json")
    assembly.now_s = 0.44 * 86400
    await supervisor_turn(assembly, supervisor)
    assert len(assembly.pki.issued) == 1
    assembly.now_s = 0.56 * 86400
    assembly.pki.now += timedelta(seconds=assembly.now_s)
    await supervisor_turn(assembly, supervisor)
    await supervisor_turn(assembly, supervisor)
    assert len(assembly.pki.issued) == 2
    assert assembly.parts.handover.read_identity("hello", 1, "agent.json") == settings


async def test_an_app_under_operation_is_not_looked_after(assembly: Assembly) -> None:
    """A deploy and a recovery of one app never meet."""
    supervisor = await deploy(assembly)
    assembly.engine.crash("hello", 1, 1)
    async with assembly.operations as operations:

        async def look(report: object) -> object:
            await supervisor.turn()
            return await assembly.lifecycle.restart("hello", assembly.events.append)

        operation = operations.start("hello", "restart", "a test", look, is_committed=True)  # type: ignore[arg-type]
        async for _ in operation.follow():
            pass
    assert assembly.need_record().state == AppState.healthy.value
    assert set(assembly.engine.containers) == {("hello", 2)}


async def test_after_halt_there_is_no_turn(assembly: Assembly) -> None:
    """A stop of all apps is not undone by the loop."""
    supervisor = await deploy(assembly)
    await supervisor.halt()
    await supervisor.run()


async def test_what_keeps_failing_is_tried_with_growing_pauses(assembly: Assembly) -> None:
    """A PKI or an engine that stays away: no renewal and no clean-up every second."""
    supervisor = await deploy(assembly)
    assembly.repo.commit({"app.py": "print('other')\n"})
    assembly.engine.stop_error = "the engine is away"
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.parts.leaves.clear()
    tries: list[str] = []

    async def refuse(app: str, generation: int, csr_pem: bytes) -> IssuedLeaf:
        tries.append("renewal")
        raise PkiError("pki did not answer")

    async def stop(app: str, generation: int, grace_s: float) -> None:
        tries.append("clean-up")
        raise EngineError("the engine is away")

    assembly.pki.issue_app = refuse  # type: ignore[method-assign]
    assembly.engine.stop = stop  # type: ignore[method-assign]
    for second in range(60):
        assembly.now_s = float(second)
        await supervisor_turn(assembly, supervisor)
    assert 4 <= tries.count("clean-up") <= 8
    # Both generations, each time.
    assert 8 <= tries.count("renewal") <= 16


async def test_one_leaf_that_cannot_be_renewed_leaves_no_other_to_run_out(
    assembly: Assembly,
) -> None:
    """A draining generation without its RAM directory must not cost the published one its leaf."""
    supervisor = await deploy(assembly)
    assembly.gateway.sockets["hello/1"] = 1
    assembly.repo.commit({"app.py": "print('other')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.parts.leaves.clear()
    assembly.parts.handover.remove("hello", 1)
    await settle(assembly, supervisor)
    assert set(assembly.parts.leaves) == {("hello", 2)}


async def test_a_failure_is_told_once_and_so_is_its_end(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is away for an hour is two lines in the log, not 3600."""
    supervisor = await deploy(assembly)
    told: list[str] = []
    for level in ("info", "warning"):
        monkeypatch.setattr(_log, level, lambda event, **_: told.append(event))
    assembly.gateway.is_down = True
    for _ in range(3):
        await supervisor._attempt("", supervisor.turn())
    assembly.gateway.is_down = False
    for _ in range(3):
        await supervisor._attempt("", supervisor.turn())
    assert told == ["cannot look after apps", "apps are looked after again"]


async def test_a_defect_met_at_one_app_costs_the_others_nothing(assembly: Assembly) -> None:
    """A record that this version does not understand ends neither the turn nor the loop."""
    supervisor = await deploy(assembly)
    await assembly.lifecycle.deploy(assembly.build_spec("zebra"), assembly.events.append)
    assembly.engine.crash("zebra", 1, 1)
    look_after = supervisor._look_after

    async def stumble(record: AppRecord, *seen: Any) -> None:
        if record.name == "hello":
            raise KeyError("a defect")
        await look_after(record, *seen)

    supervisor._look_after = stumble  # type: ignore[method-assign,assignment]
    await settle(assembly, supervisor)
    assert assembly.need_record("zebra").state == "healthy"


async def test_a_new_generation_is_not_made_to_wait_for_the_old_ones_failures(
    assembly: Assembly,
) -> None:
    """The app crashed for hours; a fix is deployed; its first crash is mended at once."""
    supervisor = await deploy(assembly)
    assembly.engine.crash("hello", 1, 1)
    assembly.engine.start_error = "broken"
    for second in range(70):
        assembly.now_s = float(second)
        await supervisor_turn(assembly, supervisor)
    assembly.engine.start_error = ""
    assembly.repo.commit({"app.py": "print('fixed')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.engine.crash("hello", 2, 1)
    await supervisor_turn(assembly, supervisor)
    assert assembly.need_record().state == "healthy"


async def test_what_a_deploy_could_not_take_back_is_taken_away_later(assembly: Assembly) -> None:
    """PKI and engine went away in the middle of it: no container, secret or identity stays."""
    supervisor = await deploy(assembly)
    assembly.repo.commit({"app.py": "print('other')\n"})
    forget, assembly.gateway.answer = (
        assembly.pki.forget_app,
        ProbeReport(ok=False, status=None, reason="refused"),
    )

    async def refuse(app: str, generation: int | None = None) -> list[str]:
        raise PkiError("pki did not answer")

    assembly.pki.forget_app = refuse  # type: ignore[method-assign]
    assembly.engine.stop_error = "the engine is away"
    with pytest.raises(RunnerError, match="did not answer"):
        await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assert ("hello", 2) in assembly.engine.containers
    assembly.pki.forget_app = forget  # type: ignore[method-assign]
    assembly.engine.stop_error = ""
    await settle(assembly, supervisor)
    assert set(assembly.engine.containers) == {("hello", 1)}
    assert set(assembly.pki.registered) == {("hello", 0), ("hello", 1)}
    assert assembly.parts.handover.list_generations() == [("hello", 1)]
