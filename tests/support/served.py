"""The real `lockgate` command against the runner's real socket over the fake deployer.

Invariants: every process is held by its Popen and ended by the fixture that made it.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LOCKGATE = Path(sys.executable).with_name("lockgate")
START_S = 20

HELLO = "name: hello\nsource:\n  repo: .\nentrypoint: app.py\n"


@dataclass
class Served:
    """A folder with a configuration and an app's YAML; `server` serves its socket."""

    root: Path
    server: subprocess.Popen[bytes] | None = None

    def write_spec(self, extra: str = "", name: str = "hello.yaml") -> Path:
        """An app's YAML with more lines."""
        path = self.root / name
        path.write_text(HELLO + extra)
        return path

    def run(
        self, *words: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`lockgate …` with this configuration, in a pipe of 80 columns."""
        return subprocess.run(
            [str(LOCKGATE), *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.root,
            env={**self.build_env(), **(env or {})},
        )

    def build_env(self) -> dict[str, str]:
        """Without colours, with our configuration."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        config = {"LOCKGATE_CONFIG": str(self.root / "lockgate.yaml")}
        return {**kept, **config, "COLUMNS": "80", "LANG": "C.UTF-8", "NO_COLOR": "1"}


def prepare(root: Path) -> Served:
    """A configuration whose directories lie below `root`; nothing runs yet."""
    (root / "run").mkdir()
    (root / "lockgate.yaml").write_text(f"state_dir: {root}/state\nrun_dir: {root}/run\n")
    served = Served(root)
    served.write_spec()
    return served


@contextlib.contextmanager
def serve(root: Path) -> Iterator[Served]:
    """The same, with a runner that answers."""
    served = prepare(root)
    socket_path = root / "run" / "runner.sock"
    served.server = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.serve", str(socket_path)],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while not socket_path.exists():
            assert time.monotonic() < deadline, "the fake runner does not start"
            assert served.server.poll() is None, "the fake runner ended"
            time.sleep(0.02)
        yield served
    finally:
        served.server.terminate()
        served.server.wait(10)
