"""An honest `Deployer` without engine, volumes or sockets: it keeps what it was told in memory.

Invariants: it obeys the port's rules (unknown apps are errors, `Committed` comes before the change,
a cancellation before it leaves nothing); a spec's `env` steers it: FAIL, SLOW_S, SLOW_AFTER_S.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runner.errors import RefusedError, RunnerError, UnknownAppError
from runner.events import (
    AppState,
    AppStatus,
    Check,
    Committed,
    DeployResult,
    Line,
    PlanStep,
    RemoveResult,
    RestartResult,
    RunnerFacts,
    Step,
    StepState,
)
from runner.port import Report
from runner.spec.model import AppSpec, spec_hash

SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMIT = "4f2a9c1be0d37a5518c6f3b2a1900d7e6c5b4a39"


@dataclass
class FakeApp:
    """What the fake keeps of an app."""

    spec: AppSpec | None = None
    generation: int = 0
    secrets: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)


class FakeDeployer:
    """See the module."""

    def __init__(self) -> None:
        self.apps: dict[str, FakeApp] = {}
        self.cancelled: list[str] = []
        self.is_stopped = False
        self.lines_added = asyncio.Event()

    def facts(self) -> RunnerFacts:
        return RunnerFacts(1, "fake", "tmpfs", gives_up="everything: it is a fake")

    async def deploy(self, spec: AppSpec, report: Report) -> DeployResult:
        known = self.apps.get(spec.name)
        if known and known.spec and spec_hash(known.spec) == spec_hash(spec):
            return self._build_result(spec, known.generation, is_changed=False)
        report(Step("open volume", StepState.start))
        report(Step("open volume", StepState.done, 0.21))
        try:
            await self._build(spec, report)
        except asyncio.CancelledError:
            self.cancelled.append(spec.name)
            raise
        report(Committed())
        report(Step("publish", StepState.start))
        await asyncio.sleep(float(spec.env.get("SLOW_AFTER_S", "0")))
        app = self.apps.setdefault(spec.name, FakeApp())
        app.spec, app.generation = spec, app.generation + 1
        app.log += [f"generation {app.generation} started"]
        report(Step("publish", StepState.done, 0.04))
        return self._build_result(spec, app.generation, is_changed=True)

    async def _build(self, spec: AppSpec, report: Report) -> None:
        report(Step("build environment", StepState.start))
        report(Line("Resolved 41 packages in 1.2s"))
        await asyncio.sleep(float(spec.env.get("SLOW_S", "0")))
        if "REFUSE" in spec.env:
            raise RefusedError(spec.env["REFUSE"])
        if "BREAK" in spec.env:
            raise ZeroDivisionError(spec.env["BREAK"])
        if "FAIL" in spec.env:
            report(Step("build environment", StepState.failed, 1.5, spec.env["FAIL"]))
            raise RunnerError(
                spec.env["FAIL"], log_tail=("line one", "line two"), log_path="/logs/build-1.log"
            )
        report(Step("build environment", StepState.skipped, detail="unchanged since generation 1"))

    def _build_result(self, spec: AppSpec, generation: int, *, is_changed: bool) -> DeployResult:
        url = f"https://{spec.hosts[0]}:8443"
        return DeployResult(spec.name, generation, COMMIT, url, is_changed, 3.25)

    async def plan(self, spec: AppSpec) -> Sequence[PlanStep]:
        known = self.apps.get(spec.name)
        if known and known.spec and spec_hash(known.spec) == spec_hash(spec):
            return []
        return [
            PlanStep("open volume", spec.name, "4GiB, fscrypt"),
            PlanStep("fetch source", f"{spec.name}/1", spec.source.repo),
            PlanStep("publish", f"{spec.name}/1", spec.hosts[0]),
        ]

    async def status(self, app: str | None) -> Sequence[AppStatus]:
        if app is not None and app not in self.apps:
            raise UnknownAppError(f"there is no app named {app}")
        names = sorted(self.apps) if app is None else [app]
        return [self._build_status(name) for name in names]

    def _build_status(self, name: str) -> AppStatus:
        app = self.apps[name]
        state = AppState.healthy if app.spec else AppState.stopped
        host = app.spec.hosts[0] if app.spec else f"{name}.localhost"
        return AppStatus(
            name, state, app.generation, COMMIT, f"https://{host}:8443", "answers", SINCE, (host,)
        )

    async def remove(self, app: str, report: Report) -> RemoveResult:
        await self.status(app)
        report(Step("destroy key", StepState.start))
        await asyncio.sleep(0.05)
        del self.apps[app]
        report(Step("destroy key", StepState.done, 0.01))
        return RemoveResult(app, ("key", "container", "volume"))

    async def restart(self, app: str, report: Report) -> RestartResult:
        (known,) = await self.status(app)
        report(Step("start container", StepState.done, 0.3))
        return RestartResult(app, known.generation, known.url)

    async def logs(
        self, app: str, *, generation: int | None, lines: int, follow: bool, build: bool
    ) -> AsyncIterator[str]:
        known = self.apps[app]
        if generation is not None and generation > known.generation:
            raise RunnerError(f"{app} has no generation {generation}")
        seen = 0 if build else max(0, len(known.log) - lines)
        for line in ["built"] if build else known.log[seen:]:
            seen += 1
            yield line
        while follow:
            await self.lines_added.wait()
            self.lines_added.clear()
            for line in known.log[seen:]:
                seen += 1
                yield line

    async def set_secret(self, app: str, name: str, value: str) -> None:
        self.apps.setdefault(app, FakeApp()).secrets[name] = value

    async def list_secrets(self, app: str) -> Sequence[str]:
        await self.status(app)
        return sorted(self.apps[app].secrets)

    async def remove_secret(self, app: str, name: str) -> None:
        await self.status(app)
        if self.apps[app].secrets.pop(name, None) is None:
            raise RefusedError(f"{app} has no secret {name}")

    async def doctor(self) -> Sequence[Check]:
        return [
            Check("engine", True, "fake 1.0"),
            Check("swap", False, "swap is on, unencrypted", "turn it off: swapoff -a"),
        ]

    async def stop(self) -> None:
        self.is_stopped = True
        if "slow" in self.apps:
            await asyncio.sleep(600)
        if "stuck" in self.apps:
            raise RunnerError("the volume of stuck is still held")
