"""The reconcile loop: what should run runs, what has drained goes, what expires is renewed.

Theory: each turn looks at the engine, the gateway and the records, and leaves alone every app that
an operation is at work on. What has to be done about an app is itself an operation, so a deploy and
a recovery can never meet. An app that does not stay up is brought back with growing pauses.

Invariants: adopts what runs and is accounted for, stops what is not; never touches a generation
that serves; an error of one app or one turn does not end the loop.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from gateway import GatewayError, UpstreamReport
from pki import PkiError, pick_renewal_time
from runner import launch, retire
from runner.engines import ContainerState, ObservedContainer
from runner.errors import RunnerError
from runner.events import AppState
from runner.lifecycle import Lifecycle, load_spec_of
from runner.observed import list_orphans
from runner.operations import Operations
from runner.parts import Parts
from runner.publish import publish, set_state
from runner.routing import build_upstream_name
from runner.store import AppRecord, GenerationRecord

TURN_S = 1.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
CALM_S = 600.0

_log = structlog.get_logger("runner")
_FOREIGN = (RunnerError, GatewayError, PkiError)


@dataclass(slots=True)
class Patience:
    """How often an app had to be brought back lately; times in seconds of `Parts.clock`."""

    pause_s: float = FIRST_PAUSE_S
    not_before: float = 0.0
    last_try: float = 0.0


class Supervisor:
    """Looks after all apps, a turn a second."""

    def __init__(self, parts: Parts, lifecycle: Lifecycle, operations: Operations) -> None:
        self._parts = parts
        self._lifecycle = lifecycle
        self._operations = operations
        self._patience: dict[str, Patience] = {}
        self._turning = asyncio.Lock()
        self._is_halted = False

    async def adopt(self) -> None:
        """At the start: account for what a previous runner left, then publish what serves."""
        parts = self._parts
        containers = await parts.engine.observe()
        records = parts.store.list().apps
        for orphan in list_orphans(records, containers):
            _log.info("orphan stopped", app=orphan.app, generation=orphan.generation)
            await parts.engine.stop(orphan.app, orphan.generation, launch.GRACE_S)
        known = {parts.mountpoint(record.name) for record in records}
        for volume in await parts.driver.list_open():
            if volume.mountpoint not in known:
                await parts.driver.close(volume.mountpoint)
        for record in records:
            self._remember(record, containers)
            await self._renew(record, is_due=True)
        await publish(parts)

    async def run(self) -> None:
        """Turn after turn until halted."""
        while not self._is_halted:
            async with self._turning:
                try:
                    await self.turn()
                except _FOREIGN as error:
                    _log.warning("turn failed", reason=str(error))
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
                try:
                    await self._look_after(record, containers, upstreams)
                except _FOREIGN as error:
                    _log.warning("app not looked after", app=record.name, reason=str(error))

    async def _look_after(
        self,
        record: AppRecord,
        containers: Sequence[ObservedContainer],
        upstreams: Sequence[UpstreamReport],
    ) -> None:
        for generation in record.generations:
            if generation.state == "draining" and self._has_drained(record, generation, upstreams):
                await retire.cut(self._parts, record.name, generation.number)
                await retire.retire(self._parts, record, generation.number)
                return
        await self._renew(record, is_due=False)
        published = next((g for g in record.generations if g.state == "published"), None)
        if published is None or record.desired != "running":
            return
        container = _find(containers, record, published.number)
        if container is None or container.state is ContainerState.exited:
            await self._bring_back(record, container)

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

    async def _bring_back(self, record: AppRecord, container: ObservedContainer | None) -> None:
        now = self._parts.clock()
        patience = self._patience.setdefault(record.name, Patience())
        if record.state == AppState.healthy.value:
            what = launch.describe_exit(container) if container else "the container is gone"
            set_state(self._parts, record.name, AppState.unhealthy, what)
            self._parts.addresses.pop((record.name, _published_number(record)), None)
            await publish(self._parts)
            if now - patience.last_try > CALM_S:
                self._patience[record.name] = patience = Patience()
        if now < patience.not_before:
            return
        patience.last_try = now
        patience.not_before = now + patience.pause_s
        patience.pause_s = min(patience.pause_s * 2, LONGEST_PAUSE_S)
        recover = partial(self._lifecycle.recover, record.name)
        self._operations.start(
            record.name, "recovery", "lockgate itself", recover, is_committed=True
        )

    async def _renew(self, record: AppRecord, *, is_due: bool) -> None:
        """New leaves at half life, give or take; `is_due`: now, since nobody knows how old."""
        parts = self._parts
        now = datetime.fromtimestamp(parts.wall_clock(), UTC)
        for generation in record.generations:
            key = (record.name, generation.number)
            if key not in parts.addresses:
                continue
            life = parts.leaves.get(key)
            if not is_due and life is not None:
                # The same leaf always gets the same jitter: a leaf has one renewal time.
                jitter = random.Random(f"{key}{life[0]}").uniform(-1, 1)  # noqa: S311
                if now < pick_renewal_time(life[0], life[1], jitter):
                    continue
            await launch.renew_leaf(parts, *key)

    def _remember(self, record: AppRecord, containers: Sequence[ObservedContainer]) -> None:
        for generation in record.generations:
            container = _find(containers, record, generation.number)
            if container is None or container.state is not ContainerState.running:
                continue
            if container.address is not None:
                self._parts.addresses[(record.name, generation.number)] = container.address


def _find(
    containers: Sequence[ObservedContainer], record: AppRecord, number: int
) -> ObservedContainer | None:
    for container in containers:
        if (container.uuid, container.generation) == (record.uuid, number):
            return container
    return None


def _published_number(record: AppRecord) -> int:
    return next((g.number for g in record.generations if g.state == "published"), 0)
