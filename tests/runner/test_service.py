import asyncio

import pytest

from runner import retire
from runner.errors import RefusedError, RunnerError
from runner.launch import build_delivery
from tests.support.assembly import Assembly


async def test_a_secret_set_before_the_first_deploy_reaches_the_app(assembly: Assembly) -> None:
    """Secrets come first where an app cannot start without them."""
    service = assembly.build_service()
    await service.set_secret("hello", "API_KEY", "canary")
    await service.deploy(assembly.build_spec(), assembly.events.append)
    assert assembly.read_secrets("hello", 1)["API_KEY"] == "canary"


async def test_what_only_fetches_the_code_is_not_delivered(assembly: Assembly) -> None:
    """The app never sees the token that opens its repository."""
    service = assembly.build_service()
    await service.set_secret("hello", "GIT_TOKEN", "canary")
    source = {"repo": "https://git.example.org/a.git", "token": "GIT_TOKEN"}
    delivery = build_delivery(
        assembly.parts, assembly.need_record(), assembly.build_spec(source=source)
    )
    assert "GIT_TOKEN" not in delivery


async def test_a_changed_secret_is_swapped_under_a_running_app(assembly: Assembly) -> None:
    """Streamlit follows its file; nothing is restarted."""
    service = assembly.build_service()
    await service.deploy(assembly.build_spec(), assembly.events.append)
    await service.set_secret("hello", "API_KEY", "one")
    await service.set_secret("hello", "API_KEY", "two")
    assert assembly.read_secrets("hello", 1)["API_KEY"] == "two"
    await service.remove_secret("hello", "API_KEY")
    assert "API_KEY" not in assembly.read_secrets("hello", 1)
    assert assembly.engine.stopped == []


async def test_a_streamlit_app_keeps_its_cookie_key_over_generations(assembly: Assembly) -> None:
    """A redeploy logs nobody out; another app has another key."""
    service = assembly.build_service()
    await service.deploy(assembly.build_spec(), assembly.events.append)
    await service.deploy(assembly.build_spec("other"), assembly.events.append)
    key = assembly.read_secrets("hello", 1)["STREAMLIT_SERVER_COOKIE_SECRET"]
    await service.restart("hello", assembly.events.append)
    assert assembly.read_secrets("hello", 2)["STREAMLIT_SERVER_COOKIE_SECRET"] == key
    assert assembly.read_secrets("other", 1)["STREAMLIT_SERVER_COOKIE_SECRET"] != key


async def test_a_secret_that_is_not_there_cannot_be_removed(assembly: Assembly) -> None:
    """A typing mistake is told, not swallowed."""
    service = assembly.build_service()
    await service.set_secret("hello", "API_KEY", "one")
    with pytest.raises(RefusedError, match="hello has no secret API_KEI"):
        await service.remove_secret("hello", "API_KEI")


async def test_changes_are_in_the_audit_log_without_values(assembly: Assembly) -> None:
    """Who did what to which app; a secret by its name only."""
    service = assembly.build_service()
    await service.set_secret("hello", "API_KEY", "canary")
    await service.deploy(assembly.build_spec(), assembly.events.append)
    await service.remove("hello", assembly.events.append)
    text = (assembly.parts.config.state_dir / "audit.jsonl").read_text()
    assert [word in text for word in ("secret set", "deploy", "remove", "API_KEY")] == [True] * 4
    assert "canary" not in text
    assert assembly.parts.audit.verify().entries == 3


async def test_a_stop_leaves_nothing_running_and_keeps_what_is_desired(assembly: Assembly) -> None:
    """No container, no open volume, no RAM directory; the record says it shall run."""
    service = assembly.build_service()
    await service.deploy(assembly.build_spec(), assembly.events.append)
    await service.stop()
    assert assembly.engine.containers == {}
    assert list(await assembly.parts.driver.list_open()) == []
    assert not assembly.parts.handover.root.exists()
    record = assembly.need_record()
    assert (record.desired, record.state) == ("running", "stopped")


async def test_a_stop_goes_on_past_an_app_that_cannot_be_stopped(assembly: Assembly) -> None:
    """Everything else is stopped, and what is not is named."""
    service = assembly.build_service()
    await service.deploy(assembly.build_spec(), assembly.events.append)
    await service.deploy(assembly.build_spec("other"), assembly.events.append)
    assembly.engine.stop_error = "engine does not answer"
    with pytest.raises(RunnerError, match="hello: engine does not answer"):
        await service.stop()
    assert list(await assembly.parts.driver.list_open()) == []
    assert not assembly.parts.handover.root.exists()


async def test_logs_of_an_app_are_read_from_its_volume(assembly: Assembly) -> None:
    """The build's log and the app's are told apart."""
    service = assembly.build_service()
    await service.deploy(assembly.build_spec(), assembly.events.append)
    lines = [
        line
        async for line in service.logs("hello", generation=None, lines=10, follow=False, build=True)
    ]
    assert all("built" in line for line in lines)
    with pytest.raises(RefusedError, match="no log yet"):
        await anext(service.logs("hello", generation=None, lines=1, follow=False, build=False))


async def test_the_doctor_names_what_is_amiss_and_goes_on(assembly: Assembly) -> None:
    """A gateway that does not answer is a finding among others."""
    service = assembly.build_service()
    assembly.gateway.is_down = True
    checks = {check.name: check for check in await service.doctor()}
    assert not checks["gateway"].is_ok
    assert not checks["volumes"].is_ok
    assert "in the clear" in checks["volumes"].detail
    assert checks["records"].is_ok


async def test_an_app_that_is_being_removed_takes_no_secret_and_no_restart(
    assembly: Assembly,
) -> None:
    """Both would need its key; the text says what to do instead."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    await retire.destroy_key(assembly.parts, "hello")
    service = assembly.build_service()
    with pytest.raises(RefusedError, match="run `lockgate remove hello` to the end"):
        await service.set_secret("hello", "TOKEN", "x")
    with pytest.raises(RefusedError, match="run `lockgate remove hello` to the end"):
        await service.restart("hello", assembly.events.append)
    assert "being removed" in assembly.need_record().reason


async def test_two_apps_made_at_once_share_nothing(assembly: Assembly) -> None:
    """Secrets set for two new apps in the same moment: two slots, and no value is lost."""
    service = assembly.build_service()
    async with asyncio.TaskGroup() as group:
        for name in ("TOKEN", "OTHER"):
            for app in ("hello", "other", "third"):
                group.create_task(service.set_secret(app, name, "x"))
    records = assembly.parts.store.list().apps
    assert sorted(record.slot for record in records) == [0, 1, 2]
    assert await service.list_secrets("hello") == ["OTHER", "TOKEN"]
