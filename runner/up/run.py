"""`lockgate up`: pki, gateway and runner as processes of one small supervisor.

Theory: claim the run directory, read the master key, bind the ports, start in the order of
privilege, watch. The pki and the runner hold the read end of a pipe and end when we do, however we
do; the gateway does not, so that open connections outlive a crash of ours, and the next `up` adopts
it. Stopping goes the other way: the runner stops apps and closes volumes first.

**Invariants**: the master key is read when a derived key is handed over and not kept; nothing is
left running, mounted or looped after a stop; this process opens nothing that a stranger can reach
but the listening sockets, and never reads from those.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from importlib import metadata

from pki import KeystoreError, derive_key, load_or_create_master_key
from runner.client import RunnerClient
from runner.config import LockgateConfig, save_config
from runner.errors import RunnerError, StartError
from runner.events import Json
from runner.up.adopt import KILL_WAIT_S, adopt_gateway, await_end
from runner.up.claim import LOCK_NAME, LOGS_NAME, Lock, prepare_dirs
from runner.up.ports import open_listener
from runner.up.processes import LONG_S, BuildArgv, Say, Supervised, build_argv

STOP_APPS_S = 120.0
PATIENCE_S = 10.0
TRIM_EVERY_S = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EFFECTIVE_NAME = "effective.yaml"

OnReady = Callable[[], Awaitable[None]]


class Up:
    """One run of `lockgate up`; `run` returns when it was told to stop and everything has."""

    def __init__(
        self,
        config: LockgateConfig,
        say: Say,
        *,
        on_ready: OnReady | None = None,
        logs_to_files: bool = False,
        build: BuildArgv = build_argv,
    ) -> None:
        self._config = config
        self._say = say
        self._on_ready = on_ready
        self._lock: Lock | None = None
        self._listeners: dict[str, socket.socket] = {}
        self._parent_pipe: tuple[int, int] | None = None
        self._logs = config.run_dir / LOGS_NAME if logs_to_files else None
        self._build = build
        self._asked_to_stop = asyncio.Event()
        self._signals = 0
        self._is_tidy = True
        self._pki = self._supervise("pki", self._offer_pki)
        self._gateway = self._supervise("gateway", self._offer_nothing)
        self._runner = self._supervise("runner", self._offer_runner)
        self._runner.patience_s = LONG_S

    async def run(self) -> bool:
        """Start everything, serve until told to stop, stop everything. Raises `StartError`.

        False: apps could not be stopped in order, and something may be left running or mounted.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.ask_to_stop)
        try:
            await self._run_until_asked()
        finally:
            await self._stop_all()
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
            self._let_go()
        return self._is_tidy

    def ask_to_stop(self) -> None:
        """Once: stop in order. Twice: do not wait for visitors. Three times: kill what is left."""
        self._signals += 1
        if self._signals == 1:
            self._say("stopping: apps first, then gateway and pki (again to hurry)")
        elif self._signals == 2:
            self._say("hurrying: visitors are cut off (again to kill what is left)")
            self._gateway.kill()
        else:
            self._is_tidy = False
            self._say("killed what was left; the next `lockgate up` tidies up after it")
            for process in (self._runner, self._gateway, self._pki):
                process.kill()
        self._asked_to_stop.set()

    async def _run_until_asked(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._start_and_watch())
                await self._asked_to_stop.wait()
                work.cancel()
        except BaseExceptionGroup as failures:
            # Not `except*`: what is raised in there comes out wrapped in a group again.
            known = failures.subgroup(RunnerError)
            if known is None:
                raise
            raise _find_first(known) from None

    async def _start_and_watch(self) -> None:
        await self._claim()
        await self._pki.start()
        if not self._gateway.is_running:
            await self._gateway.start()
        await self._runner.start()
        await self._announce()
        async with asyncio.TaskGroup() as group:
            for process in (self._pki, self._gateway, self._runner):
                group.create_task(process.keep())
            group.create_task(self._trim_logs())
            if self._on_ready is not None:
                await self._on_ready()

    async def _claim(self) -> None:
        config = self._config
        prepare_dirs(config)
        lock = Lock(config.run_dir / LOCK_NAME)
        lock.acquire()
        self._lock = lock
        self._parent_pipe = os.pipe()
        self._load_key("check")
        for path, name in ((config.socket_path, "runner"), (config.pki_socket_path, "pki")):
            await await_end(path, name, PATIENCE_S)
        save_config(config, config.run_dir / EFFECTIVE_NAME)
        version = metadata.version("lockgate")
        self._gateway.running = await adopt_gateway(config.gateway, version, self._say)
        if self._gateway.running is None:
            self._open_listeners()

    async def _announce(self) -> None:
        async with RunnerClient(self._config.socket_path) as client:
            facts = await client.fetch_facts()
        for line in build_announcement(self._config, facts):
            self._say(line)
        self._say("ready")

    async def _stop_all(self) -> None:
        if self._runner.is_running and self._config.socket_path.exists():
            await self._stop_apps()
        await self._runner.stop(PATIENCE_S)
        if self._asked_to_stop.is_set() or not self._is_adopted():
            drain_s = self._config.gateway.limits.drain if self._signals < 2 else 0.0
            await self._gateway.stop(drain_s + KILL_WAIT_S)
        await self._pki.stop(KILL_WAIT_S)
        if self._asked_to_stop.is_set():
            self._say("stopped" if self._is_tidy else "stopped, but not everything: see above")

    async def _stop_apps(self) -> None:
        try:
            async with (
                asyncio.timeout(STOP_APPS_S),
                RunnerClient(self._config.socket_path) as runner,
            ):
                await runner.stop()
        except (RunnerError, TimeoutError) as error:
            self._is_tidy = False
            self._say(f"apps could not be stopped in order: {error or 'it took too long'}")

    def _is_adopted(self) -> bool:
        """A gateway that was here before us stays when we could not start."""
        return self._gateway.is_running and not self._listeners

    def _let_go(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        for descriptor in self._parent_pipe or ():
            os.close(descriptor)
        self._parent_pipe = None
        if self._lock is not None:
            self._lock.release()

    async def _trim_logs(self) -> None:
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            for process in (self._pki, self._gateway, self._runner):
                process.trim_log()

    def _supervise(self, name: str, offer: Callable[[], dict[str, int]]) -> Supervised:
        return Supervised(
            name=name,
            config=self._config,
            config_path=self._config.run_dir / EFFECTIVE_NAME,
            offer=offer,
            kept=self._keep_gateway if name == "gateway" else self._keep_parent,
            say=self._say,
            log=self._logs / f"{name}.log" if self._logs is not None else None,
            build=self._build,
        )

    # --- what each process is handed ---------------------------------------------------------

    def _offer_pki(self) -> dict[str, int]:
        return {"seal-fd": open_filled_pipe(self._load_key("pki"))}

    def _offer_runner(self) -> dict[str, int]:
        return {"seal-fd": open_filled_pipe(self._load_key("vault"))}

    def _offer_nothing(self) -> dict[str, int]:
        return {}

    def _keep_parent(self) -> dict[str, int]:
        return {"parent-fd": self._parent_pipe[0]} if self._parent_pipe else {}

    def _keep_gateway(self) -> dict[str, int]:
        self._open_listeners()
        return {f"listen-fd-{name}": found.fileno() for name, found in self._listeners.items()}

    def _open_listeners(self) -> None:
        """Bind what is not bound yet; kept open, so that a restart of the gateway loses no port."""
        for name in ("https", "http"):
            address = getattr(self._config.gateway, name)
            if address is not None and name not in self._listeners:
                self._listeners[name] = open_listener(address, f"gateway.{name}")

    def _load_key(self, purpose: str) -> bytes:
        try:
            return derive_key(load_or_create_master_key(self._config.master_key_path), purpose)
        except (KeystoreError, OSError) as error:
            raise StartError(f"the master key cannot be used: {error}") from None


def open_filled_pipe(content: bytes) -> int:
    """The read end of a pipe that holds `content` (shorter than a pipe's buffer) and its end."""
    reader, writer = os.pipe()
    try:
        os.write(writer, content)
    finally:
        os.close(writer)
    return reader


def build_announcement(config: LockgateConfig, facts: Json) -> list[str]:
    """The lines that say what serves, how it is kept, and what is given up."""
    lines = [f"engine {facts['engine']}, volumes {facts['volume']}"]
    if facts["gives_up"]:
        lines.append(f"this engine gives up: {facts['gives_up']}")
    lines += facts["notes"]
    listening = [f"https on {config.gateway.https}"]
    if config.gateway.http is not None:
        listening.append(f"http on {config.gateway.http}")
    return [*lines, f"listening: {', '.join(listening)}"]


def _find_first(group: BaseExceptionGroup[RunnerError]) -> RunnerError:
    found = group.exceptions[0]
    return _find_first(found) if isinstance(found, BaseExceptionGroup) else found
