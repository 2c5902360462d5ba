"""`lockgate demo`: where its files go, what it is configured with, what it tells people.

**Invariants**: nothing of an installed Lockgate is read or touched; visitors can come from this
machine only; the demo app comes from a Git repository, as every app does.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pki import load_document
from runner.config import LockgateConfig, load_config, save_config
from runner.errors import StartError
from runner.host import HostError, run_checked
from runner.up.claim import prepare_dir
from runner.up.ports import is_free

HTTPS, HTTP = "127.0.0.1:8443", "127.0.0.1:8080"
CHECKOUT = Path(__file__).parents[2]
SPEC = Path("configs/apps/hello.yaml")
EXAMPLE = Path("configs/examples/hello")
GIT_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """`root` holds what the demo keeps; `run_dir` is short enough for the paths of its sockets."""

    root: Path
    run_dir: Path

    @property
    def config_path(self) -> Path:
        """The configuration for other commands, such as `lockgate status`."""
        return self.root / "lockgate.yaml"

    @property
    def root_path(self) -> Path:
        """The certificate to trust."""
        return self.root / "root.pem"


def pick_place(env: Mapping[str, str], uid: int, checkout: Path = CHECKOUT) -> Place:
    """`.demo` in the checkout where all our processes can enter it, else the user's state."""
    runtime = env.get("XDG_RUNTIME_DIR")
    if uid == 0:
        run_dir = Path("/run/lockgate-demo")
    elif runtime:
        run_dir = Path(runtime, "lockgate-demo")
    else:
        run_dir = Path(f"/tmp/lockgate-demo-{uid}")  # noqa: S108 - its owner is checked before use
    if os.access(checkout, os.W_OK) and (uid != 0 or _can_others_enter(checkout)):
        return Place(checkout / ".demo", run_dir)
    if uid == 0:
        return Place(Path("/var/lib/lockgate-demo"), run_dir)
    state = env.get("XDG_STATE_HOME") or f"{env.get('HOME', '/')}/.local/state"
    return Place(Path(state, "lockgate-demo"), run_dir)


def _can_others_enter(folder: Path) -> bool:
    """As root the pki gives root up and still has to reach its files."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def build_demo_config(place: Place, env: Mapping[str, str]) -> LockgateConfig:
    """Built-in defaults in directories of its own, on loopback; saved for other commands."""
    prepare_dir(place.root, 0o711 if os.geteuid() == 0 else 0o700)
    dirs = {
        "LOCKGATE_STATE_DIR": str(place.root / "state"),
        "LOCKGATE_RUN_DIR": str(place.run_dir),
    }
    config = load_config(None, env={**env, **dirs})
    addresses = {"https": HTTPS, "http": HTTP if is_free(HTTP) else None}
    config = config.model_copy(update={"gateway": config.gateway.model_copy(update=addresses)})
    save_config(config, place.config_path)
    return config


async def find_demo_spec(place: Place, checkout: Path = CHECKOUT) -> Path:
    """The demo app's YAML; raises `StartError` where there is no source tree.

    A source tree without Git history gets a repository of its own for the example, because apps
    come from repositories.
    """
    spec_path = checkout / SPEC
    if not spec_path.exists() or not (checkout / EXAMPLE).is_dir():
        raise StartError(
            "the demo app is part of Lockgate's source tree, which is not here: "
            "run `make demo` in a clone"
        )
    if (checkout / ".git").exists():
        return spec_path
    repo = place.root / "hello"
    shutil.rmtree(repo, ignore_errors=True)
    shutil.copytree(checkout / EXAMPLE, repo)
    await _commit_all(repo)
    document = load_document(spec_path)
    return _write_spec(place.root / "hello.yaml", document.value, repo)


async def _commit_all(repo: Path) -> None:
    """Make the folder a repository with one commit."""
    who = ["-c", "user.name=Lockgate demo", "-c", "user.email=demo@localhost"]
    git = ["git", "-C", str(repo), *who, "-c", "commit.gpgsign=false"]
    env = {"HOME": str(repo.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    try:
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Demo app"]):
            await run_checked([*git, *words], deadline_s=GIT_DEADLINE_S, env=env)
    except HostError as error:
        raise StartError(f"the demo's repository cannot be made: {error}") from None


def _write_spec(path: Path, written: object, repo: Path) -> Path:
    """The example's YAML with another repository."""
    spec = {**(written if isinstance(written, dict) else {}), "source": {"repo": str(repo)}}
    path.write_text(json.dumps(spec, indent=2) + "\n")
    return path


def describe_trust(place: Place, root_pem: bytes, url: str) -> list[str]:
    """Save the root certificate and say how to trust it, and how to look at the demo."""
    place.root_path.write_bytes(root_pem)
    return [
        "",
        "Its certificate comes from Lockgate's own root, which no browser knows yet:",
        f"  {place.root_path}",
        "  import it as an authority for websites, or accept the browser's warning, or",
        f"  curl --cacert {place.root_path} {url}",
        f"In another terminal: lockgate --config {place.config_path} status",
        "",
    ]
