"""Git repositories that tests deploy from.

Invariants: made with the real git in a given folder; no identity or setting of the machine's user
takes part.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROBE_APP = Path(__file__).parent / "apps" / "probe"
HELLO_APP = Path(__file__).parents[2] / "configs" / "examples" / "hello"

GIT_ENV = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository with a work tree at `path`."""

    path: Path

    def git(self, *words: str) -> str:
        """Run git in the work tree; returns what it printed."""
        argv = ("git", "-C", str(self.path), *words)
        env = os.environ | GIT_ENV
        return subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout

    def commit(self, files: Mapping[str, str | bytes], message: str = "Change") -> str:
        """Write the files and commit everything; returns the commit."""
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()


def make_repo(path: Path, tree: Path | None = None) -> Repo:
    """A new repository; with `tree`, its first commit has that folder's files."""
    path.mkdir(parents=True)
    repo = Repo(path)
    repo.git("init", "--quiet", "--initial-branch", "main")
    if tree is not None:
        shutil.copytree(
            tree, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
        )
        repo.commit({})
    return repo


def build_probe_spec(name: str, repo: Repo, **more: Any) -> dict[str, Any]:
    """The YAML of a probe app; small, so that its deploys are quick."""
    return {
        "name": name,
        "hosts": [f"{name}.localhost"],
        "source": {"repo": str(repo.path)},
        "command": ["python", "app.py", "{port}"],
        "resources": {"memory": "256MiB", "pids": 64},
        "volume": {"size": "128MiB"},
        "temp": {"size": "16MiB"},
        **more,
    }


def build_hello_spec(repo: Repo, name: str = "hello", **more: Any) -> dict[str, Any]:
    """The YAML of the demo app."""
    return {
        "name": name,
        "hosts": [f"{name}.localhost"],
        "source": {"repo": str(repo.path)},
        "entrypoint": "app.py",
        **more,
    }
