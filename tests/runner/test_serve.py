import asyncio
import os
from pathlib import Path

import pytest

from runner.errors import StartError
from runner.serve import AGENT_SOURCE, await_parent, copy_agent, read_key


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
