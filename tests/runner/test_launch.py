import json
from pathlib import Path

import pytest

from runner.agent.settings import parse_settings
from runner.engines import ContainerState, ObservedContainer
from runner.launch import build_agent_json, build_app_error, describe_exit
from runner.layout import VolumeLayout
from tests.support.assembly import Assembly


def build_exited(code: int | None, *, oom: bool = False) -> ObservedContainer:
    return ObservedContainer("hello", 1, "u", "s", ContainerState.exited, None, code, oom)


@pytest.mark.parametrize(
    ("container", "text"),
    [
        (build_exited(1), "the app exited with code 1"),
        (build_exited(0), "the app exited with code 0"),
        (build_exited(143), "the app was ended by signal 15"),
        (build_exited(None), "the app is gone"),
    ],
)
def test_an_end_is_told_in_words(container: ObservedContainer, text: str) -> None:
    """What an operator reads in `status`."""
    assert describe_exit(container) == text


def test_out_of_memory_names_the_key_that_limits_it() -> None:
    """137 alone would say nothing."""
    assert "resources.memory" in describe_exit(build_exited(137, oom=True))


def test_an_error_of_the_app_has_its_last_lines(tmp_path: Path) -> None:
    """And the path where the rest is."""
    layout = VolumeLayout(tmp_path)
    layout.logs.mkdir()
    layout.app_log(1).write_text("one\ntwo\n")
    error = build_app_error(layout, 1, "it exited")
    assert error.log_tail == ("one", "two")
    assert error.log_path == str(layout.app_log(1))


def test_the_agent_understands_what_it_is_told(assembly: Assembly) -> None:
    """The runner's agent.json passes the agent's own check, key by key."""
    paths = assembly.engine.paths("hello", 3, 0, (), ())
    told = build_agent_json(assembly.build_spec(), assembly.parts, 3, paths)
    settings = parse_settings(json.dumps(told).encode())
    assert settings.peer_prefix == "spiffe://lockgate.internal/gateway/"
    assert settings.log_path == "/var/log/lockgate/app-3.log"
    assert settings.argv[-1] == "app.py"


async def test_nothing_secret_is_in_what_the_agent_is_told(assembly: Assembly) -> None:
    """Secrets go into another directory, which the agent's uid cannot read."""
    service = assembly.build_service()
    await service.set_secret("hello", "API_KEY", "canary-7c1")
    await service.deploy(assembly.build_spec(), assembly.events.append)
    told = assembly.parts.handover.read_identity("hello", 1, "agent.json")
    assert b"canary-7c1" not in told
    spec = assembly.engine.specs[("hello", 1)]
    assert "canary-7c1" not in repr(spec)


async def test_a_volume_that_is_not_the_encrypted_one_starts_nothing(assembly: Assembly) -> None:
    """Sabotage: the mount point is replaced by a plain directory before the start."""
    mountpoint = assembly.parts.mountpoint("hello")

    def sabotage(event: object) -> None:
        name, state = getattr(event, "name", ""), getattr(event, "state", None)
        if name == "start container" and state is not None and state.value == "start":
            mountpoint.unlink()
            mountpoint.mkdir()

    with pytest.raises(Exception, match="hello"):
        await assembly.lifecycle.deploy(assembly.build_spec(), sabotage)
    assert assembly.engine.specs == {}
