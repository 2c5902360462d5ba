"""Takes generations and apps away: what ran, what it was called, what it left.

Invariants: every function here may be called again after it failed half-way, or when there is
nothing to take away; the key of an app goes before anything else of it.
"""

import asyncio
from collections.abc import Awaitable

from runner.errors import RunnerError
from runner.events import AppState
from runner.launch import GRACE_S
from runner.parts import Parts, translate
from runner.prepare import delete_code, delete_unused, find_layout
from runner.publish import publish, set_state
from runner.routing import build_upstream_name
from runner.store import AppRecord
from runner.volumes import VolumeError
from runner.volumes.mounts import remove_mountpoint
from runner.work import need_record

STOPS_AT_ONCE = 8


async def withdraw(parts: Parts, app: str, number: int) -> str:
    """The generation's identity: forgotten by the PKI, gone from RAM."""
    serials = await parts.pki.forget_app(app, number)
    await asyncio.to_thread(parts.handover.remove, app, number)
    parts.leaves.pop((app, number), None)
    return f"{len(serials)} leaves" if len(serials) != 1 else "1 leaf"


async def stop(parts: Parts, app: str, number: int) -> str:
    """The generation's container, its open connections included."""
    await parts.engine.stop(app, number, GRACE_S)
    parts.addresses.pop((app, number), None)
    return ""


async def retire(parts: Parts, record: AppRecord, number: int) -> None:
    """A generation that has drained: container, identity, record, code."""
    app = record.name
    await stop(parts, app, number)
    await withdraw(parts, app, number)
    record = need_record(parts, app)
    kept = tuple(g for g in record.generations if g.number != number)
    record = record.model_copy(update={"generations": kept})
    parts.store.save(record)
    try:
        layout = await find_layout(parts, record)
    except VolumeError:
        return  # It is closed; what no generation uses is deleted when it is opened.
    await delete_code(layout, number)
    await delete_unused(layout, record)


async def cut(parts: Parts, app: str, number: int) -> None:
    """Cut what is still open at a drain's deadline."""
    await parts.gateway.close_upstream(build_upstream_name(app, number))


async def destroy_key(parts: Parts, app: str) -> str:
    """Without its key the volume is noise, whatever becomes of the other steps.

    First the record says that nobody shall bring the app back, so that nobody tries without a key.
    """
    record = need_record(parts, app)
    parts.store.save(record.model_copy(update={"desired": "stopped"}))
    set_state(parts, app, AppState.stopped, f"being removed; again: lockgate remove {app}")
    parts.vault.destroy_app(record.uuid)
    return "volume key and secrets"


async def unpublish(parts: Parts, app: str) -> str:
    """Close the app's hosts to visitors and cut what is open."""
    record = need_record(parts, app)
    numbers = [g.number for g in record.generations]
    parts.store.save(record.model_copy(update={"spec": {}, "generations": ()}))
    await publish(parts)
    for number in numbers:
        await cut(parts, app, number)
    return ", ".join(record.spec.get("hosts", ()))


async def remove_containers(parts: Parts, app: str) -> str:
    """Every container and network of the app."""
    await parts.engine.remove_app(app)
    for key in [key for key in parts.addresses if key[0] == app]:
        del parts.addresses[key]
    return "containers and network"


async def destroy_volume(parts: Parts, app: str) -> str:
    """The volume: key out of the kernel, mount, loop device, image."""
    record = need_record(parts, app)
    await parts.driver.destroy(record.uuid, parts.mountpoint(app))
    return "volume with code, environment, scratch and logs"


async def withdraw_all(parts: Parts, app: str) -> str:
    """Every identity of the app, and its RAM directories."""
    serials = await parts.pki.forget_app(app)
    await asyncio.to_thread(parts.handover.remove_app, app)
    for key in [key for key in parts.leaves if key[0] == app]:
        del parts.leaves[key]
    return f"{len(serials)} valid leaves withdrawn"


async def stop_all(parts: Parts) -> list[str]:
    """Stop every app, lock every volume, unmount the RAM directory; what failed, a line each."""
    failures: list[str] = []
    gate = asyncio.Semaphore(STOPS_AT_ONCE)

    async def attempt(what: str, work: Awaitable[None]) -> None:
        async with gate:
            try:
                with translate():
                    await work
            except RunnerError as error:
                failures.append(f"{what}: {error}")

    async with asyncio.TaskGroup() as group:
        for record in parts.store.list().apps:
            group.create_task(attempt(record.name, stop_app(parts, record)))
    for volume in await parts.driver.list_open():
        await attempt(str(volume.mountpoint), parts.driver.close(volume.mountpoint))
    await attempt("RAM directory", asyncio.to_thread(parts.handover.close))
    return failures


async def stop_app(parts: Parts, record: AppRecord) -> None:
    """Stop all containers of an app and lock its volume; what is desired stays desired."""
    for number in {g.number for g in record.generations}:
        await stop(parts, record.name, number)
    await parts.engine.remove_app(record.name)
    await parts.driver.close(parts.mountpoint(record.name))
    await asyncio.to_thread(remove_mountpoint, parts.mountpoint(record.name))
    await asyncio.to_thread(parts.handover.remove_app, record.name)
    if record.generations:
        set_state(parts, record.name, AppState.stopped, "Lockgate was stopped")
