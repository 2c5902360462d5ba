"""At the start: accounts for what a previous runner left, however it ended.

Invariants: what runs and is recorded is adopted, never restarted; what nothing accounts for is
taken away: containers, mounts, identities, RAM directories, code; no app is left in a state that
says that somebody is at work on it.
"""

from collections.abc import Sequence

import structlog

from runner import launch, retire
from runner.engines import ContainerState, ObservedContainer
from runner.events import AppState
from runner.observed import list_orphans
from runner.parts import Parts, translate
from runner.prepare import delete_unused, find_layout
from runner.publish import publish, set_state
from runner.store import AppRecord

AT_WORK = {AppState.building.value, AppState.starting.value}
INTERRUPTED = "the deploy was interrupted when Lockgate ended; deploy again"

_log = structlog.get_logger("runner")


async def take_over(parts: Parts) -> None:
    """Bring records and host together, then publish what serves. Raises `RunnerError`."""
    records = parts.store.list().apps
    containers = await parts.engine.observe()
    with translate():
        await _take_away_orphans(parts, records, containers)
        for record in records:
            _learn_addresses(parts, record, containers)
            await _adopt(parts, record)
    await publish(parts)


async def _take_away_orphans(
    parts: Parts, records: Sequence[AppRecord], containers: Sequence[ObservedContainer]
) -> None:
    for orphan in list_orphans(records, containers):
        _log.info("orphan stopped", app=orphan.app, generation=orphan.generation)
        await parts.engine.stop(orphan.app, orphan.generation, launch.GRACE_S)
    known = {(record.name, g.number) for record in records for g in record.generations}
    for app, number in parts.handover.list_generations():
        if (app, number) not in known:
            await retire.withdraw(parts, app, number)
    mountpoints = {parts.mountpoint(record.name) for record in records}
    for volume in await parts.driver.list_open():
        if volume.mountpoint not in mountpoints:
            await parts.driver.close(volume.mountpoint)


def _learn_addresses(
    parts: Parts, record: AppRecord, containers: Sequence[ObservedContainer]
) -> None:
    for container in containers:
        is_ours = container.uuid == record.uuid and record.find_generation(container.generation)
        if is_ours and container.state is ContainerState.running and container.address:
            parts.addresses[(record.name, container.generation)] = container.address


async def _adopt(parts: Parts, record: AppRecord) -> None:
    if record.state in AT_WORK and not record.generations:
        set_state(parts, record.name, AppState.failed, INTERRUPTED)
    numbers = [g.number for g in record.generations if (record.name, g.number) in parts.addresses]
    if not numbers:
        return
    layout = await find_layout(parts, record)
    await delete_unused(layout, record)
    for number in numbers:
        await launch.renew_leaf(parts, record.name, number)
