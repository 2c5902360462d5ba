"""The process engine: agents and apps as processes of this machine, for where there is no Docker.

Theory: the agent is a detached process that outlives the runner; its pid, start time and boot are
kept in the run directory, and a later runner adopts it only if all three agree. The app runs in a
bubblewrap sandbox if that works here, else plainly; `check` finds out by trying.

Invariants: a process is signalled only after it was recognised; what a start made is gone when it
fails, and all of it when it is stopped; what isolation is missing is said in `gives_up`.
"""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from runner import host
from runner.engines import (
    AGENT,
    APP,
    HOME,
    IDENTITY,
    LOGS,
    SCRATCH,
    SECRETS,
    TIMED_OUT,
    TMP,
    VENV,
    BuildSpec,
    ContainerSpec,
    ContainerState,
    EngineError,
    EngineFacts,
    EnginePaths,
    LineSink,
    Mount,
    ObservedContainer,
    Tmpfs,
)
from runner.engines.interpreter import Ability, find_ability
from runner.engines.procfs import end_process, is_alive, read_identity
from runner.engines.runfiles import ProcessRecord, RunFiles
from runner.engines.sandbox import build_app_sandbox, build_sandbox, describe_losses

RAM_NAMES = ("home", "tmp")
REAP_TIMEOUT_S = 1.0


