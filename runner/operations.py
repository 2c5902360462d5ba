"""Operations under way: at most one per app, each owned here until it has ended.

Theory: an operation is a task of our own TaskGroup; its caller only follows it. A caller that
leaves cancels it until it reports `Committed`, from then on it runs to its end by itself.

**Invariants**: an app has no two operations at once; none is lost track of; what a caller does not
read never blocks an operation (lines of output are dropped first, steps and results never).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from runner.errors import BusyError, RunnerError, UnreachableError
from runner.events import Committed, Event, Json, Line, Result

LINES_KEPT = 2000

Work = Callable[[Callable[[Event], None]], Awaitable[Result]]

_log = structlog.get_logger("runner")


@dataclass
class Operation:
    """One deploy, removal or restart: what it is, who asked, what it has said so far."""

    app: str
    verb: str
    caller: str
    is_committed: bool
    events: asyncio.Queue[Json] = field(default_factory=asyncio.Queue)
    is_over: bool = False
    task: asyncio.Task[None] | None = None

    def report(self, event: Event) -> None:
        """Pass an event on; never blocks."""
        if isinstance(event, Committed):
            self.is_committed = True
        if not isinstance(event, Line) or self.events.qsize() < LINES_KEPT:
            self.events.put_nowait(event.to_json())

    def finish(self, result: Json) -> None:
        """The last event: how it ended."""
        self.is_over = True
        self.events.put_nowait({"event": "result", **result})

    async def follow(self) -> AsyncIterator[Json]:
        """Every event up to the result."""
        is_last = False
        while not is_last:
            event = await self.events.get()
            is_last = event["event"] == "result"
            yield event

    def leave(self) -> None:
        """The caller is gone: cancel what is not committed (no effect on what has ended)."""
        if self.task is not None and not self.is_committed:
            self.task.cancel()


class Operations:
    """The running operations by app; enter it before use, leaving it waits for all."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: dict[str, Operation] = {}
        self._is_closing = False

    async def __aenter__(self) -> "Operations":
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        await self._group.__aexit__(None, None, None)

    def is_free(self, app: str) -> bool:
        """Whether an operation on `app` could begin now."""
        return app not in self._running and not self._is_closing

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._running)

    def check_free(self, app: str) -> None:
        """Raise `BusyError` while an operation on `app` is under way."""
        running = self._running.get(app)
        if running is not None:
            raise BusyError(
                f"{app}: a {running.verb} asked for by {running.caller} is under way; "
                "wait for it to end"
            )
        if self._is_closing:
            raise UnreachableError("Lockgate is stopping; nothing new is begun")

    def start(
        self, app: str, verb: str, caller: str, work: Work, *, is_committed: bool = False
    ) -> Operation:
        """Begin; raises `BusyError`. `is_committed`: leaving does not cancel, from the start on."""
        self.check_free(app)
        operation = Operation(app, verb, caller, is_committed)
        self._running[app] = operation
        operation.task = self._group.create_task(self._run(operation, work))
        operation.task.add_done_callback(lambda _: self._forget(operation))
        return operation

    async def close(self) -> None:
        """Begin nothing more, cancel what is not committed, wait for the rest."""
        self._is_closing = True
        running = list(self._running.values())
        for operation in running:
            operation.leave()
        await asyncio.gather(*(o.task for o in running if o.task), return_exceptions=True)

    async def _run(self, operation: Operation, work: Work) -> None:
        try:
            result = await work(operation.report)
            self._end(operation, {"ok": True, **result.to_json()}, "operation done")
        except RunnerError as error:
            self._end(operation, build_failure(error), "operation failed")
        except Exception as error:  # a defect of ours: the operation ends, the runner does not
            _log.exception("operation broke", app=operation.app, verb=operation.verb)
            self._end(operation, build_failure(build_defect(error)), "operation failed")

    def _end(self, operation: Operation, result: Json, event: str) -> None:
        """Free the app before anybody can know that it is free."""
        self._running.pop(operation.app, None)
        operation.finish(result)
        reason = {"reason": result["error"]} if "error" in result else {}
        _log.info(event, app=operation.app, verb=operation.verb, **reason)

    def _forget(self, operation: Operation) -> None:
        """The task has ended; a cancelled one has said nothing, and may not even have begun."""
        if not operation.is_over:
            cancelled = RunnerError(f"the {operation.verb} was cancelled")
            self._end(operation, build_failure(cancelled), "operation cancelled")


def build_failure(error: RunnerError) -> Json:
    """What the socket tells of an error."""
    return {
        "ok": False,
        "error": str(error),
        "status": error.status,
        "log_tail": list(error.log_tail),
        "log_path": error.log_path,
    }


def build_defect(error: Exception) -> RunnerError:
    """An error that nobody foresaw, as one line; its traceback is in the runner's log."""
    return RunnerError(
        f"internal error ({type(error).__name__}); the output of `lockgate up` says more"
    )
