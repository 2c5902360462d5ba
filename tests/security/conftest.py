"""What the attacks on the gateway share: its loop, a gateway, a witness behind it, visitors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from tests.support.agent import Authority
from tests.support.gateway import GatewayLab, Visit, open_lab
from tests.support.recorder import Recorder

Connect = Callable[[], Awaitable[Visit]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on uvloop, so do the attacks on it."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Signs for visitors and apps alike."""
    return Authority()


@pytest.fixture
async def lab(tmp_path: Path, authority: Authority) -> AsyncIterator[GatewayLab]:
    """A gateway with the usual limits, but a body limit that a test can reach."""
    async with open_lab(tmp_path, authority, body_bytes="3KiB") as opened:
        yield opened


@pytest.fixture
async def app(lab: GatewayLab) -> Recorder:
    """The app behind it, published."""
    recorder = Recorder()
    await lab.serve(recorder)
    return recorder


@pytest.fixture
async def connect(lab: GatewayLab) -> AsyncIterator[Connect]:
    """Opens visitors' connections, and ends them all after the test."""
    visits: list[Visit] = []

    async def open_visit() -> Visit:
        visits.append(await lab.connect())
        return visits[-1]

    yield open_visit
    for visit in visits:
        visit.abort()
