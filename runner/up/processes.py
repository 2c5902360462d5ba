"""One supervised process: started with what it needs on inherited descriptors, waited for, watched.

**Invariants**: a key is handed over on a pipe, never by argv, environment or file; a process counts
as started when its socket answers, not when it exists; one that dies is started again, later each
time, and every such event is one line.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway import GatewayClient, GatewayError
from pki import PkiClient, PkiError
from runner.client import RunnerClient
from runner.config import LockgateConfig
from runner.errors import RunnerError, StartError
from runner.host import Child, HostError, describe_code, spawn
from runner.up.adopt import Adopted

MODULES = {"pki": ("pki",), "gateway": ("gateway",), "runner": ("runner", "serve")}
FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S = 0.5, 30.0, 60.0
POLL_S = 0.05
QUICK_S, LONG_S = 30.0, 900.0
LOG_LIMIT_BYTES = 16 * 1024**2

Say = Callable[[str], None]
BuildArgv = Callable[[str, Path, Mapping[str, int]], list[str]]


def build_argv(name: str, config_path: Path, descriptors: Mapping[str, int]) -> list[str]:
    """The command line of a process of ours, in this very interpreter, blind to the cwd."""
    argv = [sys.executable, "-P", "-m", *MODULES[name], "--config", str(config_path)]
    for option, descriptor in descriptors.items():
        argv += [f"--{option}", str(descriptor)]
    return argv


@dataclass
class Supervised:
    """A process by name; `offer` opens the descriptors of one start, closed again afterwards.

    `kept` names descriptors that stay open over restarts. `log` None: output goes where ours does.
    """

    name: str
    config: LockgateConfig
    config_path: Path
    offer: Callable[[], dict[str, int]]
    kept: Callable[[], dict[str, int]]
    say: Say
    log: Path | None = None
    build: BuildArgv = build_argv
    patience_s: float = QUICK_S
    running: Child | Adopted | None = field(default=None)

    async def start(self) -> None:
        """Start it and wait until it answers; raises `StartError`."""
        offered, kept = self.offer(), self.kept()
        descriptors = {**offered, **kept}
        if self.log is not None:
            self.log.unlink(missing_ok=True)
        try:
            argv = self.build(self.name, self.config_path, descriptors)
            self.running = await spawn(
                argv, stdout=self.log, pass_fds=tuple(descriptors.values()), cwd="/"
            )
        except HostError as error:
            raise StartError(f"{self.name}: {error}") from None
        finally:
            for descriptor in offered.values():
                os.close(descriptor)
        await self._await_answer(self.running)

    async def keep(self) -> None:
        """Start it again whenever it ends, until cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = time.monotonic()
            ended = await self._await_end()
            if time.monotonic() - began_s > STEADY_S:
                pause_s = FIRST_PAUSE_S
            self.say(f"{self.name} ended ({ended}), starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                await self.start()
                self.say(f"{self.name} is back")
            except StartError as error:
                self.say(str(error))

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s` seconds."""
        if self.running is not None and self.running.is_running:
            await self.running.terminate(grace_s)
            self._remove_socket()

    def kill(self) -> None:
        """SIGKILL."""
        if self.running is not None:
            self.running.kill()

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.running is not None and self.running.is_running

    def trim_log(self) -> None:
        """Empty a log that has grown past its limit (its writers append)."""
        if self.log is None or not self.log.exists():
            return
        if self.log.stat().st_size > LOG_LIMIT_BYTES:
            os.truncate(self.log, 0)

    def _remove_socket(self) -> None:
        """What a process that gave up root could not remove itself."""
        (self.config.run_dir / f"{self.name}.sock").unlink(missing_ok=True)

    async def _await_end(self) -> str:
        if self.running is None:
            return "it did not start"
        code = await self.running.wait()
        return "left by a former run" if isinstance(self.running, Adopted) else describe_code(code)

    async def _await_answer(self, child: Child) -> None:
        deadline_s = time.monotonic() + self.patience_s
        while not await answers(self.name, self.config):
            if not child.is_running:
                code = describe_code(await child.wait())
                raise StartError(f"{self.name} does not start ({code}){self._quote_end()}")
            if time.monotonic() > deadline_s:
                await child.terminate(1.0)
                raise StartError(
                    f"{self.name} did not answer within {self.patience_s:g} s{self._quote_end()}"
                )
            await asyncio.sleep(POLL_S)

    def _quote_end(self) -> str:
        """The last line it wrote, as the end of a message."""
        if self.log is None or not self.log.exists():
            return "; its own words are above"
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()}" if lines else ""


async def answers(name: str, config: LockgateConfig) -> bool:
    """Whether the process's socket gives an answer now."""
    ask: dict[str, Callable[[LockgateConfig], Awaitable[object]]] = {
        "pki": _ask_pki,
        "gateway": _ask_gateway,
        "runner": _ask_runner,
    }
    if not (config.run_dir / f"{name}.sock").exists():
        return False
    try:
        await ask[name](config)
    except (PkiError, GatewayError, RunnerError, OSError):
        return False
    return True


async def _ask_pki(config: LockgateConfig) -> object:
    async with PkiClient(config.pki_socket_path) as client:
        return await client.fetch_status()


async def _ask_gateway(config: LockgateConfig) -> object:
    async with GatewayClient(config.gateway_socket_path, timeout_s=5.0) as client:
        return await client.fetch_status()


async def _ask_runner(config: LockgateConfig) -> object:
    async with RunnerClient(config.socket_path) as client:
        return await client.fetch_facts()
