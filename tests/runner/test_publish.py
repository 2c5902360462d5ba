from runner.events import AppState
from runner.prepare import create_app
from runner.publish import observe, publish, set_state
from tests.support.assembly import Assembly


def test_since_moves_only_with_the_state(assembly: Assembly) -> None:
    """Another reason for the same state does not make it younger."""
    create_app(assembly.parts, "hello")
    assembly.now_s = 10.0
    first = set_state(assembly.parts, "hello", AppState.failed, "one")
    assembly.now_s = 20.0
    second = set_state(assembly.parts, "hello", AppState.failed, "two")
    third = set_state(assembly.parts, "hello", AppState.starting)
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.since_s == first.since_s
    assert second.reason == "two"
    assert third.since_s == first.since_s + 10.0


def test_an_app_that_is_not_there_has_no_state(assembly: Assembly) -> None:
    """A removal may overtake a note."""
    assert set_state(assembly.parts, "hello", AppState.failed) is None


async def test_each_table_is_newer_than_the_last(assembly: Assembly) -> None:
    """The gateway and the runner can tell whether they mean the same table."""
    first = await publish(assembly.parts)
    second = await publish(assembly.parts)
    assert second.version == first.version + 1
    assert assembly.gateway.table == second


async def test_observing_learns_addresses_of_our_own_containers(assembly: Assembly) -> None:
    """After a restart of the runner the engine says where everything is."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.parts.addresses.clear()
    standing = await observe(assembly.parts, "hello")
    assert standing.is_serving
    assert set(assembly.parts.addresses) == {("hello", 1)}
