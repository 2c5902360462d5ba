"""The reconcile loop: what should run runs, what has drained goes, what expires is renewed.

Theory: each turn looks at the engine, the gateway and the records, and leaves alone every app that
an operation is at work on. What has to be done about an app is itself an operation, so a deploy and
a recovery can never meet. What has to be done again and again is done with growing pauses.

Invariants: never touches a generation that serves; begins no storm of starts; an error of one app
or one turn, foreseen or not, does not end the loop and is told once, not every second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from gateway import GatewayError, UpstreamReport
from pki import PkiError
from runner import launch, retire
from runner.engines import ContainerState, ObservedContainer
from runner.errors import RunnerError
from runner.events import AppState, RemoveResult, RestartResult, Result
from runner.lifecycle import Lifecycle, load_spec_of
from runner.operations import Operations
from runner.parts import Parts, translate
from runner.port import Report
from runner.publish import publish
from runner.routing import build_upstream_name
from runner.store import AppRecord, GenerationRecord
from runner.work import need_record

TURN_S = 1.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
CALM_S = 600.0
RECOVERIES_AT_ONCE = 4

_log = structlog.get_logger("runner")
_FOREIGN = (RunnerError, GatewayError, PkiError)


@dataclass(slots=True)
class Patience:
    """How often the same was tried lately; times in seconds of `Parts.clock`."""

    pause_s: float = FIRST_PAUSE_S
    not_before: float = 0.0
    last_try: float = 0.0


class Supervisor:
    """Looks after all apps, a turn a second."""

    def __init__(self, parts: Parts, lifecycle: Lifecycle, operations: Operations) -> None:
        self._parts = parts
        self._lifecycle = lifecycle
        self._operations = operations
        self._patience: dict[tuple[str, str, int], Patience] = {}
        self._told: dict[str, str] = {}
        self._turning = asyncio.Lock()
        self._is_halted = False

    async def run(self) -> None:
        """Turn after turn until halted."""
        while not self._is_halted:
            async with self._turning:
                await self._attempt("", self.turn())
            await asyncio.sleep(TURN_S)

    async def halt(self) -> None:
        """Let the turn end that is under way; there is no other after it."""
        self._is_halted = True
        async with self._turning:
            return

    async def turn(self) -> None:
        """One look at everything."""
        parts = self._parts
        status = await parts.gateway.fetch_status()
        if status.table_version != parts.table_version:
            await publish(parts)
        containers = await parts.engine.observe()
        upstreams = await parts.gateway.fetch_upstreams()
        for record in parts.store.list().apps:
            if self._operations.is_free(record.name):
                await self._attempt(record.name, self._look_after(record, containers, upstreams))

    async def _attempt(self, app: str, work: Awaitable[None]) -> None:
        """Tell of a failure when it begins, changes and ends. `app` is empty for a whole turn."""
        whose = {"app": app} if app else {}
        try:
            await work
        except _FOREIGN as error:
            if self._told.get(app) != str(error):
                _log.warning("cannot look after apps", reason=str(error), **whose)
            self._told[app] = str(error)
        except Exception as error:  # a defect of ours: this app waits, the others do not
            if self._told.get(app) != repr(error):
                _log.exception("looking after apps broke", **whose)
            self._told[app] = repr(error)
        else:
            if self._told.pop(app, None) is not None:
                _log.info("apps are looked after again", **whose)

    async def _look_after(
        self,
        record: AppRecord,
        containers: Sequence[ObservedContainer],
        upstreams: Sequence[UpstreamReport],
    ) -> None:
        """What was observed may be a moment old: all that it decides is what to begin.

        What is begun looks for itself, once it has the app for itself.
        """
        for generation in record.generations:
            if generation.state == "draining" and self._has_drained(record, generation, upstreams):
                work = partial(self._retire, generation.number)
                if self._begin(record, "clean-up", generation.number, work):
                    return
        for number in self._list_leftovers(record, containers):
            if self._begin(record, "clean-up", number, partial(self._retire, number)):
                return
        if any(
            launch.is_renewal_due(self._parts, record.name, g) for g in record.generations
        ) and self._begin(record, "renewal", record.last_generation, self._renew):
            return
        published = next((g for g in record.generations if g.state == "published"), None)
        if published is None or record.desired != "running":
            return
        container = _find(containers, record, published.number)
        is_running = container is not None and container.state is ContainerState.running
        is_serving = is_running and record.state == AppState.healthy.value
        if not is_serving and self._operations.count < RECOVERIES_AT_ONCE:
            self._begin(record, "recovery", published.number, self._lifecycle.recover)

    def _list_leftovers(
        self, record: AppRecord, containers: Sequence[ObservedContainer]
    ) -> list[int]:
        """Generations that a deploy could not take back, since engine or PKI were away."""
        held = {c.generation for c in containers if c.uuid == record.uuid}
        held |= {n for app, n in self._parts.handover.list_generations() if app == record.name}
        return sorted(held - {g.number for g in record.generations})

    def _has_drained(
        self,
        record: AppRecord,
        generation: GenerationRecord,
        upstreams: Sequence[UpstreamReport],
    ) -> bool:
        name = build_upstream_name(record.name, generation.number)
        left = next((u for u in upstreams if u.name == name), None)
        if left is None or left.in_flight + left.sockets == 0:
            return True
        drain_s = load_spec_of(record).drain
        return self._parts.wall_clock() >= (generation.drain_s or 0) + drain_s

    def _begin(
        self,
        record: AppRecord,
        verb: str,
        number: int,
        work: Callable[[str, Report], Awaitable[Result]],
    ) -> bool:
        """Begin an operation, unless the same was begun lately; each time that is longer ago."""
        now, key = self._parts.clock(), (record.uuid, verb, number)
        self._patience = {
            key: kept for key, kept in self._patience.items() if now - kept.last_try <= CALM_S
        }
        patience = self._patience.setdefault(key, Patience())
        if now < patience.not_before:
            return False
        patience.last_try = now
        patience.not_before = now + patience.pause_s
        patience.pause_s = min(patience.pause_s * 2, LONGEST_PAUSE_S)
        work = partial(work, record.name)
        self._operations.start(record.name, verb, "lockgate itself", work, is_committed=True)
        return True

    async def _retire(self, number: int, app: str, _: Report) -> RemoveResult:
        record = need_record(self._parts, app)
        name = build_upstream_name(app, number)
        with translate():
            if record.find_generation(number) is not None:
                await retire.cut(self._parts, app, number)
            await retire.retire(self._parts, record, number)
        return RemoveResult(app, (name,))

    async def _renew(self, app: str, _: Report) -> RestartResult:
        record, failures = need_record(self._parts, app), []
        for generation in record.generations:
            if launch.is_renewal_due(self._parts, app, generation):
                try:
                    with translate():
                        await launch.renew_leaf(self._parts, app, generation.number)
                except RunnerError as error:
                    failures.append(f"{build_upstream_name(app, generation.number)}: {error}")
        if failures:
            raise RunnerError(f"leaf not renewed: {'; '.join(failures)}")
        return RestartResult(app, record.last_generation, "")


def _find(
    containers: Sequence[ObservedContainer], record: AppRecord, number: int
) -> ObservedContainer | None:
    for container in containers:
        if (container.uuid, container.generation) == (record.uuid, number):
            return container
    return None
