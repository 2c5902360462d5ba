"""The directories of one generation, furnished as the runner furnishes them, for tests of engines.

Invariants: everything lies below the given folder, which all uids can pass through; owners and
modes are those of a deploy.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.engines import (
    ContainerSpec,
    Engine,
    EnginePaths,
    Mount,
    Places,
    Resources,
    Tmpfs,
    build_mounts,
)
from tests.support.agent import Authority

AGENT = Path(__file__).parents[2] / "runner" / "agent"
MIB = 1024 * 1024
AUTHORITY = Authority()
RAM = (Tmpfs("/tmp", 4 * MIB), Tmpfs("/var/tmp", MIB), Tmpfs("/dev/shm", MIB))


@dataclass
class Stage:
    """Generation `generation` of `app`; `uid_base` None where nobody may change uid."""

    folder: Path
    uid_base: int | None
    app: str = "hello"
    generation: int = 1
    slot: int = 0
    mounts: Sequence[Mount] = field(init=False)

    def __post_init__(self) -> None:
        volume = self.folder / self.app
        ram = self.folder / "ram" / self.app / str(self.generation)
        places = Places(
            agent=AGENT,
            generation=volume / "generations" / str(self.generation),
            environment=volume / "envs" / "ab",
            scratch=volume / "scratch",
            logs=volume / "logs",
            identity=ram / "identity",
            secrets=ram / "secrets",
        )
        self.places = places
        for path in (places.generation / "code", places.generation / "venv", places.environment):
            path.mkdir(parents=True, exist_ok=True)
        for path, uid in (
            (places.scratch, self.app_uid),
            (places.logs, self.agent_uid),
            (places.identity, self.agent_uid),
            (places.secrets, self.app_uid),
        ):
            path.mkdir(parents=True, exist_ok=True)
            own(path, uid)
            path.chmod(0o700)
        self.mounts = build_mounts(places)

    @property
    def agent_uid(self) -> int | None:
        """The agent's uid on the host."""
        return None if self.uid_base is None else self.uid_base + 2 * self.slot

    @property
    def app_uid(self) -> int | None:
        """The app's uid on the host."""
        return None if self.agent_uid is None else self.agent_uid + 1

    @property
    def log(self) -> Path:
        """Where the agent writes the app's output."""
        return self.places.logs / f"app-{self.generation}.log"

    def write_code(self, text: str) -> None:
        """Make this the app."""
        (self.places.generation / "code" / "app.py").write_text(text)

    def write_secrets(self, **secrets: str) -> None:
        """What the app gets as environment."""
        path = self.places.secrets / "env.json"
        path.write_text(json.dumps(secrets))
        own(path, self.app_uid)
        path.chmod(0o400)

    def furnish(self, engine: Engine, *argv: str, **changes: object) -> ContainerSpec:
        """Identity and agent.json for the app `argv` (`{port}`), and what to start."""
        paths = engine.paths(self.app, self.generation, self.slot, self.mounts, RAM)
        command = [word.replace("{port}", str(paths.app_port)) for word in argv]
        settings = build_settings(paths, command, f"app-{self.generation}.log") | changes
        uri = f"spiffe://lockgate.internal/app/{self.app}/{self.generation}"
        chain, key = AUTHORITY.issue(uri, dns=f"{self.app}.apps.lockgate.internal")
        for name, text in (
            ("tls.crt", chain),
            ("tls.key", key),
            ("ca.crt", AUTHORITY.root_pem),
            ("agent.json", json.dumps(settings).encode()),
        ):
            path = self.places.identity / name
            path.unlink(missing_ok=True)
            path.write_bytes(text)
            own(path, self.agent_uid)
            path.chmod(0o400)
        return ContainerSpec(
            app=self.app,
            generation=self.generation,
            uuid="ab" * 16,
            slot=self.slot,
            spec_hash="cafe",
            argv=paths.agent_argv,
            mounts=self.mounts,
            tmpfs=RAM,
            resources=Resources(256 * MIB, 1.0, 64),
        )


def build_settings(paths: EnginePaths, argv: list[str], log: str) -> dict[str, object]:
    """agent.json as the runner writes it."""
    return {
        "listen": paths.listen,
        "app_port": paths.app_port,
        "argv": argv,
        "cwd": paths.agent_cwd,
        "env": {"HOME": paths.home, "TMPDIR": paths.tmp, "SCRATCH": paths.scratch},
        "agent_uid": paths.agent_uid,
        "app_uid": paths.app_uid,
        "identity_dir": paths.agent_identity,
        "secrets_dir": paths.agent_secrets,
        "log_path": f"{paths.agent_logs}/{log}",
        "log_max_bytes": MIB,
        "log_files": 2,
        "peer_prefix": "spiffe://lockgate.internal/gateway/",
        "home": paths.agent_home,
        "grace_s": 2,
        "sandbox_argv": list(paths.sandbox_argv),
    }


def own(path: Path, uid: int | None) -> None:
    """Give a path to a uid, where that is possible."""
    if uid is not None:
        os.chown(path, uid, uid)
