"""Where things lie on an app's opened volume.

Invariants: paths only, nothing is touched; all of an app that is on a disk lies under `root`.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class VolumeLayout:
    """An app's opened volume; `root` is the encrypted directory."""

    root: Path

    @property
    def generations(self) -> Path:
        """One directory per generation."""
        return self.root / "generations"

    @property
    def environments(self) -> Path:
        """One virtualenv per environment hash."""
        return self.root / "envs"

    @property
    def scratch(self) -> Path:
        """What the app may write."""
        return self.root / "scratch"

    @property
    def logs(self) -> Path:
        """The app's output, written by its agents."""
        return self.root / "logs"

    @property
    def builds(self) -> Path:
        """Build logs, written by the runner."""
        return self.root / "builds"

    def generation(self, number: int) -> Path:
        """What is mounted at `/app`."""
        return self.generations / str(number)

    def code(self, number: int) -> Path:
        """The checked-out commit."""
        return self.generation(number) / "code"

    def environment(self, env_hash: str) -> Path:
        """What is mounted at `/app/venv`."""
        return self.environments / env_hash

    def app_log(self, number: int) -> Path:
        """Output of a generation; older parts have `.1`, `.2` appended."""
        return self.logs / f"app-{number}.log"

    def build_log(self, number: int) -> Path:
        """Output of the build of a generation."""
        return self.builds / f"build-{number}.log"
