"""What operations under way must hold."""

import asyncio
from collections.abc import Callable

import pytest

from runner.errors import BusyError, RunnerError, UnreachableError
from runner.events import Committed, Event, Json, Line, RemoveResult, Step, StepState
from runner.operations import LINES_KEPT, Operation, Operations

Report = Callable[[Event], None]


async def collect(operation: Operation) -> list[Json]:
    """Every event of an operation."""
    return [event async for event in operation.follow()]


async def finish_at_once(report: Report) -> RemoveResult:
    """Work with one step."""
    report(Step("destroy key", StepState.done, 0.1))
    return RemoveResult("hello")


async def test_the_last_event_is_the_result() -> None:
    """Steps first, the result last."""
    async with Operations() as operations:
        events = await collect(operations.start("hello", "removal", "me", finish_at_once))
    assert [event["event"] for event in events] == ["step", "result"]
    assert events[-1]["ok"] is True


async def test_an_app_has_one_operation_at_a_time() -> None:
    """The second is refused and told what the first is and whose."""
    gate = asyncio.Event()

    async def wait(report: Report) -> RemoveResult:
        await gate.wait()
        return RemoveResult("hello")

    async with Operations() as operations:
        operation = operations.start("hello", "deploy", "process 7 (uid 0)", wait)
        with pytest.raises(BusyError, match=r"a deploy asked for by process 7 \(uid 0\)"):
            operations.start("hello", "removal", "you", finish_at_once)
        assert not operations.is_free("hello")
        assert operations.is_free("other")
        gate.set()
        await collect(operation)
        assert (await collect(operations.start("hello", "removal", "you", finish_at_once)))[-1][
            "ok"
        ]


async def test_a_caller_that_leaves_cancels_what_is_not_committed() -> None:
    """Before the point of no return a deploy takes its steps back."""
    taken_back = asyncio.Event()

    async def wait(report: Report) -> RemoveResult:
        try:
            await asyncio.Event().wait()
        finally:
            taken_back.set()
        return RemoveResult("hello")

    async with Operations() as operations:
        operation = operations.start("hello", "deploy", "me", wait)
        await asyncio.sleep(0)
        operation.leave()
        events = await collect(operation)
        assert taken_back.is_set()
        assert operations.is_free("hello")
    assert events[-1]["error"] == "the deploy was cancelled"


async def test_a_caller_that_leaves_does_not_cancel_what_is_committed() -> None:
    """After the point of no return it runs to its end."""
    gate = asyncio.Event()
    is_done = False

    async def commit(report: Report) -> RemoveResult:
        nonlocal is_done
        report(Committed())
        await gate.wait()
        is_done = True
        return RemoveResult("hello")

    async with Operations() as operations:
        operation = operations.start("hello", "deploy", "me", commit)
        await asyncio.sleep(0)
        operation.leave()
        gate.set()
        await collect(operation)
    assert is_done


async def test_an_error_ends_the_operation_and_not_the_runner() -> None:
    """An expected error keeps its words; a defect of ours is one line without a traceback."""

    async def fail(report: Report) -> RemoveResult:
        raise RunnerError("no space left", log_tail=("a",), log_path="/l")

    async def break_down(report: Report) -> RemoveResult:
        raise ZeroDivisionError("secret")

    async with Operations() as operations:
        failed = (await collect(operations.start("a", "deploy", "me", fail)))[-1]
        broken = (await collect(operations.start("b", "deploy", "me", break_down)))[-1]
    assert (failed["error"], failed["log_tail"], failed["log_path"]) == (
        "no space left",
        ["a"],
        "/l",
    )
    assert broken["error"].startswith("internal error (ZeroDivisionError)")
    assert "secret" not in broken["error"]


async def test_output_that_nobody_reads_is_bounded() -> None:
    """Lines are dropped before memory is; steps and the result never are."""

    async def chatter(report: Report) -> RemoveResult:
        for number in range(LINES_KEPT + 500):
            report(Line(str(number)))
        report(Step("build", StepState.done))
        return RemoveResult("hello")

    async with Operations() as operations:
        events = await collect(operations.start("hello", "deploy", "me", chatter))
    assert len(events) == LINES_KEPT + 2
    assert [event["event"] for event in events[-2:]] == ["step", "result"]


async def test_closing_cancels_waits_and_begins_nothing_more() -> None:
    """After close no operation is left and none can start."""
    async with Operations() as operations:
        operation = operations.start("hello", "deploy", "me", lambda _: asyncio.Event().wait())
        await operations.close()
        assert operation.task is not None
        assert operation.task.done()
        with pytest.raises(UnreachableError, match="stopping"):
            operations.start("hello", "deploy", "me", finish_at_once)
