"""Agents for these tests, ended after each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.agent import AgentUnderTest, Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    """One root for all tests of the agent."""
    return Authority()


@pytest.fixture
def build_agent(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., AgentUnderTest]]:
    """Makes agents that are not started yet."""
    agents: list[AgentUnderTest] = []

    def build(folder: Path = tmp_path, **changes: object) -> AgentUnderTest:
        agents.append(AgentUnderTest(folder, authority, **changes))
        return agents[-1]

    yield build
    for agent in agents:
        agent.close()


@pytest.fixture
def agent(build_agent: Callable[..., AgentUnderTest]) -> AgentUnderTest:
    """A running agent with the plain app behind it."""
    return build_agent().start()
