"""Tasks that somebody owns: started here, awaited here, and apart from each other.

Invariants: none outlives its owner; a fault in one is reported and touches no other.
"""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import ParamSpec, Self

P = ParamSpec("P")


class Tasks:
    """An async context that cancels and awaits, at its end, whatever was started in it."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._live: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Tasks {len(self._live)} live>"

    def start(
        self, work: Callable[P, Coroutine[None, None, None]], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Task[None]:
        """Run `work` with these arguments beside the others; it may be cancelled unstarted."""
        task = self._group.create_task(_guard(lambda: work(*args, **kwargs)))
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


async def _guard(work: Callable[[], Coroutine[None, None, None]]) -> None:
    try:
        await work()
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a task of the gateway failed", "exception": error}
        )
