"""Performs a plan: step after step, with progress, and back again when one fails.

Theory: a plan is data; `Performers` maps each verb to the coroutine that does it. A failure or a
cancellation takes back what was done, last first, before it goes on to the caller. A step that
takes something back is never given up for a cancellation, and its own failure is reported but hides
neither the first failure nor the steps that are left. What is published stays: visitors are on it.

Invariants: nothing is performed that is not in the plan; every step begins with `start` and ends
with `done` or `failed`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping

from runner.errors import RunnerError
from runner.events import Event, StepState
from runner.events import Step as StepEvent
from runner.steps import Plan, Step, Verb, build_undo

Report = Callable[[Event], None]
Clock = Callable[[], float]
Performer = Callable[[Step], Awaitable[str]]
"""Does one step; returns what is worth telling about it. Raises `RunnerError`."""
Performers = Mapping[Verb, Performer]


class IncompleteError(RunnerError):
    """Some steps of a removal failed; the text names each. To ask again goes on from there."""


async def apply(plan: Plan, performers: Performers, report: Report, clock: Clock) -> None:
    """Perform all steps or take all back, but for what is published; raises what a step raised.

    `clock` counts seconds.
    """
    done: list[Step] = []
    try:
        for step in plan.steps:
            # In the list before it is begun: a step that failed half-way is taken back as well.
            done.append(step)
            await _perform(step, performers, report, clock)
            if step.verb is Verb.publish:
                done.clear()
    except BaseException:
        await _see_through(_take_back(tuple(done), performers, report, clock))
        raise


async def apply_all(plan: Plan, performers: Performers, report: Report, clock: Clock) -> list[str]:
    """Perform every step even if some fail; returns what was done. Raises `IncompleteError`.

    The last step is what makes the others findable again, so it waits until none has failed.
    """
    told: list[str] = []
    failures: list[str] = []
    for step in plan.steps:
        if failures and step is plan.steps[-1]:
            break
        try:
            told.append(await _perform(step, performers, report, clock) or step.verb.value)
        except RunnerError as error:
            failures.append(f"{step.verb.value}: {error}")
    if failures:
        raise IncompleteError(f"incomplete: {'; '.join(failures)}")
    return told


async def _see_through(work: Coroutine[object, object, None]) -> None:
    """Await the end of `work`, however often the caller is cancelled meanwhile."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(task)


async def _take_back(
    done: tuple[Step, ...], performers: Performers, report: Report, clock: Clock
) -> None:
    for step in build_undo(done):
        # Whatever the failure: it was reported, and the steps that are left must not wait for it.
        with contextlib.suppress(Exception):
            await _perform(step, performers, report, clock)


async def _perform(step: Step, performers: Performers, report: Report, clock: Clock) -> str:
    begun = clock()
    report(StepEvent(step.verb.value, StepState.start, 0.0, step.detail))
    try:
        told = await performers[step.verb](step)
    except BaseException as error:
        detail = str(error) if isinstance(error, RunnerError) else type(error).__name__
        report(StepEvent(step.verb.value, StepState.failed, clock() - begun, detail))
        raise
    report(StepEvent(step.verb.value, StepState.done, clock() - begun, told or step.detail))
    return told
