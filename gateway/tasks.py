"""Tasks that somebody owns: started here, awaited here, and apart from each other.

Invariants: none outlives its owner; a fault in one is reported and touches no other.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Self


class Tasks:
    """An async context that cancels and awaits, at its end, whatever was started in it."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._live: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Tasks {len(self._live)} live>"

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run `work` beside the others."""
        task = self._group.create_task(_guard(work))
        self._live.add(task)
        task.add_done_callback(self._live.discard)
        return task

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in list(self._live):
            task.cancel()
        await self._group.__aexit__(None, None, None)  # an error of the body stays as it is


async def _guard(work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a task of the gateway failed", "exception": error}
        )
