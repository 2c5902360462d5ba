"""The port behind the runner's socket: what can be asked of whoever keeps the apps running.

Invariants: values only; every method raises `RunnerError` (or one of its kinds) with one line for
an operator, and nothing else that a caller is to understand.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from runner.events import (
    AppStatus,
    Check,
    DeployResult,
    Event,
    PlanStep,
    RemoveResult,
    RestartResult,
    RunnerFacts,
)
from runner.spec.model import AppSpec

Report = Callable[[Event], None]


class Deployer(Protocol):
    """Keeps apps as their specs say. `report` never blocks and never raises."""

    def facts(self) -> RunnerFacts:
        """The engine and the volume driver in use."""
        ...

    async def deploy(self, spec: AppSpec, report: Report) -> DeployResult:
        """Make it so; reports `Committed` before visitors can see a change.

        A cancellation before that takes every step back; after it nobody cancels but `stop`.
        """
        ...

    async def plan(self, spec: AppSpec) -> Sequence[PlanStep]:
        """What `deploy` would do; empty when there is nothing to do."""
        ...

    async def status(self, app: str | None) -> Sequence[AppStatus]:
        """One app, or all by name."""
        ...

    async def remove(self, app: str, report: Report) -> RemoveResult:
        """Destroy the app's key, then all there is of it. Not cancelled when the caller leaves."""
        ...

    async def restart(self, app: str, report: Report) -> RestartResult:
        """A fresh process from the same code. Not cancelled when the caller leaves."""
        ...

    def logs(
        self, app: str, *, generation: int | None, lines: int, follow: bool, build: bool
    ) -> AsyncIterator[str]:
        """The last `lines` lines, then what comes if `follow`; of the build if `build`.

        `generation` None means the newest that has such a log.
        """
        ...

    async def set_secret(self, app: str, name: str, value: str) -> None:
        """Seal a value; allowed before the app's first deploy."""
        ...

    async def list_secrets(self, app: str) -> Sequence[str]:
        """Names only, sorted; nothing on the socket ever returns a value."""
        ...

    async def remove_secret(self, app: str, name: str) -> None:
        """Forget a value; `RefusedError` if there is none."""
        ...

    async def doctor(self) -> Sequence[Check]:
        """What the host can do and what is amiss."""
        ...

    async def stop(self) -> None:
        """Stop every app, close every volume, unmount the RAM directory; keep what is desired."""
        ...
