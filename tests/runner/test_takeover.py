from pki import IssuedLeaf, PkiError
from runner import retire
from runner.engines import ContainerSpec, ContainerState, ObservedContainer
from runner.events import AppState
from runner.prepare import create_app, find_layout
from runner.publish import set_state
from runner.takeover import take_over
from tests.support.assembly import Assembly


async def deploy(assembly: Assembly) -> None:
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)


async def test_what_runs_is_adopted_after_the_runner_was_killed(assembly: Assembly) -> None:
    """A new runner on the same engine: published again under the same generation, not restarted."""
    await deploy(assembly)
    assembly.parts.addresses.clear()
    assembly.parts.leaves.clear()
    assembly.gateway.restart()
    await take_over(assembly.parts)
    assert assembly.engine.stopped == []
    assert [route.upstream for route in assembly.gateway.table.routes] == ["hello/1"]
    assert ("hello", 1) in assembly.parts.leaves


async def test_what_no_record_accounts_for_is_taken_away(assembly: Assembly) -> None:
    """Left by a deploy that was killed half-way: container, identity, RAM directory, code."""
    await deploy(assembly)
    uuid = assembly.need_record().uuid
    layout = await find_layout(assembly.parts, assembly.need_record())
    orphan = ObservedContainer("hello", 9, uuid, "s", ContainerState.running, "10.201.0.9:8443")
    assembly.engine.containers[("hello", 9)] = orphan
    await assembly.pki.register_app("hello", 9, ["hello.localhost"])
    assembly.parts.handover.write_secrets("hello", 9, {}, None)
    layout.code(9).mkdir(parents=True)
    await take_over(assembly.parts)
    assert set(assembly.engine.containers) == {("hello", 1)}
    assert ("hello", 9) not in assembly.pki.registered
    assert assembly.parts.handover.list_generations() == [("hello", 1)]
    assert not layout.generation(9).exists()


async def test_a_volume_of_no_app_is_closed(assembly: Assembly) -> None:
    """Left by a removal that was killed half-way."""
    mountpoint = assembly.parts.mountpoint("gone")
    await assembly.parts.driver.open("f" * 32, bytes(64), 64 * 1024**2, mountpoint)
    await take_over(assembly.parts)
    assert list(await assembly.parts.driver.list_open()) == []


async def test_a_first_deploy_that_was_interrupted_says_so(assembly: Assembly) -> None:
    """No app stays `building` with nobody at work on it."""
    create_app(assembly.parts, "hello")
    set_state(assembly.parts, "hello", AppState.building)
    await take_over(assembly.parts)
    record = assembly.need_record()
    assert record.state == "failed"
    assert "interrupted" in record.reason


async def test_after_a_stop_the_app_starts_and_says_so(assembly: Assembly) -> None:
    """Visitors who come too early read that it starts, not that it is broken."""
    await deploy(assembly)
    await retire.stop_app(assembly.parts, assembly.need_record())
    assembly.gateway.restart()
    await take_over(assembly.parts)
    seen = []
    real = assembly.engine.start

    async def start(spec: ContainerSpec) -> ObservedContainer:
        seen.append(assembly.gateway.table.routes[0].state)
        return await real(spec)

    assembly.engine.start = start  # type: ignore[method-assign]
    async with assembly.operations:
        await assembly.build_supervisor().turn()
    assert seen == ["starting"]
    assert assembly.need_record().state == "healthy"


async def test_after_a_reboot_the_app_comes_back_without_its_repository(
    assembly: Assembly,
) -> None:
    """No container, no mount, no RAM directory, and the repository out of reach."""
    await deploy(assembly)
    assembly.engine.containers.clear()
    await assembly.parts.driver.close(assembly.parts.mountpoint("hello"))
    assembly.parts.handover.remove_app("hello")
    assembly.parts.addresses.clear()
    assembly.parts.leaves.clear()
    assembly.gateway.restart()
    assembly.repo.path.rename(assembly.repo.path.with_name("away"))
    await take_over(assembly.parts)
    async with assembly.operations:
        await assembly.build_supervisor().turn()
    record = assembly.need_record()
    assert (record.state, record.last_generation) == ("healthy", 1)
    assert [route.upstream for route in assembly.gateway.table.routes] == ["hello/1"]


