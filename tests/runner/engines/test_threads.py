"""Blocking calls and cancellation."""

import asyncio
import threading

import pytest

from runner.engines.threads import Threads


async def test_result_and_error_come_back():
    """What a call returns or raises is its awaiter's."""
    threads = Threads(2, "test")
    assert await threads.do(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await threads.do(lambda: 1 // 0)
    threads.close()


async def test_cancelled_awaiter_waits_for_the_thread():
    """A cancellation is raised only when the call has ended, so nothing is left half made."""
    threads = Threads(1, "test")
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(10)
        ended.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(threads.do(work))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        release.set()
        await asyncio.wait({task})
        assert task.cancelled()
        assert ended.is_set()
    threads.close()
