"""Blocking calls in threads, awaited.

Invariants: a call that has begun is waited for even when its awaiter is cancelled, so whoever
cleans up afterwards finds a finished state and never races a thread.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A pool of its own: long calls here never starve the event loop's default pool."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    def begin(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Start a call; its owner awaits the future."""
        return asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def do(self, call: Callable[[], T]) -> T:
        """Run a call to its end; a cancellation is raised only after it."""
        future = self.begin(call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            if not future.cancelled():
                future.exception()
            raise

    def close(self) -> None:
        """Take no more calls."""
        self._pool.shutdown(wait=False, cancel_futures=True)
