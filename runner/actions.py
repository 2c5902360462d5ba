"""Which code does which step.

Invariants: one entry per verb; a step of a deploy touches nothing that visitors use before
`publish`; from `publish` on a deploy cannot be cancelled.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from runner import launch, prepare, retire
from runner.apply import Performer, Performers
from runner.errors import RunnerError
from runner.events import AppState, Committed
from runner.layout import VolumeLayout
from runner.parts import Parts, translate
from runner.publish import publish, set_state
from runner.routing import build_upstream_name
from runner.spec.model import spec_hash
from runner.steps import Step, Verb
from runner.store import AppRecord, GenerationRecord
from runner.work import Work, need_record

OnVolume = Callable[[Parts, Work, VolumeLayout], Awaitable[str]]


class Actions:
    """The performers of one operation."""

    def __init__(self, parts: Parts, work: Work) -> None:
        self._parts = parts
        self._work = work

    def build_performers(self) -> Performers:
        """Every verb's performer; each raises `RunnerError` and its kinds, nothing foreign."""
        return {verb: _translated(perform) for verb, perform in self._list_performers().items()}

    def _list_performers(self) -> Performers:
        parts, app = self._parts, self._work.app
        return {
            Verb.create: self._create,
            Verb.open_volume: self._open_volume,
            Verb.fetch: partial(self._on_volume, prepare.fetch_code),
            Verb.build: partial(self._on_volume, prepare.make_environment),
            Verb.identify: partial(self._on_volume, launch.identify),
            Verb.start: self._start,
            Verb.probe: partial(self._on_volume, launch.probe),
            Verb.publish: self._publish,
            Verb.drain: self._drain,
            Verb.stop: lambda step: retire.stop(parts, app, step.generation),
            Verb.withdraw: self._withdraw,
            Verb.delete_code: self._delete_code,
            Verb.destroy_key: lambda _: retire.destroy_key(parts, app),
            Verb.unpublish: lambda _: retire.unpublish(parts, app),
            Verb.remove_containers: lambda _: retire.remove_containers(parts, app),
            Verb.destroy_volume: lambda _: retire.destroy_volume(parts, app),
            Verb.forget: self._forget,
        }

    async def _create(self, _: Step) -> str:
        record = prepare.create_app(self._parts, self._work.app)
        spec = self._work.need_spec()
        await launch.reserve_hosts(self._parts, self._work.app, spec)
        self._parts.store.save(record.model_copy(update={"spec": spec.model_dump(mode="json")}))
        set_state(self._parts, self._work.app, AppState.building)
        await publish(self._parts)
        return ""

    async def _open_volume(self, step: Step) -> str:
        record = need_record(self._parts, self._work.app)
        await prepare.open_volume(self._parts, record, self._work.need_spec().volume.size)
        return step.detail or self._parts.driver.name

    async def _start(self, _: Step) -> str:
        if self._work.standing.published is None:
            set_state(self._parts, self._work.app, AppState.starting)
        return await launch.start(self._parts, self._work)

    async def _publish(self, _: Step) -> str:
        self._work.report(Committed())
        before = need_record(self._parts, self._work.app)
        await launch.reserve_hosts(self._parts, self._work.app, self._work.need_spec())
        self._parts.store.save(self._build_published(before))
        try:
            table = await publish(self._parts)
        except BaseException:
            self._parts.store.save(before)
            raise
        return f"{', '.join(self._work.need_spec().hosts)} (table {table.version})"

    def _build_published(self, record: AppRecord) -> AppRecord:
        work, now = self._work, self._parts.wall_clock()
        spec = work.need_spec()
        previous = record.find_generation(work.number)
        current = GenerationRecord(
            number=work.number,
            commit=work.commit,
            env_hash=work.env_hash,
            spec_hash=spec_hash(spec),
            created_s=previous.created_s if previous else now,
            state="published",
        )
        older = tuple(
            g
            if g.state == "draining"
            else g.model_copy(update={"state": "draining", "drain_s": now})
            for g in record.generations
            if g.number != work.number
        )
        return record.model_copy(
            update={
                "spec": spec.model_dump(mode="json"),
                "desired": "running",
                "generations": (*older, current),
                "state": AppState.healthy.value,
                "reason": "",
                "since_s": record.since_s if record.state == AppState.healthy.value else now,
            }
        )

    async def _drain(self, step: Step) -> str:
        """Retire the old generation at once if nothing is open; else the supervisor will.

        The new one is published: whatever is in the way here, the deploy has succeeded.
        """
        try:
            with translate():
                return await self._drain_now(step)
        except RunnerError as error:
            return f"not taken away yet: {error}"

    async def _drain_now(self, step: Step) -> str:
        name = build_upstream_name(step.app, step.generation)
        upstreams = {u.name: u for u in await self._parts.gateway.fetch_upstreams()}
        left = upstreams.get(name)
        if left is not None and left.in_flight + left.sockets > 0:
            drain_s = self._work.need_spec().drain
            return f"{left.sockets} WebSockets live on, for {drain_s:g} s at most"
        record = need_record(self._parts, step.app)
        await retire.retire(self._parts, record, step.generation)
        return f"{name} is gone"

    async def _withdraw(self, step: Step) -> str:
        if step.generation:
            return await retire.withdraw(self._parts, step.app, step.generation)
        return await retire.withdraw_all(self._parts, step.app)

    async def _delete_code(self, step: Step) -> str:
        record = need_record(self._parts, step.app)
        layout = await prepare.find_layout(self._parts, record)
        await prepare.delete_code(layout, step.generation)
        return ""

    async def _forget(self, step: Step) -> str:
        await asyncio.to_thread(self._parts.store.delete, step.app)
        return "record"

    async def _on_volume(self, perform: OnVolume, _: Step) -> str:
        record = need_record(self._parts, self._work.app)
        layout = await prepare.find_layout(self._parts, record)
        return await perform(self._parts, self._work, layout)


def _translated(perform: Performer) -> Performer:
    async def performer(step: Step) -> str:
        with translate():
            return await perform(step)

    return performer


async def note_failure(
    parts: Parts, app: str, error: BaseException, what: str = "last deploy failed"
) -> None:
    """Say in `status` why the operation failed, without hiding that the old generation serves."""
    # The failure itself is what counts: it goes on to the caller even if it cannot be noted. The
    # supervisor publishes again when the gateway cannot be told now.
    with contextlib.suppress(RunnerError), translate():
        record = parts.store.load(app)
        if record is None:
            return
        text, state = describe_failure(error), AppState(record.state)
        serves = any(g.state == "published" for g in record.generations)
        if not serves:
            state = AppState.failed
        elif state is AppState.starting:
            state = AppState.unhealthy
        set_state(parts, app, state, f"{what}: {text}" if serves else text)
        await publish(parts)


def describe_failure(error: BaseException) -> str:
    """One line for `status`; what nobody foresaw is in the runner's log."""
    if isinstance(error, RunnerError):
        return str(error)
    if isinstance(error, asyncio.CancelledError):
        return "the operation was cancelled"
    return f"internal error ({type(error).__name__})"
