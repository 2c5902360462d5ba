import pytest

from runner import retire
from runner.engines import EngineError
from runner.prepare import find_layout
from tests.support.assembly import Assembly


async def test_taking_away_what_is_not_there_is_no_error(assembly: Assembly) -> None:
    """Every step may be asked for again after it failed half-way."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    for _ in range(2):
        await retire.stop(assembly.parts, "hello", 1)
        await retire.withdraw(assembly.parts, "hello", 1)
        await retire.destroy_key(assembly.parts, "hello")
        await retire.unpublish(assembly.parts, "hello")
        await retire.remove_containers(assembly.parts, "hello")
        await retire.destroy_volume(assembly.parts, "hello")
        await retire.withdraw_all(assembly.parts, "hello")
    assert assembly.pki.registered == {}


async def test_closing_the_routes_cuts_what_is_open(assembly: Assembly) -> None:
    """Visitors of a removed app are not served to the end of their sockets."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    await retire.unpublish(assembly.parts, "hello")
    assert assembly.gateway.closed == ["hello/1"]
    assert assembly.gateway.table.routes == ()


async def test_an_app_that_cannot_be_stopped_keeps_its_volume(assembly: Assembly) -> None:
    """A volume is not locked under a container that still runs."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    assembly.engine.stop_error = "engine does not answer"
    with pytest.raises(EngineError):
        await retire.stop_app(assembly.parts, assembly.need_record())
    assert len(await assembly.parts.driver.list_open()) == 1


async def test_a_generation_is_retired_while_the_volume_is_closed(assembly: Assembly) -> None:
    """After a reboot nothing is mounted; its code goes when the volume is opened again."""
    await assembly.lifecycle.deploy(assembly.build_spec(), lambda _: None)
    assembly.gateway.sockets["hello/1"] = 1
    assembly.repo.commit({"app.py": "print('other')\n"})
    await assembly.lifecycle.deploy(assembly.build_spec(), lambda _: None)
    assembly.engine.containers.clear()
    await assembly.parts.driver.close(assembly.parts.mountpoint("hello"))
    await retire.retire(assembly.parts, assembly.need_record(), 1)
    await assembly.lifecycle.recover("hello", lambda _: None)
    layout = await find_layout(assembly.parts, assembly.need_record())
    assert [path.name for path in layout.generations.iterdir()] == ["2"]
    assert assembly.need_record().state == "healthy"
