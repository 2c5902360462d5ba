"""Tells the gateway which app is where, and keeps what `status` says of an app.

Invariants: the table is always built from the records, whole; its version only grows; a record is
saved before the gateway hears of it.
"""

from gateway import TableDocument
from runner.events import AppState
from runner.observed import Standing, build_standing
from runner.parts import Parts, translate
from runner.routing import build_table
from runner.store import AppRecord


async def publish(parts: Parts) -> TableDocument:
    """Publish the table of all records; raises `RunnerError`."""
    parts.table_version += 1
    table = build_table(
        parts.table_version,
        parts.store.list().apps,
        parts.addresses,
        parts.config.trust_domain,
    )
    with translate():
        await parts.gateway.put_table(table)
    return table


async def observe(parts: Parts, name: str) -> Standing:
    """What is the case with one app; raises `EngineError`."""
    record = parts.store.load(name)
    containers = await parts.engine.observe()
    mountpoint = parts.mountpoint(name)
    is_open = any(v.mountpoint == mountpoint for v in await parts.driver.list_open())
    standing = build_standing(name, record, containers, is_open)
    for container in containers:
        if container.address and record is not None and container.uuid == record.uuid:
            parts.addresses[(container.app, container.generation)] = container.address
    return standing


def set_state(parts: Parts, name: str, state: AppState, reason: str = "") -> AppRecord | None:
    """Note what an app is now; `since` moves only when the state does. None: no such app."""
    record = parts.store.load(name)
    if record is None or (record.state, record.reason) == (state.value, reason):
        return record
    since = record.since_s if record.state == state.value else parts.wall_clock()
    record = record.model_copy(
        update={"state": state.value, "reason": reason, "since_s": since},
    )
    parts.store.save(record)
    return record
