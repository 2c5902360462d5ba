"""Puts the parts together and serves: `python -m runner serve`.

Invariants: everything that depends on what this host can do is decided here, once; the vault key
comes on an inherited pipe and is in no file, argument or environment.
"""

import asyncio
import hashlib
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from gateway import GatewayClient
from pki import PkiClient
from runner.api import serve_api
from runner.audit import Audit
from runner.config import LockgateConfig, load_config
from runner.durable import save_file
from runner.engines import Engine, EngineError, EngineFacts
from runner.engines.container import build_installation_id
from runner.engines.docker import DockerEngine
from runner.engines.process import ProcessEngine
from runner.errors import StartError
from runner.handover.directory import open_handover
from runner.lifecycle import Lifecycle
from runner.operations import Operations
from runner.parts import Parts
from runner.service import Service
from runner.store import Store
from runner.supervisor import Supervisor
from runner.takeover import take_over
from runner.vault import Vault
from runner.volumes.catalog import choose_volume_driver

KEY_BYTES = 32
ENGINE_NAME = "engine"
AGENT_SOURCE = Path(__file__).with_name("agent")


async def serve(config_path: Path, seal_fd: int, parent_fd: int | None) -> None:
    """Serve until told to stop, or until the process that started us is gone."""
    parts = await build_parts(load_config(config_path), read_key(seal_fd))
    await take_over(parts)
    lifecycle = Lifecycle(parts)
    async with Operations() as operations:
        supervisor = Supervisor(parts, lifecycle, operations)
        service = Service(parts, lifecycle, supervisor)
        async with (
            serve_api(service, operations, parts.config.socket_path) as api,
            asyncio.TaskGroup() as group,
        ):
            turning = group.create_task(supervisor.run())
            watching = group.create_task(await_parent(parent_fd))
            stopping = group.create_task(api.stopped.wait())
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (turning, watching, stopping):
                task.cancel()
    for closing in (parts.gateway.close(), parts.pki.close(), parts.engine.close()):
        await closing


async def build_parts(config: LockgateConfig, key: bytes) -> Parts:
    """Choose what this host can do. Raises `RunnerError` with the remedy if it cannot."""
    wall_clock = time.time
    engine, facts = await choose_engine(config)
    save_file(config.state_dir / ENGINE_NAME, f"{engine.name}\n".encode())
    choice = await choose_volume_driver(config.volumes.encryption, config.state_dir / "volumes")
    await choice.driver.clean()
    return Parts(
        config=config,
        engine=engine,
        facts=facts,
        driver=choice.driver,
        vault=Vault(config.state_dir / "vault", key),
        handover=await open_handover(config.run_dir),
        store=Store(config.state_dir / "apps"),
        pki=PkiClient(config.pki_socket_path),
        gateway=GatewayClient(config.gateway_socket_path),
        audit=Audit(config.state_dir / "audit.jsonl"),
        wall_clock=wall_clock,
        clock=time.monotonic,
        agent_dir=copy_agent(AGENT_SOURCE, config.run_dir / "agent"),
        table_version=int(wall_clock()),
    )


async def choose_engine(config: LockgateConfig) -> tuple[Engine, EngineFacts]:
    """The engine that the configuration names; `auto`: Docker if it works here.

    Apps that ran on Docker are not moved to a lesser fence because it is down, or slow to start.
    """
    kind = config.engine.kind
    if kind == "process":
        process = build_process_engine(config)
        return process, await process.check()
    docker = DockerEngine(
        build_installation_id(str(config.state_dir)),
        image=config.engine.image,
        address_pool=config.engine.address_pool,
        uid_base=config.engine.uid_base,
        docker_host=config.engine.docker_host,
    )
    try:
        return docker, await docker.check()
    except EngineError as error:
        await docker.close()
        if kind == "docker":
            raise
        if read_engine(config.state_dir) == DockerEngine.name and has_apps(config.state_dir):
            raise EngineError(
                f"the apps of this installation run on Docker, and: {error}"
            ) from None
        process = build_process_engine(config)
        facts = await process.check()
        note = f"the process engine is in use, since: {error}"
        return process, replace(facts, notes=(note, *facts.notes))


def read_engine(state_dir: Path) -> str:
    """The name of the engine that was used last; empty before the first time."""
    try:
        return (state_dir / ENGINE_NAME).read_text().strip()
    except FileNotFoundError:
        return ""


def has_apps(state_dir: Path) -> bool:
    """Whether there is any app's record, readable or not."""
    return any((state_dir / "apps").glob("*.json"))


def build_process_engine(config: LockgateConfig) -> ProcessEngine:
    """The engine that needs nothing installed."""
    return ProcessEngine(config.run_dir / "engine", uid_base=config.engine.uid_base)


def copy_agent(source: Path, target: Path) -> Path:
    """The agent's code where every uid may read it, by its content: what runs keeps its own."""
    files = sorted(source.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    place = target / digest
    if place.is_dir():
        return place
    fresh = target / f".{digest}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    target.chmod(0o755)
    for path in files:
        shutil.copyfile(path, fresh / path.name)
        (fresh / path.name).chmod(0o644)
    fresh.chmod(0o755)
    fresh.rename(place)
    return place


def read_key(seal_fd: int) -> bytes:
    """The 32 bytes of the vault key, read to the pipe's end."""
    with os.fdopen(seal_fd, "rb") as pipe:
        key = pipe.read(64)
    if len(key) != KEY_BYTES:
        raise StartError(f"the vault key on descriptor {seal_fd} is {len(key)} bytes, not 32")
    return key


async def await_parent(parent_fd: int | None) -> None:
    """Return when the process that holds the pipe's other end is gone; never without a pipe."""
    gone = asyncio.Event()
    if parent_fd is not None:
        asyncio.get_running_loop().add_reader(parent_fd, gone.set)
    try:
        await gone.wait()
    finally:
        if parent_fd is not None:
            asyncio.get_running_loop().remove_reader(parent_fd)
