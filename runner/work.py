"""One operation's workpiece: what its steps hand to each other.

Invariants: belongs to one operation; nothing in it outlives the operation.
"""

from dataclasses import dataclass

from runner.engines import ContainerSpec, ObservedContainer
from runner.errors import RefusedError
from runner.observed import Standing
from runner.parts import Parts
from runner.port import Report
from runner.spec.model import AppSpec
from runner.store import AppRecord


@dataclass(slots=True)
class Work:
    """`number` is the generation at work, 0 in a removal; `spec` is None only there."""

    app: str
    number: int
    spec: AppSpec | None
    commit: str
    standing: Standing
    report: Report
    env_hash: str = ""
    container: ContainerSpec | None = None
    started: ObservedContainer | None = None

    def need_spec(self) -> AppSpec:
        """The spec; raises `RefusedError` where an operation has none."""
        if self.spec is None:
            raise RefusedError(f"{self.app} was never deployed: run `lockgate deploy` first")
        return self.spec


def need_record(parts: Parts, app: str) -> AppRecord:
    """The app's record as it is now; raises `RefusedError` when it is gone."""
    record = parts.store.load(app)
    if record is None:
        raise RefusedError(f"{app} has no record any more: was it removed meanwhile?")
    return record
