"""An honest engine without containers: it obeys the port's rules and keeps everything in memory.

What a real engine does not allow fails here too: a mount whose source is missing, a second
container of one name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.engines import (
    BuildSpec,
    ContainerSpec,
    ContainerState,
    EngineError,
    EngineFacts,
    EnginePaths,
    LineSink,
    Mount,
    ObservedContainer,
    Tmpfs,
)

FACTS = EngineFacts("fake", "1", "sha256:0", "3.11.2")


@dataclass
class FakeEngine:
    """`build_code` is what builds exit with; `start_error` makes the next start fail."""

    name: str = "fake"
    build_code: int = 0
    start_error: str = ""
    stop_error: str = ""

    def __post_init__(self) -> None:
        self.containers: dict[tuple[str, int], ObservedContainer] = {}
        self.specs: dict[tuple[str, int], ContainerSpec] = {}
        self.builds: list[BuildSpec] = []
        self.stopped: list[tuple[str, int]] = []

    async def check(self) -> EngineFacts:
        return FACTS

    def paths(
        self,
        app: str,
        generation: int,
        slot: int,
        mounts: Sequence[Mount],
        tmpfs: Sequence[Tmpfs],
    ) -> EnginePaths:
        return EnginePaths(
            agent_argv=("agent",),
            agent_identity="/run/lockgate/identity",
            agent_secrets="/run/lockgate/secrets",
            agent_logs="/var/log/lockgate",
            agent_cwd="/app/code",
            agent_home="/tmp/home",
            listen="0.0.0.0:8443",
            app_port=8501,
            code="/app/code",
            venv="/app/venv",
            scratch="/scratch",
            secrets="/run/lockgate/secrets",
            home="/tmp/home",
            tmp="/tmp",
        )

    def locate(self, mounts: Sequence[Mount], target: str) -> str:
        return target

    async def observe(self) -> Sequence[ObservedContainer]:
        return tuple(self.containers.values())

    async def build(self, spec: BuildSpec, on_line: LineSink) -> int:
        self.builds.append(spec)
        on_line("built" if self.build_code == 0 else "error: it does not build")
        return self.build_code

    async def start(self, spec: ContainerSpec) -> ObservedContainer:
        if self.start_error:
            raise EngineError(self.start_error)
        for mount in spec.mounts:
            if not mount.source.exists():
                raise EngineError(f"{mount.source} is missing")
        key = (spec.app, spec.generation)
        if key in self.containers:
            raise EngineError(f"there is a container {key} already")
        address = f"10.201.0.{len(self.specs) + 2}:8443"
        container = ObservedContainer(
            spec.app,
            spec.generation,
            spec.uuid,
            spec.spec_hash,
            ContainerState.running,
            address,
        )
        self.containers[key], self.specs[key] = container, spec
        return container

    async def stop(self, app: str, generation: int, grace_s: float) -> None:
        if self.stop_error:
            raise EngineError(self.stop_error)
        self.stopped.append((app, generation))
        self.containers.pop((app, generation), None)

    async def remove_app(self, app: str) -> None:
        if self.stop_error:
            raise EngineError(self.stop_error)
        for key in [key for key in self.containers if key[0] == app]:
            del self.containers[key]

    async def close(self) -> None:
        pass

    def crash(self, app: str, generation: int, exit_code: int, *, oom: bool = False) -> None:
        """The container's process ends by itself."""
        key = (app, generation)
        self.containers[key] = replace(
            self.containers[key],
            state=ContainerState.exited,
            address=None,
            exit_code=exit_code,
            oom_killed=oom,
        )
