"""The port behind the runner's socket, and that the fake obeys it."""

import pytest

from runner.errors import RefusedError, UnknownAppError
from runner.events import Committed, Event, Step
from runner.port import Deployer
from tests.fakes.deployer import FakeDeployer
from tests.runner.test_api import build_spec


def take(deployer: Deployer) -> Deployer:
    """mypy checks here that the fake is a `Deployer`."""
    return deployer


async def test_the_fake_commits_before_it_publishes() -> None:
    """`Committed` comes before visitors can see a change."""
    events: list[Event] = []
    await take(FakeDeployer()).deploy(build_spec(), events.append)
    committed = events.index(Committed())
    names = [event.name for event in events[committed:] if isinstance(event, Step)]
    assert names == ["publish", "publish"]


async def test_the_fake_knows_no_unknown_app() -> None:
    """Unknown apps and secrets are errors, as the port says."""
    fake = FakeDeployer()
    with pytest.raises(UnknownAppError):
        await fake.status("nope")
    await fake.set_secret("hello", "X", "v")
    with pytest.raises(RefusedError):
        await fake.remove_secret("hello", "Y")
