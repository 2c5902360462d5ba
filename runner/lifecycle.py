"""The operations on apps, behind the runner's socket: observe, plan, apply, note what became of it.

Invariants: an operation changes the host only by performing a plan; a deploy that fails leaves the
published generation as it was, and its reason in `status`; the caller (`operations`) sees to it
that an app has one operation at a time.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from runner.actions import Actions, note_failure
from runner.apply import apply, apply_all
from runner.errors import RefusedError, UnknownAppError
from runner.events import (
    AppState,
    AppStatus,
    DeployResult,
    PlanStep,
    RemoveResult,
    RestartResult,
    RunnerFacts,
)
from runner.launch import describe_exit
from runner.observed import Standing
from runner.parts import Parts
from runner.plan import Desired, plan_deploy, plan_recover, plan_remove
from runner.port import Report
from runner.prepare import build_credentials
from runner.publish import observe, publish, set_state
from runner.routing import find_host_owner
from runner.source.fetch import resolve_commit
from runner.spec.model import AppSpec, spec_hash
from runner.steps import Plan
from runner.store import AppRecord
from runner.urls import build_url
from runner.work import Work


class Lifecycle:
    """Deploys, restarts, recovers and removes apps with the given parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def facts(self) -> RunnerFacts:
        """The engine and the volume driver in use."""
        facts = self._parts.facts
        return RunnerFacts(
            pid=os.getpid(),
            engine=f"{facts.name} {facts.version}",
            volume=self._parts.driver.name,
            gives_up=facts.gives_up or "",
            notes=tuple(facts.notes),
        )

    async def plan(self, spec: AppSpec) -> Sequence[PlanStep]:
        """What `deploy` would do."""
        plan, _ = await self._plan(spec)
        return [PlanStep(step.verb.value, step.subject, step.detail) for step in plan.steps]

    async def deploy(self, spec: AppSpec, report: Report) -> DeployResult:
        """Make it so."""
        begun = self._parts.clock()
        plan, work = await self._plan(spec)
        work.report = report
        if plan.is_converged:
            # What failed before was another deploy; nobody asks for that one any more.
            set_state(self._parts, spec.name, AppState.healthy)
            return self._build_result(work, is_changed=False, begun=begun)
        await self._apply(plan, work)
        return self._build_result(work, is_changed=True, begun=begun)

    async def restart(self, app: str, report: Report) -> RestartResult:
        """A new generation of the published commit, from the volume."""
        record = self.find(app)
        refuse_removed(self._parts, record)
        spec = load_spec_of(record)
        standing = await observe(self._parts, app)
        published = standing.published
        if published is None:
            raise RefusedError(f"{app} was never deployed: run `lockgate deploy` first")
        desired = self._desire(spec, published.commit)
        plan = plan_deploy(desired, standing, is_forced=True)
        work = Work(app, standing.next_generation, spec, published.commit, standing, report)
        await self._apply(plan, work)
        return RestartResult(app, work.number, self._build_url(spec))

    async def recover(self, app: str, report: Report) -> RestartResult:
        """Bring the published generation back if it does not serve."""
        record = self.find(app)
        refuse_removed(self._parts, record)
        spec = load_spec_of(record)
        standing = await observe(self._parts, app)
        published = standing.published
        if published is None:
            raise RefusedError(f"{app} was never deployed: run `lockgate deploy` first")
        plan = plan_recover(standing)
        work = Work(app, published.number, spec, published.commit, standing, report)
        work.env_hash = published.env_hash
        if not plan.is_converged:
            reason = await self._note_outage(standing)
            await self._apply(plan, work, f"{reason}starting it again failed")
        return RestartResult(app, published.number, self._build_url(spec))

    async def remove(self, app: str, report: Report) -> RemoveResult:
        """Destroy the app's key, then all there is of it; what fails is told, the rest goes on."""
        self.find(app)
        standing = await observe(self._parts, app)
        work = Work(app, 0, None, "", standing, report)
        actions = Actions(self._parts, work)
        told = await apply_all(
            plan_remove(standing), actions.build_performers(), report, self._parts.clock
        )
        return RemoveResult(app, tuple(told))

    async def status(self, app: str | None) -> Sequence[AppStatus]:
        """One app, or all by name."""
        records = [self.find(app)] if app else self._parts.store.list().apps
        return [self._build_status(record) for record in records]

    def find(self, app: str) -> AppRecord:
        """The app's record; raises `UnknownAppError`."""
        record = self._parts.store.load(app)
        if record is None:
            raise UnknownAppError(
                f"there is no app {app!r}; `lockgate status` lists those there are"
            )
        return record

    async def _note_outage(self, standing: Standing) -> str:
        """Tell visitors and operator what became of the container before it is started anew.

        Returns the beginning of a sentence; empty if nothing is known but that it does not run.
        """
        name, published = standing.name, standing.published
        if published is None or published.number in standing.running:
            return ""
        gone = [c for c in standing.exited if c.generation == published.number]
        reason = describe_exit(gone[0]) if gone else "its container is gone"
        self._parts.addresses.pop((name, published.number), None)
        state = AppState(self.find(name).state)
        if state is AppState.healthy:
            set_state(self._parts, name, AppState.unhealthy, f"{reason}; starting it again")
        elif state is AppState.stopped:
            set_state(self._parts, name, AppState.starting, "Lockgate was started")
        await publish(self._parts)
        return f"{reason}; " if gone or state is AppState.healthy else ""

    async def _plan(self, spec: AppSpec) -> tuple[Plan, Work]:
        taken = find_host_owner(self._parts.store.list().apps, spec.name, spec.hosts)
        if taken is not None:
            raise RefusedError(f"host {taken[0]} belongs to app {taken[1]}: choose another one")
        standing = await observe(self._parts, spec.name)
        refuse_removed(self._parts, standing.record)
        credentials = build_credentials(self._parts, spec.name, spec)
        record = standing.record
        owner = None if record is None else self._parts.find_owners(record).app
        ram_dir = self._parts.handover.root
        commit = await resolve_commit(spec.source, credentials, ram_dir=ram_dir, uid=owner)
        plan = plan_deploy(self._desire(spec, commit), standing)
        work = Work(spec.name, standing.next_generation, spec, commit, standing, _ignore)
        published = standing.published
        if published is not None and all(
            step.generation in (0, published.number) for step in plan.steps
        ):
            work.number, work.env_hash = published.number, published.env_hash
        return plan, work

    async def _apply(self, plan: Plan, work: Work, what: str = "last deploy failed") -> None:
        if work.standing.published is None and work.standing.record is not None:
            set_state(self._parts, work.app, AppState.building)
            await publish(self._parts)
        performers = Actions(self._parts, work).build_performers()
        try:
            await apply(plan, performers, work.report, self._parts.clock)
        except BaseException as error:
            await note_failure(self._parts, work.app, error, what)
            raise

    def _desire(self, spec: AppSpec, commit: str) -> Desired:
        resources = spec.resources
        return Desired(
            name=spec.name,
            spec_hash=spec_hash(spec),
            commit=commit,
            repo=spec.source.repo,
            volume=f"{format_bytes(spec.volume.size)}, {self._parts.driver.name}",
            resources=(
                f"{format_bytes(resources.memory)}, {resources.cpus:g} cores,"
                f" {resources.pids} tasks"
            ),
            hosts=spec.hosts,
        )

    def _build_result(self, work: Work, *, is_changed: bool, begun: float) -> DeployResult:
        record = self.find(work.app)
        published = next(g for g in record.generations if g.state == "published")
        return DeployResult(
            app=work.app,
            generation=published.number,
            commit=published.commit,
            url=self._build_url(load_spec_of(record)),
            is_changed=is_changed,
            seconds=self._parts.clock() - begun,
        )

    def _build_url(self, spec: AppSpec) -> str:
        return build_url(spec.hosts[0], self._parts.config.gateway.https)

    def _build_status(self, record: AppRecord) -> AppStatus:
        published = next((g for g in record.generations if g.state == "published"), None)
        hosts = tuple(record.spec.get("hosts", ()))
        return AppStatus(
            name=record.name,
            state=AppState(record.state),
            generation=published.number if published else 0,
            commit=published.commit if published else "",
            url=build_url(hosts[0], self._parts.config.gateway.https) if hosts else "",
            reason=record.reason,
            since=datetime.fromtimestamp(record.since_s, UTC),
            hosts=hosts,
            engine=self._parts.facts.name,
            volume=self._parts.driver.name,
        )


def refuse_removed(parts: Parts, record: AppRecord | None) -> None:
    """Raises `RefusedError` for an app without keys, which is what a removal has left of it."""
    if record is not None and not parts.vault.has_app(record.uuid):
        raise RefusedError(
            f"{record.name} is being removed: run `lockgate remove {record.name}` to the end"
        )


def load_spec_of(record: AppRecord) -> AppSpec:
    """The spec that was deployed last; raises `RefusedError` for an app that never was."""
    if not record.spec:
        raise RefusedError(f"{record.name} was never deployed: run `lockgate deploy` first")
    try:
        return AppSpec.model_validate(record.spec)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RefusedError(
            f"{record.name} was deployed by another version of Lockgate, whose {key} this one does"
            f" not take ({first['msg']}): deploy it again"
        ) from None


def format_bytes(size: int) -> str:
    """`4 GiB`, `256 MiB`: the largest unit that divides it well."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return (
                f"{size / factor:g} {unit}" if size % factor == 0 else f"{size / factor:.1f} {unit}"
            )
    return f"{size} B"


def _ignore(event: object) -> None:
    pass
