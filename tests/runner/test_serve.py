import asyncio
import os
from pathlib import Path

import pytest

from runner.config import load_config
from runner.engines import EngineError
from runner.errors import StartError
from runner.serve import AGENT_SOURCE, await_parent, choose_engine, copy_agent, read_key


def test_the_agents_code_is_copied_where_every_uid_can_read_it(tmp_path: Path) -> None:
    """By its content: an upgrade does not change what a running container sees."""
    place = copy_agent(AGENT_SOURCE, tmp_path / "agent")
    assert copy_agent(AGENT_SOURCE, tmp_path / "agent") == place
    assert {p.name for p in place.iterdir()} == {p.name for p in AGENT_SOURCE.glob("*.py")}
    assert place.stat().st_mode & 0o777 == 0o755
    assert all(p.stat().st_mode & 0o777 == 0o644 for p in place.iterdir())


def test_another_content_is_another_place(tmp_path: Path) -> None:
    """Old and new agents live side by side."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text("1\n")
    first = copy_agent(source, tmp_path / "agent")
    (source / "__main__.py").write_text("2\n")
    second = copy_agent(source, tmp_path / "agent")
    assert first != second
    assert (first / "__main__.py").read_text() == "1\n"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_a_wrong_length_is_refused(size: int) -> None:
    """A pipe that was cut short must not open a vault with half a key."""
    reader, writer = os.pipe()
    os.write(writer, bytes(size))
    os.close(writer)
    with pytest.raises(StartError, match=f"is {size} bytes, not 32"):
        read_key(reader)


async def test_the_parents_end_is_noticed() -> None:
    """A runner without a supervisor would meet its successor."""
    reader, writer = os.pipe()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(await_parent(reader))
        os.close(writer)
    os.close(reader)


async def test_apps_that_ran_on_docker_are_not_moved_to_a_lesser_fence(tmp_path: Path) -> None:
    """After a reboot Docker may start later than we do: `auto` waits for it, or for a decision."""
    config_path = tmp_path / "lockgate.yaml"
    config_path.write_text(
        f"state_dir: {tmp_path}/state\nrun_dir: {tmp_path}/run\n"
        f"runner: {{engine: {{docker_host: 'unix://{tmp_path}/no.sock'}}}}\n"
    )
    (tmp_path / "state/apps").mkdir(parents=True)
    (tmp_path / "state/apps/hello.json").touch()
    (tmp_path / "state/engine").write_text("docker\n")
    with pytest.raises(
        EngineError, match=r"run on Docker, and: .* runner\.engine\.kind to process"
    ):
        await choose_engine(load_config(config_path))
