import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runner.apply import IncompleteError, apply, apply_all
from runner.errors import RunnerError
from runner.events import Event, StepState
from runner.events import Step as StepEvent
from runner.steps import Plan, Step, Verb

PLAN = Plan(
    tuple(Step(verb, "hello", 1) for verb in (Verb.fetch, Verb.identify, Verb.start, Verb.publish))
)


class Host:
    """Remembers what was performed; fails, or hangs, where it is told to."""

    def __init__(self, *, fails: Verb | None = None, hangs: Verb | None = None) -> None:
        self.done: list[str] = []
        self.events: list[Event] = []
        self._fails, self._hangs = fails, hangs
        self.hanging = asyncio.Event()

    def performers(self) -> dict[Verb, Callable[[Step], Awaitable[str]]]:
        return dict.fromkeys(Verb, self._perform)

    async def _perform(self, step: Step) -> str:
        if step.verb is self._hangs:
            self.hanging.set()
            await asyncio.Event().wait()
        if step.verb is self._fails:
            raise RunnerError(f"{step.verb.name} broke")
        self.done.append(step.verb.name)
        return ""

    def clock(self) -> float:
        return 1.0


async def test_all_steps_are_performed_in_order() -> None:
    """Each begins with `start` and ends with `done`."""
    host = Host()
    await apply(PLAN, host.performers(), host.events.append, host.clock)
    assert host.done == ["fetch", "identify", "start", "publish"]
    states = [event.state for event in host.events if isinstance(event, StepEvent)]
    assert states == [StepState.start, StepState.done] * 4


async def test_a_failure_takes_back_what_was_done_last_first() -> None:
    """The step that failed is taken back as well: it may have got half-way."""
    host = Host(fails=Verb.start)
    with pytest.raises(RunnerError, match="start broke"):
        await apply(PLAN, host.performers(), host.events.append, host.clock)
    assert host.done == ["fetch", "identify", "stop", "withdraw", "delete_code"]


async def test_a_failure_while_taking_back_hides_nothing() -> None:
    """The first failure is what is raised, and the steps that are left are taken back."""
    host = Host(fails=Verb.start)
    performers = host.performers()

    async def refuse(step: Step) -> str:
        raise RunnerError("cannot stop")

    performers[Verb.stop] = refuse
    with pytest.raises(RunnerError, match="start broke"):
        await apply(PLAN, performers, host.events.append, host.clock)
    assert host.done == ["fetch", "identify", "withdraw", "delete_code"]


async def test_a_cancellation_takes_back_before_it_goes_on() -> None:
    """Whoever cancels finds the host as it was."""
    host = Host(hangs=Verb.start)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(apply(PLAN, host.performers(), host.events.append, host.clock))
        await host.hanging.wait()
        task.cancel()
    assert host.done == ["fetch", "identify", "stop", "withdraw", "delete_code"]


async def test_what_is_published_is_never_taken_back() -> None:
    """Visitors are on the new generation: a failure after that must not pull it from under them."""
    host = Host(fails=Verb.drain)
    plan = Plan((*PLAN.steps, Step(Verb.drain, "hello", 7)))
    with pytest.raises(RunnerError, match="drain broke"):
        await apply(plan, host.performers(), host.events.append, host.clock)
    assert host.done == ["fetch", "identify", "start", "publish"]


async def test_a_second_cancellation_does_not_hurry_what_takes_back() -> None:
    """Whoever is told that it ended finds the host as it was, however often it was cancelled."""
    host = Host(hangs=Verb.start)
    performers = host.performers()
    undoing, go_on = asyncio.Event(), asyncio.Event()

    async def stop(step: Step) -> str:
        undoing.set()
        await go_on.wait()
        return await host.performers()[Verb.stop](step)

    performers[Verb.stop] = stop
    async with asyncio.TaskGroup() as group:
        task = group.create_task(apply(PLAN, performers, host.events.append, host.clock))
        await host.hanging.wait()
        task.cancel()
        await undoing.wait()
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
    assert task.cancelled()
    assert host.done == ["fetch", "identify", "stop", "withdraw", "delete_code"]


async def test_a_removal_goes_on_past_a_failure_and_is_loudly_incomplete() -> None:
    """One remover that fails does not save the others and is named; the last step waits."""
    host = Host(fails=Verb.identify)
    with pytest.raises(IncompleteError, match="issue identity: identify broke"):
        await apply_all(PLAN, host.performers(), host.events.append, host.clock)
    assert host.done == ["fetch", "start"]


async def test_a_removal_tells_what_was_done() -> None:
    """A performer without words is told by its verb."""
    host = Host()
    told = await apply_all(PLAN, host.performers(), host.events.append, host.clock)
    assert told == ["fetch source", "issue identity", "start container", "publish"]
