"""The parts that a runner works with, put together once at its start.

Invariants: a bundle of ports and nothing more; no part is replaced while the runner runs. What is
remembered beside them, `addresses` and `leaves` by (app, generation), can be had again at any time
from the engine and by issuing anew.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from gateway import GatewayClient, GatewayError
from pki import PkiClient, PkiError
from runner.audit import Audit
from runner.config import LockgateConfig
from runner.engines import Engine, EngineFacts
from runner.errors import RunnerError
from runner.handover.directory import Handover
from runner.store import AppRecord, Store
from runner.vault import Vault
from runner.volumes import VolumeDriver


@contextmanager
def translate() -> Iterator[None]:
    """Make errors of the other two processes and of the system the runner's own, as one line."""
    try:
        yield
    except (GatewayError, PkiError) as error:
        raise RunnerError(str(error)) from error
    except OSError as error:
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        raise RunnerError(f"{error.filename}: {reason}" if error.filename else reason) from error


@dataclass(frozen=True, slots=True)
class Owners:
    """The uids of an app's agent and of the app; None where everything runs as one user."""

    agent: int | None
    app: int | None


@dataclass(slots=True)
class Parts:
    """`wall_clock` is Unix time, `clock` counts seconds; `table_version` is the last published.

    `agent_dir` is the agent's code, where every uid may read it. `leaves`: not before, not after.
    """

    config: LockgateConfig
    engine: Engine
    facts: EngineFacts
    driver: VolumeDriver
    vault: Vault
    handover: Handover
    store: Store
    pki: PkiClient
    gateway: GatewayClient
    audit: Audit
    wall_clock: Callable[[], float]
    clock: Callable[[], float]
    agent_dir: Path
    addresses: dict[tuple[str, int], str] = field(default_factory=dict)
    leaves: dict[tuple[str, int], tuple[datetime, datetime]] = field(default_factory=dict)
    table_version: int = 0

    def find_owners(self, record: AppRecord) -> Owners:
        """The app's pair of uids, by its slot; none unless we are root."""
        if os.geteuid() != 0:
            return Owners(None, None)
        first = self.config.engine.uid_base + 2 * record.slot
        return Owners(agent=first, app=first + 1)

    def mountpoint(self, name: str) -> Path:
        """Where the app's volume is opened."""
        return self.config.run_dir / "volumes" / name
