"""The engine port: what Lockgate asks of anything that can run a container.

Invariants: values only, no I/O here; an engine knows nothing of specs, secrets, routes or keys;
an engine never chooses a mount, a uid or a limit by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from runner.errors import RunnerError

LineSink = Callable[[str], None]

AGENT = "/lockgate/agent"
UV = "/lockgate/uv"
CA_BUNDLE = "/lockgate/ca.crt"
IDENTITY = "/run/lockgate/identity"
SECRETS = "/run/lockgate/secrets"
APP = "/app"
CODE = "/app/code"
VENV = "/app/venv"
SCRATCH = "/scratch"
LOGS = "/var/log/lockgate"
# Inside a container these three are private, size-capped RAM directories.
TMP = "/tmp"  # noqa: S108
HOME = "/tmp/home"  # noqa: S108
SHM = "/dev/shm"  # noqa: S108

TIMED_OUT = 124


class EngineError(RunnerError):
    """The engine refused or could not be reached; the text is one line for an operator."""


class ContainerState(Enum):
    """What the engine says of a container."""

    running = "running"
    exited = "exited"


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind of an existing host path; a missing `source` is an error, never created."""

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
class Places:
    """Host directories of one generation, all there before `start`.

    `generation` holds `code/` and an empty `venv/`, over which `environment` is mounted.
    """

    agent: Path
    generation: Path
    environment: Path
    scratch: Path
    logs: Path
    identity: Path
    secrets: Path


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """What agent.json and the app's command line must say for a generation on this engine.

    `agent_*` are as the agent sees them, the others as the app does; the two differ where only the
    app is boxed. A uid of None means: stay who you are. `sandbox_argv` goes before the app's argv.
    """

    agent_argv: tuple[str, ...]
    agent_identity: str
    agent_secrets: str
    agent_logs: str
    agent_cwd: str
    agent_home: str
    listen: str
    app_port: int
    code: str
    venv: str
    scratch: str
    secrets: str
    home: str
    tmp: str
    sandbox_argv: tuple[str, ...] = ()
    agent_uid: int | None = None
    app_uid: int | None = None


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
    """Answer to a successful check.

    `image_id` enters environment hashes; `python` is the version in the image (`3.11.2`) and
    `python_path` where it is; `gives_up` names lost isolation, `notes` what else to know.
    """

    name: str
    version: str
    image_id: str
    python: str
    gives_up: str | None = None
    notes: Sequence[str] = field(default=())
    python_path: str = "python3"


class Engine(Protocol):
    """Anything that runs containers. Every method raises `EngineError` on failure."""

    name: str

    async def check(self) -> EngineFacts:
        """Reach the engine and make the base image ready (may pull or build it)."""
        ...

    def paths(
        self, app: str, generation: int, slot: int, mounts: Sequence[Mount], tmpfs: Sequence[Tmpfs]
    ) -> EnginePaths:
        """Where agent and app of this generation will find what; ask anew before each start."""
        ...

    def locate(self, mounts: Sequence[Mount], target: str) -> str:
        """The path under which a program in a container with these mounts finds `target`."""
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


def build_mounts(places: Places) -> tuple[Mount, ...]:
    """The binds of an app container; only scratch and logs are writable."""
    return (
        Mount(places.agent, AGENT),
        Mount(places.generation, APP),
        Mount(places.environment, VENV),
        Mount(places.scratch, SCRATCH, is_writable=True),
        Mount(places.logs, LOGS, is_writable=True),
        Mount(places.identity, IDENTITY),
        Mount(places.secrets, SECRETS),
    )