class ProcessEngine:
    """`folder` is below the run directory and belongs to this engine alone."""

    name = "process"

    def __init__(self, folder: Path, *, uid_base: int = 200_000) -> None:
        self._files = RunFiles(folder)
        self._uid_base = uid_base
        self._is_root = os.geteuid() == 0
        self._children: dict[tuple[str, int], host.Child] = {}
        self._known: Ability | None = None

    def __repr__(self) -> str:
        return f"<ProcessEngine children={sorted(self._children)}>"

    async def check(self) -> EngineFacts:
        """See `Engine.check`."""
        await asyncio.to_thread(self._files.open)
        ability = self._known = await find_ability(self._uid_base if self._is_root else None)
        kind = "bwrap" if ability.tools else "plain"
        has_sandbox = ability.tools is not None
        return EngineFacts(
            name=self.name,
            version=ability.bwrap_version or kind,
            image_id=f"process:{kind}:{ability.python.path}:{ability.python.version}",
            python=ability.python.version,
            python_path=ability.python.path,
            gives_up=describe_losses(has_sandbox=has_sandbox, has_uids=self._is_root),
            notes=(ability.why_plain,) if ability.why_plain else (),
        )

    @property
    def _ability(self) -> Ability:
        if self._known is None:
            raise EngineError("the process engine has not been checked")
        return self._known

    def paths(
        self, app: str, generation: int, slot: int, mounts: Sequence[Mount], tmpfs: Sequence[Tmpfs]
    ) -> EnginePaths:
        """See `Engine.paths`; the app's port is one that was free a moment ago."""
        tools = self._ability.tools
        outside = {mount.target: mount.source for mount in mounts}
        ram = outside[SECRETS].parent
        where = partial(self.locate, mounts)
        agent_uid = self._uid_base + 2 * slot if self._is_root else None
        agent = self._files.open_to_all(outside[AGENT]) if self._is_root else outside[AGENT]
        agent_json = f"{outside[IDENTITY]}/agent.json"
        return EnginePaths(
            agent_argv=(self._ability.python.path, "-I", "-S", "-B", str(agent), agent_json),
            agent_identity=str(outside[IDENTITY]),
            agent_secrets=str(outside[SECRETS]),
            agent_logs=str(outside[LOGS]),
            agent_cwd="/" if tools else str(outside[APP] / "code"),
            agent_home=str(ram / "home"),
            listen=f"unix:{self._files.socket_path(app, generation)}",
            app_port=find_free_port(),
            code=where(f"{APP}/code"),
            venv=where(VENV),
            scratch=where(SCRATCH),
            secrets=where(SECRETS),
            home=HOME if tools else str(ram / "home"),
            tmp=TMP if tools else str(ram / "tmp"),
            sandbox_argv=build_app_sandbox(tools, app, mounts, tmpfs) if tools else (),
            agent_uid=agent_uid,
            app_uid=None if agent_uid is None else agent_uid + 1,
        )

    def locate(self, mounts: Sequence[Mount], target: str) -> str:
        """See `Engine.locate`: itself in a sandbox, else the place on this machine."""
        if self._ability.tools:
            return target
        fitting = [m for m in mounts if f"{target}/".startswith(f"{m.target}/")]
        if not fitting:
            return target
        inner = max(fitting, key=lambda mount: len(mount.target))
        return f"{inner.source}{target.removeprefix(inner.target)}"

    async def observe(self) -> Sequence[ObservedContainer]:
        """See `Engine.observe`; the exit code of an adopted process is not known."""
        records = await asyncio.to_thread(lambda: list(self._files.list()))
        return [await self._observe(record) for record in records]

    async def build(self, spec: BuildSpec, on_line: LineSink) -> int:
        """See `Engine.build`."""
        tools = self._ability.tools
        if tools:
            mounts = [self._share(mount) for mount in spec.mounts]
            argv = (*build_sandbox(tools, spec.app, mounts, spec.tmpfs), *spec.argv)
        else:
            argv = tuple(spec.argv)
        try:
            done = await host.run(
                argv,
                deadline_s=spec.timeout_s,
                env=spec.env,
                cwd="/",
                uid=spec.uid if self._is_root else None,
                on_line=on_line,
            )
        except host.HostDeadlineError:
            on_line(f"not done after {spec.timeout_s:g} s: stopped")
            return TIMED_OUT
        except host.HostError as error:
            raise EngineError(str(error)) from None
        return done.code if done.code >= 0 else 128 - done.code

    async def start(self, spec: ContainerSpec) -> ObservedContainer:
        """See `Engine.start`; a process of the same generation that has ended makes way."""
        standing = self._files.find(spec.app, spec.generation)
        if standing is not None and is_alive(standing.process):
            raise EngineError(f"{spec.app}/{spec.generation} is running already")
        await self.stop(spec.app, spec.generation, 0)
        outside = {mount.target: mount.source for mount in spec.mounts}
        missing = [str(m.source) for m in spec.mounts if not m.source.exists()]
        if missing:
            raise EngineError(f"mount source does not exist: {missing[0]}")
        ram = tuple(str(outside[SECRETS].parent / name) for name in RAM_NAMES)
        self._files.remove(spec.app, spec.generation, ram)
        try:
            self._make_places(spec, ram)
            return await self._launch(spec, ram)
        except BaseException as error:
            self._abandon(spec, ram)
            if isinstance(error, OSError | host.HostError):
                raise EngineError(f"cannot start {spec.app}: {error}") from None
            raise

    async def stop(self, app: str, generation: int, grace_s: float) -> None:
        """See `Engine.stop`; the agent passes SIGTERM on, and is killed with all below it."""
        record = self._files.find(app, generation)
        if record is not None:
            await end_process(record.process, grace_s)
        child = self._children.pop((app, generation), None)
        if child is not None:
            child.kill()
            await child.wait()
        ram = record.ram if record is not None else ()
        await asyncio.to_thread(self._files.remove, app, generation, ram)

    async def remove_app(self, app: str) -> None:
        """See `Engine.remove_app`."""
        for record in list(self._files.list()):
            if record.app == app:
                await self.stop(app, record.generation, 0)

    async def close(self) -> None:
        """See `Engine.close`: nothing is held but handles on children, which go on."""
        self._children.clear()

    async def _observe(self, record: ProcessRecord) -> ObservedContainer:
        is_running = is_alive(record.process)
        code = None if is_running else await self._find_exit_code(record)
        return ObservedContainer(
            app=record.app,
            generation=record.generation,
            uuid=record.uuid,
            spec_hash=record.spec_hash,
            state=ContainerState.running if is_running else ContainerState.exited,
            address=record.address if is_running else None,
            exit_code=None if code is None else code if code >= 0 else 128 - code,
        )

    async def _find_exit_code(self, record: ProcessRecord) -> int | None:
        """Of a process that has ended, if it was our child; it may be about to be reaped."""
        child = self._children.get((record.app, record.generation))
        if child is None or child.pid != record.process.pid:
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_TIMEOUT_S):
                return await child.wait()
        return None

    def _make_places(self, spec: ContainerSpec, ram: Sequence[str]) -> None:
        """The socket's folder for the agent, home and temporary files for the app."""
        agent_uid = self._uid_base + 2 * spec.slot if self._is_root else None
        self._files.make_place(spec.app, spec.generation, agent_uid)
        for path in map(Path, ram):
            path.mkdir(mode=0o700)
            if agent_uid is not None:
                os.chown(path, agent_uid + 1, agent_uid + 1)

    async def _launch(self, spec: ContainerSpec, ram: tuple[str, ...]) -> ObservedContainer:
        errors = self._files.errors_path(spec.app, spec.generation)
        env = {"LANG": "C.UTF-8"}
        child = await host.spawn(spec.argv, env=env, cwd="/", stdout=errors)
        self._children[(spec.app, spec.generation)] = child
        self._limit(child.pid, spec)
        identity = read_identity(child.pid)
        if identity is None:
            raise EngineError(f"{spec.app} ended at once: {_read_last_line(errors)}")
        record = ProcessRecord(
            app=spec.app,
            generation=spec.generation,
            uuid=spec.uuid,
            spec_hash=spec.spec_hash,
            address=f"unix:{self._files.socket_path(spec.app, spec.generation)}",
            process=identity,
            ram=ram,
        )
        self._files.save(record)
        return await self._observe(record)

    def _limit(self, pid: int, spec: ContainerSpec) -> None:
        """What a plain process can have; not address space, of which numpy maps far too much."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
            if self._is_root:  # counted per uid, and only then the app has one of its own
                tasks = spec.resources.pids
                resource.prlimit(pid, resource.RLIMIT_NPROC, (tasks, tasks))

    def _abandon(self, spec: ContainerSpec, ram: tuple[str, ...]) -> None:
        child = self._children.pop((spec.app, spec.generation), None)
        if child is not None:
            child.kill()
        self._files.remove(spec.app, spec.generation, ram)

    def _share(self, mount: Mount) -> Mount:
        """A program or CA file that the build's uid could not reach is mounted from a copy."""
        if not self._is_root or not mount.source.is_file():
            return mount
        return Mount(self._files.open_to_all(mount.source), mount.target)


def find_free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read_last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line), "without a word")
    return "without a word"
