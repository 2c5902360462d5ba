"""At the start: accounts for what a previous runner left, however it ended.

Theory: what runs and has its volume and its identity is adopted. What runs without them can only be
started anew: it is stopped here, and the reconcile loop brings it back.

Invariants: what runs and is whole is adopted, never restarted; what nothing accounts for is taken
away: containers, mounts, identities, RAM directories, code; no app is left in a state that says
that somebody is at work on it; what is amiss with one app keeps no other one from being adopted.
"""

import asyncio
from collections.abc import Awaitable, Sequence, Set

import structlog

from runner import launch, retire
from runner.engines import ContainerState, ObservedContainer
from runner.errors import RunnerError
from runner.events import AppState
from runner.handover.directory import HandoverError
from runner.observed import list_orphans
from runner.parts import Parts, translate
from runner.prepare import delete_unused, find_layout
from runner.publish import publish, set_state
from runner.routing import build_upstream_name
from runner.store import AppRecord

AT_WORK = {AppState.building.value, AppState.starting.value}
INTERRUPTED = "the deploy was interrupted when Lockgate ended; deploy again"

_log = structlog.get_logger("runner")


async def take_over(parts: Parts) -> None:
    """Bring records and host together, then publish what serves. Raises `RunnerError`."""
    listing = parts.store.list()
    records, damaged = listing.apps, {item.path.stem for item in listing.damaged}
    for item in listing.damaged:
        _log.error("record cannot be read: its app is left as it is", reason=item.reason)
    containers = await parts.engine.observe()
    await _take_away_orphans(parts, records, containers, damaged)
    for record in records:
        _learn_addresses(parts, record, containers)
        await _attempt(f"adopt {record.name}", _adopt(parts, record))
    await publish(parts)


async def _attempt(what: str, work: Awaitable[object]) -> None:
    """What cannot be done now is told and left: it must not keep all apps from being served."""
    try:
        with translate():
            await work
    except RunnerError as error:
        _log.warning("left undone at the start", what=what, reason=str(error))


async def _take_away_orphans(
    parts: Parts,
    records: Sequence[AppRecord],
    containers: Sequence[ObservedContainer],
    spared: Set[str],
) -> None:
    for orphan in list_orphans(records, [c for c in containers if c.app not in spared]):
        name = build_upstream_name(orphan.app, orphan.generation)
        _log.info("orphan stopped", app=orphan.app, generation=orphan.generation)
        work = parts.engine.stop(orphan.app, orphan.generation, launch.GRACE_S)
        await _attempt(f"stop {name}", work)
    known = {(record.name, g.number) for record in records for g in record.generations}
    interrupted = {(record.name, record.last_generation) for record in records} - known
    left = {key for key in parts.handover.list_generations() if key[0] not in spared}
    for app, number in (left | interrupted) - known:
        name = build_upstream_name(app, number)
        await _attempt(f"withdraw {name}", retire.withdraw(parts, app, number))
    names = {record.name for record in records} | spared
    mountpoints = {parts.mountpoint(name) for name in names}
    for volume in await parts.driver.list_open():
        if volume.mountpoint not in mountpoints:
            await _attempt(f"close {volume.mountpoint}", parts.driver.close(volume.mountpoint))


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
    running = [g.number for g in record.generations if (record.name, g.number) in parts.addresses]
    try:
        layout = await find_layout(parts, record)
    except RunnerError as error:
        for number in running:
            await _let_go(parts, record, number, error)
        if not parts.vault.has_app(record.uuid):
            # A removal got as far as the key: no copy of it stays in the kernel either.
            await parts.driver.close(parts.mountpoint(record.name))
        return
    await delete_unused(layout, record)
    for number in running:
        try:
            await asyncio.to_thread(parts.handover.read_identity, record.name, number, "agent.json")
        except HandoverError as error:
            await _let_go(parts, record, number, error)
        else:
            await launch.renew_leaf(parts, record.name, number)


async def _let_go(parts: Parts, record: AppRecord, number: int, error: RunnerError) -> None:
    _log.warning("cannot be adopted", app=record.name, generation=number, reason=str(error))
    await retire.stop(parts, record.name, number)
