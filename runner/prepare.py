"""Prepares a generation on its app's volume: the volume itself, code, environment.

Invariants: nothing of an app is written anywhere else; a half-made generation or environment is
never taken for a whole one; code and environment belong to the app's uid and are mounted read-only
where the app runs.
"""

import asyncio
import contextlib
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import TextIO

from runner.building.perform import build_environment
from runner.errors import RefusedError, RunnerError
from runner.events import Line
from runner.host import run
from runner.launch import reserve_hosts
from runner.layout import VolumeLayout
from runner.parts import Owners, Parts
from runner.source.fetch import Credentials, fetch
from runner.spec.model import AppSpec
from runner.store import AppRecord
from runner.work import Work, need_record

COPY_DEADLINE_S = 300.0
MAX_SLOTS = 4096
LOGS_KEPT = 20
LOG_NAME = re.compile(r"(?:app|build)-([0-9]{1,9})\.log(?:\.[0-9]+)?\Z")


def create_app(parts: Parts, app: str) -> AppRecord:
    """A record, keys and a slot for an app that has none; what it has already is kept."""
    record = parts.store.load(app)
    if record is not None:
        return record
    record = AppRecord(
        name=app,
        uuid=uuid.uuid4().hex,
        slot=parts.store.find_free_slot(MAX_SLOTS),
        spec={},
        desired="running",
        state="stopped",
        reason="not deployed yet",
        since_s=parts.wall_clock(),
    )
    parts.vault.create_app(record.uuid)
    parts.store.save(record)
    return record


async def open_volume(parts: Parts, record: AppRecord, size_bytes: int) -> VolumeLayout:
    """Open, prove and furnish the app's volume; take away what was left when it was closed."""
    key = parts.vault.volume_key(record.uuid)
    mountpoint = parts.mountpoint(record.name)
    root = await parts.driver.open(record.uuid, key, size_bytes, mountpoint)
    layout = VolumeLayout(root)
    await asyncio.to_thread(_furnish, layout, parts.find_owners(record))
    await delete_unused(layout, record)
    return layout


async def find_layout(parts: Parts, record: AppRecord) -> VolumeLayout:
    """The layout of a volume that is open; raises `VolumeError` if it is not the right one."""
    key = parts.vault.volume_key(record.uuid)
    return VolumeLayout(await parts.driver.prove(parts.mountpoint(record.name), key))


async def fetch_code(parts: Parts, work: Work, layout: VolumeLayout) -> str:
    """The commit into the new generation: copied from the volume if it lies there already."""
    record = need_record(parts, work.app)
    number = work.number
    update: dict[str, object] = {"last_generation": number}
    if work.standing.published is None:
        update["spec"] = work.need_spec().model_dump(mode="json")
        await reserve_hosts(parts, work.app, work.need_spec())
    parts.store.save(record.model_copy(update=update))
    await delete_code(layout, number)
    owners = parts.find_owners(record)
    generation = layout.generation(number)
    _make_directory(generation, 0o755, owners.app)
    _make_directory(generation / "venv", 0o755, owners.app)
    kept = _find_kept(record, work, layout)
    if kept is not None:
        await _copy(layout.code(kept), layout.code(number))
        check_entrypoint(work.need_spec(), layout.code(number), work.commit)
        return f"{work.commit[:12]}, kept from generation {kept}"
    spec = work.need_spec()
    credentials = build_credentials(parts, work.app, spec)
    await fetch(
        spec.source,
        work.commit,
        layout.code(number),
        credentials,
        ram_dir=parts.handover.root,
        uid=owners.app,
    )
    check_entrypoint(spec, layout.code(number), work.commit)
    return f"{work.commit[:12]} of {spec.source.repo}"


def check_entrypoint(spec: AppSpec, code: Path, commit: str) -> None:
    """Raises `RefusedError` unless the script that the spec names is a file of the commit."""
    if spec.entrypoint is not None and not (code / spec.entrypoint).is_file():
        raise RefusedError(
            f"entrypoint: {spec.entrypoint} is not in {commit[:12]} of {spec.source.repo}"
            + (f", below {spec.source.subdirectory}" if spec.source.subdirectory != "." else "")
            + ": name a file that is committed"
        )


