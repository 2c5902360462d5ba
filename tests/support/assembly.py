"""The runner's rooms put together over fakes of engine, gateway and PKI; the rest is real.

Invariants: time stands still unless a test moves it; a repository, records, vault and volume are
real files in the test's own folder.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gateway import GatewayClient
from pki import PkiClient
from runner.audit import Audit
from runner.config import load_config
from runner.events import Event, Line, Step
from runner.handover.directory import Handover
from runner.lifecycle import Lifecycle
from runner.operations import Operations
from runner.parts import Parts
from runner.service import Service
from runner.spec.model import AppSpec
from runner.store import AppRecord, Store
from runner.supervisor import Supervisor
from runner.vault import Vault
from runner.volumes.plain import PlainDriver
from tests.fakes.engine import FACTS, FakeEngine
from tests.fakes.gateway import FakeGateway
from tests.fakes.pki import FakePki
from tests.support.repos import Repo, make_repo

START_S = 1_767_225_600.0  # 2026-01-01T00:00:00Z, the fake PKI's own beginning


@dataclass
class Assembly:
    """`now_s` is added to both clocks."""

    parts: Parts
    engine: FakeEngine
    gateway: FakeGateway
    pki: FakePki
    lifecycle: Lifecycle
    repo: Repo
    now_s: float = 0.0
    events: list[Event] = field(default_factory=list)
    operations: Operations = field(default_factory=Operations)

    def build_supervisor(self) -> Supervisor:
        return Supervisor(self.parts, self.lifecycle, self.operations)

    def build_service(self) -> Service:
        return Service(self.parts, self.lifecycle, self.build_supervisor())

    def build_spec(self, name: str = "hello", **changes: Any) -> AppSpec:
        values: dict[str, Any] = {
            "name": name,
            "hosts": [f"{name}.localhost"],
            "source": {"repo": str(self.repo.path)},
            "entrypoint": "app.py",
            "health": {"timeout": "200ms"},
            **changes,
        }
        return AppSpec.model_validate(values)

    def need_record(self, name: str = "hello") -> AppRecord:
        record = self.parts.store.load(name)
        assert record is not None
        return record

    def list_steps(self, *states: str) -> list[str]:
        """The names of the steps that got into one of the states."""
        return [e.name for e in self.events if isinstance(e, Step) and e.state.value in states]

    def list_lines(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Line)]

    def read_secrets(self, app: str, number: int) -> dict[str, str]:
        path = self.parts.handover.secrets_dir(app, number) / "env.json"
        values = json.loads(path.read_bytes())
        assert isinstance(values, dict)
        return values


def assemble(folder: Path, files: Iterable[tuple[str, str]] = ()) -> Assembly:
    """Everything in `folder`; the repository has an app and the given files."""
    repo = make_repo(folder / "repo")
    repo.commit({"app.py": "print('hello')\n", "requirements.txt": "", **dict(files)})
    config_path = folder / "lockgate.yaml"
    config_path.write_text(f"state_dir: {folder}/state\nrun_dir: {folder}/run\n")
    for name in ("state", "run", "run/volumes", "run/ram", "agent"):
        (folder / name).mkdir(parents=True)
    config = load_config(config_path)
    engine, gateway, pki = FakeEngine(), FakeGateway(), FakePki()
    gateway.is_registered = pki.has_host
    holder: list[Assembly] = []
    parts = Parts(
        config=config,
        engine=engine,
        facts=FACTS,
        driver=PlainDriver(folder / "state" / "volumes"),
        vault=Vault(folder / "state" / "vault", bytes(32)),
        handover=Handover(folder / "run" / "ram", is_mount=False),
        store=Store(folder / "state" / "apps"),
        pki=cast(PkiClient, pki),
        gateway=cast(GatewayClient, gateway),
        audit=Audit(folder / "state" / "audit.jsonl"),
        wall_clock=lambda: START_S + holder[0].now_s,
        clock=lambda: holder[0].now_s + next_tick(),
        agent_dir=folder / "agent",
    )
    holder.append(Assembly(parts, engine, gateway, pki, Lifecycle(parts), repo))
    return holder[0]


_ticks = iter(range(10**9))


def next_tick() -> float:
    """Monotonic time that creeps on by itself, so that waiting loops end."""
    return next(_ticks) * 0.01
