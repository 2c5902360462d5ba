"""Everything that can be asked of the runner, in one place: the `Deployer` behind the socket.

Invariants: nothing is decided here; each question goes to the file that knows the answer.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from runner import doctor, retire
from runner.errors import RefusedError, RunnerError
from runner.events import (
    AppStatus,
    Check,
    DeployResult,
    PlanStep,
    RemoveResult,
    RestartResult,
    RunnerFacts,
)
from runner.launch import build_delivery
from runner.lifecycle import Lifecycle, load_spec_of, refuse_removed
from runner.logs import find_log, read_log
from runner.parts import Parts
from runner.port import Report
from runner.prepare import create_app, find_layout
from runner.spec.model import AppSpec
from runner.store import AppRecord
from runner.supervisor import Supervisor


class Service:
    """Implements `port.Deployer` over the parts."""

    def __init__(self, parts: Parts, lifecycle: Lifecycle, supervisor: Supervisor) -> None:
        self._parts = parts
        self._lifecycle = lifecycle
        self._supervisor = supervisor

    def facts(self) -> RunnerFacts:
        """The engine and the volume driver in use."""
        return self._lifecycle.facts()

    async def deploy(self, spec: AppSpec, report: Report) -> DeployResult:
        """Make it so."""
        result = await self._lifecycle.deploy(spec, report)
        if result.is_changed:
            self._note("deploy", spec.name, generation=result.generation, commit=result.commit)
        return result

    async def plan(self, spec: AppSpec) -> Sequence[PlanStep]:
        """What `deploy` would do."""
        return await self._lifecycle.plan(spec)

    async def status(self, app: str | None) -> Sequence[AppStatus]:
        """One app, or all by name."""
        return await self._lifecycle.status(app)

    async def remove(self, app: str, report: Report) -> RemoveResult:
        """Key first, then everything else."""
        result = await self._lifecycle.remove(app, report)
        self._note("remove", app, removed=list(result.removed))
        return result

    async def restart(self, app: str, report: Report) -> RestartResult:
        """A new generation of the same commit."""
        result = await self._lifecycle.restart(app, report)
        self._note("restart", app, generation=result.generation)
        return result

    async def logs(
        self, app: str, *, generation: int | None, lines: int, follow: bool, build: bool
    ) -> AsyncIterator[str]:
        """The last lines, then what comes if `follow`."""
        layout = await find_layout(self._parts, self._lifecycle.find(app))
        path = find_log(layout, generation, is_build=build)
        async for line in read_log(path, lines, is_followed=follow):
            yield line

    async def set_secret(self, app: str, name: str, value: str) -> None:
        """Seal a value; what runs gets it into its `secrets.toml`, its environment at a restart."""
        # Not in a thread: nothing else makes an app between the look for it and its record.
        record = create_app(self._parts, app)
        refuse_removed(self._parts, record)
        entry = await asyncio.to_thread(self._parts.vault.set_secret, record.uuid, name, value)
        await self._deliver(record)
        self._note("secret set", app, name=name, version=entry.version)

    async def list_secrets(self, app: str) -> Sequence[str]:
        """Names only, sorted."""
        record = self._lifecycle.find(app)
        entries = await asyncio.to_thread(self._parts.vault.list_secrets, record.uuid)
        return [entry.name for entry in entries]

    async def remove_secret(self, app: str, name: str) -> None:
        """Forget a value."""
        record = self._lifecycle.find(app)
        if not await asyncio.to_thread(self._parts.vault.remove_secret, record.uuid, name):
            raise RefusedError(f"{app} has no secret {name}")
        await self._deliver(record)
        self._note("secret removed", app, name=name)

    async def doctor(self) -> Sequence[Check]:
        """What the host can do and what is amiss."""
        return await doctor.examine(self._parts)

    async def stop(self) -> None:
        """Stop every app, lock every volume, unmount the RAM directory."""
        await self._supervisor.halt()
        failures = await retire.stop_all(self._parts)
        if failures:
            raise RunnerError(f"not everything is stopped: {'; '.join(failures)}")

    async def _deliver(self, record: AppRecord) -> None:
        if not record.spec:
            return
        secrets = build_delivery(self._parts, record, load_spec_of(record))
        uid = self._parts.find_owners(record).app
        for generation in record.generations:
            if (record.name, generation.number) in self._parts.addresses:
                await asyncio.to_thread(
                    self._parts.handover.write_secrets,
                    record.name,
                    generation.number,
                    secrets,
                    uid,
                )

    def _note(self, action: str, app: str, **details: object) -> None:
        self._parts.audit.append(action, app, details)