async def make_environment(parts: Parts, work: Work, layout: VolumeLayout) -> str:
    """The virtualenv that the generation's code asks for, built unless it is there."""
    spec, record = work.need_spec(), need_record(parts, work.app)
    log_path = layout.build_log(work.number)
    with _create_log(log_path) as log:

        def on_line(text: str) -> None:
            log.write(text + "\n")
            work.report(Line(text))

        try:
            made = await build_environment(
                parts.engine,
                parts.facts,
                parts.config.build,
                spec,
                record,
                layout,
                work.number,
                parts.find_owners(record).app,
                on_line,
            )
        except RunnerError as error:
            error.log_path = error.log_path or str(log_path)
            raise
    work.env_hash = made.env_hash
    return "kept" if made.is_kept else ""


def build_credentials(parts: Parts, app: str, spec: AppSpec) -> Credentials:
    """The token or the deploy key that the source names; raises `RefusedError` if it is not set."""
    return Credentials(
        token=_read_credential(parts, app, "token", spec.source.token),
        deploy_key=_read_credential(parts, app, "deploy_key", spec.source.deploy_key),
    )


async def delete_code(layout: VolumeLayout, number: int) -> None:
    """Delete a generation's directory; none is no error."""
    await asyncio.to_thread(shutil.rmtree, layout.generation(number), ignore_errors=True)
    if layout.generation(number).exists():
        raise RunnerError(f"{layout.generation(number)} cannot be deleted")


async def delete_unused(layout: VolumeLayout, record: AppRecord) -> None:
    """Delete what the record does not account for: generations, environments, old logs."""
    await asyncio.to_thread(_delete_old_logs, layout, record)
    numbers = {str(g.number) for g in record.generations}
    hashes = {g.env_hash for g in record.generations}
    for directory, kept in ((layout.generations, numbers), (layout.environments, hashes)):
        for path in directory.iterdir():
            if path.name not in kept:
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def _delete_old_logs(layout: VolumeLayout, record: AppRecord) -> None:
    """Else the volume of an app that is deployed daily fills up with them."""
    kept = {generation.number for generation in record.generations}
    for directory in (layout.logs, layout.builds):
        for path in directory.iterdir():
            match = LOG_NAME.match(path.name)
            if match is None or int(match[1]) in kept:
                continue
            if int(match[1]) <= record.last_generation - LOGS_KEPT:
                with contextlib.suppress(OSError):
                    path.unlink()


def _read_credential(parts: Parts, app: str, key: str, name: str | None) -> str | None:
    if name is None:
        return None
    record = parts.store.load(app)
    if record is not None and any(
        entry.name == name for entry in parts.vault.list_secrets(record.uuid)
    ):
        return parts.vault.read_secret(record.uuid, name)
    raise RefusedError(
        f"source.{key} names the secret {name}, which is not set: run"
        f" `lockgate secrets set {app} {name}`"
    )


def _find_kept(record: AppRecord, work: Work, layout: VolumeLayout) -> int | None:
    """A generation that holds the same code. Another repo or folder may share a commit's number."""
    spec = work.need_spec()
    if record.spec.get("source") != spec.source.model_dump(mode="json"):
        return None
    for generation in record.generations:
        if generation.commit == work.commit and layout.code(generation.number).is_dir():
            return generation.number
    return None


async def _copy(source: Path, target: Path) -> None:
    argv = ["cp", "-a", "--", str(source), str(target)]
    completed = await run(argv, deadline_s=COPY_DEADLINE_S)
    if completed.code != 0:
        raise RunnerError(f"cannot copy the code: {completed.build_reason()}")


def _create_log(path: Path) -> TextIO:
    """A log that only we read; it is flushed line by line, so that it can be followed."""
    log = path.open("w", buffering=1, encoding="utf-8", errors="replace")
    os.fchmod(log.fileno(), 0o600)
    return log


def _furnish(layout: VolumeLayout, owners: Owners) -> None:
    """The volume's first directories. Only the agent sees logs, only the app its scratch."""
    _make_directory(layout.generations, 0o755, None)
    _make_directory(layout.environments, 0o755, owners.app)
    _make_directory(layout.scratch, 0o700, owners.app)
    _make_directory(layout.logs, 0o700, owners.agent)
    _make_directory(layout.builds, 0o700, None)


def _make_directory(path: Path, mode: int, uid: int | None) -> None:
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(mode)
    if uid is not None:
        os.chown(path, uid, uid)