async def test_an_app_whose_removal_was_killed_stops_no_other_from_being_served(
    assembly: Assembly,
) -> None:
    """Its key is gone, its container runs: that is stopped, its volume locked; remove goes on."""
    await deploy(assembly)
    await assembly.lifecycle.deploy(assembly.build_spec("other"), assembly.events.append)
    await retire.destroy_key(assembly.parts, "hello")
    assembly.parts.addresses.clear()
    await take_over(assembly.parts)
    assert set(assembly.engine.containers) == {("other", 1)}
    (volume,) = await assembly.parts.driver.list_open()
    assert volume.mountpoint == assembly.parts.mountpoint("other")
    async with assembly.operations:
        await assembly.build_supervisor().turn()
    record = assembly.need_record()
    assert (record.state, record.reason) == (
        "stopped",
        "being removed; again: lockgate remove hello",
    )
    await assembly.lifecycle.remove("hello", assembly.events.append)
    assert [record.name for record in assembly.parts.store.list().apps] == ["other"]


async def test_what_runs_without_its_volume_is_started_anew(assembly: Assembly) -> None:
    """Somebody unmounted it while no runner was there: the app comes back, and so do the others."""
    await deploy(assembly)
    await assembly.parts.driver.close(assembly.parts.mountpoint("hello"))
    assembly.parts.addresses.clear()
    await take_over(assembly.parts)
    async with assembly.operations:
        await assembly.build_supervisor().turn()
    assert assembly.engine.stopped == [("hello", 1)]
    assert assembly.need_record().state == "healthy"
    assert set(assembly.engine.containers) == {("hello", 1)}


async def test_what_runs_without_its_identity_is_started_anew(assembly: Assembly) -> None:
    """An emptied RAM directory: the leaf could never be renewed."""
    await deploy(assembly)
    assembly.parts.handover.remove_app("hello")
    await take_over(assembly.parts)
    async with assembly.operations:
        await assembly.build_supervisor().turn()
    assert assembly.engine.stopped == [("hello", 1)]
    assert assembly.need_record().state == "healthy"


async def test_a_leaf_that_could_not_be_renewed_at_the_start_is_renewed_later(
    assembly: Assembly,
) -> None:
    """The PKI was away for a moment: the app goes on, and its leaf does not run out."""
    await deploy(assembly)
    assembly.parts.leaves.clear()
    issue = assembly.pki.issue_app

    async def refuse(app: str, generation: int, csr_pem: bytes) -> IssuedLeaf:
        raise PkiError("pki did not answer")

    assembly.pki.issue_app = refuse  # type: ignore[method-assign]
    await take_over(assembly.parts)
    assembly.pki.issue_app = issue  # type: ignore[method-assign]
    async with assembly.operations:
        await assembly.build_supervisor().turn()
    assert ("hello", 1) in assembly.parts.leaves
    assert assembly.engine.stopped == []


async def test_a_first_deploy_that_was_interrupted_leaves_no_code_and_no_registration(
    assembly: Assembly,
) -> None:
    """Killed while it built, or by a power cut after its identity was issued."""
    await deploy(assembly)
    record = assembly.need_record()
    layout = await find_layout(assembly.parts, record)
    assembly.parts.store.save(record.model_copy(update={"generations": ()}))
    assembly.parts.handover.remove_app("hello")
    await take_over(assembly.parts)
    assert set(assembly.pki.registered) == {("hello", 0)}
    assert list(layout.generations.iterdir()) == []
    assert assembly.engine.containers == {}


async def test_an_orphan_that_cannot_be_stopped_keeps_no_app_from_being_served(
    assembly: Assembly,
) -> None:
    """One stuck container is told of and left."""
    await deploy(assembly)
    orphan = ObservedContainer("gone", 9, "f" * 32, "s", ContainerState.running, "10.201.0.9:8443")
    assembly.engine.containers[("gone", 9)] = orphan
    assembly.engine.stop_error = "it is stuck"
    assembly.gateway.restart()
    await take_over(assembly.parts)
    assert [route.upstream for route in assembly.gateway.table.routes] == ["hello/1"]


async def test_an_app_whose_record_is_damaged_is_left_as_it_is(assembly: Assembly) -> None:
    """A slip in an editor must not cost a running app its container, identity and volume."""
    await deploy(assembly)
    path = assembly.parts.config.state_dir / "apps/hello.json"
    record = path.read_bytes()
    path.write_text("{")
    await take_over(assembly.parts)
    assert set(assembly.engine.containers) == {("hello", 1)}
    assert assembly.parts.handover.list_generations() == [("hello", 1)]
    assert ("hello", 1) in assembly.pki.registered
    assert len(await assembly.parts.driver.list_open()) == 1
    path.write_bytes(record)
    assert assembly.need_record().state == "healthy"
