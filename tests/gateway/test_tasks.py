"""Owned tasks."""

import asyncio
from typing import Any

import pytest

from gateway.tasks import Tasks


async def test_ends_what_is_left() -> None:
    """Leaving the context cancels and awaits what still runs."""
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    async with Tasks() as tasks:
        tasks.start(work)
        await asyncio.sleep(0)
        assert "1 live" in repr(tasks)
    assert ended == ["work"]


async def test_fault_of_one_is_reported_and_touches_no_other() -> None:
    """A task that fails is heard of once, and its neighbours go on."""
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    done = asyncio.Event()

    async def fail() -> None:
        raise ValueError("x")

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.set()

    async with Tasks() as tasks:
        tasks.start(fail)
        tasks.start(work)
        await asyncio.wait_for(done.wait(), 1)
    assert [type(context["exception"]) for context in heard] == [ValueError]


async def test_may_be_cancelled_before_it_starts() -> None:
    """A task that never took a step leaves no warning behind."""

    async def work() -> None:
        raise AssertionError

    async with Tasks() as tasks:
        tasks.start(work).cancel()


async def test_error_of_the_body_stays_as_it_is() -> None:
    """What the body raises is not wrapped in a group."""
    with pytest.raises(ValueError, match="mine"):
        async with Tasks():
            raise ValueError("mine")
