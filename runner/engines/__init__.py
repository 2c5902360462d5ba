"""The engine port: what Lockgate asks of anything that can run a container.

Invariants: values only, no I/O here; an engine knows nothing of specs, secrets, routes or keys;
an engine never chooses a mount, a uid or a limit by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

LineSink = Callable[[str], None]


class EngineError(Exception):
    """The engine refused or could not be reached; the text is one line for an operator."""


class ContainerState(Enum):
    """What the engine says of a container."""

    running = "running"
    exited = "exited"


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind of an existing host directory; a missing `source` is an error, never created."""

    source: Path
    target: str
    is_writable: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A size-capped RAM directory."""

    target: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits: bytes of memory (no swap on top), cores, tasks."""

    memory_bytes: int
    cpus: float
    pids: int


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A generation of an app as an engine must run it.

    `argv` is the agent's command line. The container starts as uid 0 holding nothing but SETUID,
    SETGID and KILL; the agent gives up uid 0 before it reads a byte.
    """

    app: str
    generation: int
    uuid: str
    slot: int
    spec_hash: str
    argv: Sequence[str]
    mounts: Sequence[Mount]
    tmpfs: Sequence[Tmpfs]
    resources: Resources


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """A throw-away container that builds an environment as the app's uid, with outbound network."""

    app: str
    uuid: str
    slot: int
    argv: Sequence[str]
    env: dict[str, str]
    mounts: Sequence[Mount]
    tmpfs: Sequence[Tmpfs]
    resources: Resources
    uid: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """What the engine holds: `address` is what the gateway dials (`host:port` or `unix:path`)."""

    app: str
    generation: int
    uuid: str
    spec_hash: str
    state: ContainerState
    address: str | None
    exit_code: int | None = None
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Answer to a successful check: `image_id` enters environment hashes; `gives_up` names lost isolation."""

    name: str
    version: str
    image_id: str
    python: str
    gives_up: str | None = None
    notes: Sequence[str] = field(default=())


class Engine(Protocol):
    """Anything that runs containers. Every method raises `EngineError` on failure."""

    name: str

    async def check(self) -> EngineFacts:
        """Reach the engine and make the base image ready (may pull or build it)."""
        ...

    async def observe(self) -> Sequence[ObservedContainer]:
        """Every app container of this installation, running or exited."""
        ...

    async def build(self, spec: BuildSpec, on_line: LineSink) -> int:
        """Run to the end, pass each output line on; return the exit code (124 = timed out)."""
        ...

    async def start(self, spec: ContainerSpec) -> ObservedContainer:
        """Create and start; on failure leaves nothing behind."""
        ...

    async def stop(self, app: str, generation: int, grace_s: float) -> None:
        """SIGTERM, wait `grace_s`, SIGKILL, remove. A container that is not there is no error."""
        ...

    async def remove_app(self, app: str) -> None:
        """Remove every container and network of the app. Nothing there is no error."""
        ...

    async def close(self) -> None:
        """Let go of the connection to the engine; containers go on."""
        ...
