"""What the gateway's tests share: the loop that the gateway runs on, and one authority."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.support.agent import Authority
from tests.support.gateway import GatewayLab, open_lab

OpenLab = Callable[..., AbstractAsyncContextManager[GatewayLab]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The gateway runs on uvloop, so do its tests."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Signs for visitors and apps alike."""
    return Authority()


@pytest.fixture
def start_lab(tmp_path: Path, authority: Authority) -> OpenLab:
    """Opens a lab with limits of the test's choice."""

    def start(**limits: Any) -> AbstractAsyncContextManager[GatewayLab]:
        return open_lab(tmp_path, authority, **limits)

    return start


@pytest.fixture
async def lab(start_lab: OpenLab) -> AsyncIterator[GatewayLab]:
    """A gateway with the usual limits."""
    async with start_lab() as opened:
        yield opened
