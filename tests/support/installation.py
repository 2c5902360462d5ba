"""A whole Lockgate of one test: its own directories, ports and bridges, driven by the real CLI.

Invariants: everything it makes lies below its root or carries its root's name; `stop` ends every
process it started; nothing of the product is imported here.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import find_free_ports, pick_address_pool

CHECKOUT = Path(__file__).parents[2]
START_S = 120
STOP_S = 60
CLI_S = 300

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command: exit code, both outputs, and how long it took."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def text(self) -> str:
        """Everything it said."""
        return self.stdout + self.stderr

    def read_json(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.stdout)


@dataclass
class Installation:
    """`lockgate up` with `engine` (`docker` or `process`) in a temporary root."""

    root: Path
    engine: str
    https_port: int
    http_port: int
    address_pool: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config_path(self) -> Path:
        """The file that all processes read."""
        return self.root / "lockgate.yaml"

    @property
    def state_dir(self) -> Path:
        """What survives a restart; on disk."""
        return self.root / "state"

    @property
    def run_dir(self) -> Path:
        """Sockets, mounts and RAM directories."""
        return self.root / "run"

    @property
    def log_path(self) -> Path:
        """Both outputs of every `lockgate up` of this installation."""
        return self.root / "up.log"

    def url(self, app: str, path: str = "/") -> str:
        """The visitors' address of an app."""
        return f"https://{app}.localhost:{self.https_port}{path}"

    def write_config(self) -> None:
        """One YAML file (JSON is YAML) with what differs from the defaults."""
        config = merge(build_config(self), self.overrides)
        self.config_path.write_text(json.dumps(config, indent=2) + "\n")

    def start(self) -> None:
        """Start `lockgate up` and wait until the CLI reaches it; fails with its log."""
        self.write_config()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                build_argv("up"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=build_env(self.config_path),
                cwd=self.root,
            )
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"lockgate up does not start:\n{self.read_log()}")
            time.sleep(0.2)

    def is_ready(self) -> bool:
        """Whether the runner answers."""
        return (self.run_dir / "runner.sock").exists() and self.lockgate("status").code == 0

    def kill(self) -> None:
        """SIGKILL to `lockgate up` alone: it cannot tidy up."""
        assert self.process
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        """SIGTERM as an operator's Ctrl-C would; returns the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            raise AssertionError(f"lockgate up does not stop:\n{self.read_log()}") from None
        finally:
            self.process = None

    def lockgate(self, *words: str, stdin: str = "", timeout_s: float = CLI_S) -> Done:
        """One command of the CLI against this installation."""
        argv = build_argv(*words)
        begin = time.monotonic()
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=build_env(self.config_path),
            cwd=self.root,
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - begin)

    def write_spec(self, spec: Mapping[str, Any]) -> Path:
        """An app's YAML in this installation's root."""
        path = self.root / f"{spec.get('name', 'nameless')}.yaml"
        path.write_text(json.dumps(spec, indent=2) + "\n")
        return path

    def deploy(self, spec: Mapping[str, Any]) -> Done:
        """`lockgate deploy`, which must succeed."""
        done = self.lockgate("deploy", str(self.write_spec(spec)))
        assert done.code == 0, f"deploy failed:\n{done.text}\n--- up\n{self.read_log()}"
        return done

    def read_status(self, app: str) -> dict[str, Any]:
        """The app's entry of `lockgate status --json`; empty when it is not known."""
        done = self.lockgate("status", "--json")
        assert done.code == 0, done.text
        found = done.read_json()
        entries = found["apps"] if isinstance(found, dict) else found
        return next((entry for entry in entries if entry["name"] == app), {})

    def wait_for_state(self, app: str, state: str, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until `status` says `state`."""
        deadline = time.monotonic() + timeout_s
        while (status := self.read_status(app)).get("state") != state:
            assert time.monotonic() < deadline, f"{app} is not {state}: {status}"
            time.sleep(0.2)
        return status

    def read_root_pem(self) -> bytes:
        """The root certificate that visitors are to trust."""
        done = self.lockgate("pki", "root")
        assert "BEGIN CERTIFICATE" in done.stdout, done.text
        return done.stdout.encode()

    def read_log(self) -> str:
        """The end of what `lockgate up` printed."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return text[-6000:]


def build_config(installation: Installation) -> Config:
    """The settings that a test machine needs: own directories, ports, bridges."""
    return {
        "state_dir": str(installation.state_dir),
        "run_dir": str(installation.run_dir),
        "gateway": {
            "https": f"127.0.0.1:{installation.https_port}",
            "http": f"127.0.0.1:{installation.http_port}",
        },
        "runner": {
            "engine": {"kind": installation.engine, "address_pool": installation.address_pool}
        },
    }


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Config:
    """`base` with `over` written into it, key by key."""
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        nested = isinstance(inner, dict) and isinstance(value, Mapping)
        merged[key] = merge(inner, value) if nested else value  # type: ignore[arg-type]
    return merged


def build_argv(*words: str) -> Sequence[str]:
    """The installed `lockgate` command of the interpreter that runs the tests."""
    return (str(Path(sys.executable).with_name("lockgate")), *words)


def build_env(config_path: Path) -> dict[str, str]:
    """The caller's environment, with this installation's file and without a terminal's colours."""
    plain = {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}
    return os.environ | plain | {"LOCKGATE_CONFIG": str(config_path)}


@contextlib.contextmanager
def open_installation(
    engine: str,
    overrides: Mapping[str, Any] | None = None,
    root: Path | None = None,
    is_kept: bool = False,
) -> Iterator[Installation]:
    """A root with free ports; not started yet; ended and (unless kept) deleted on the way out."""
    # short: a Unix socket's path has 107 bytes at most
    place = root or Path(tempfile.mkdtemp(prefix="lg-"))
    place.chmod(0o755)
    https_port, http_port = find_free_ports(2)
    installation = Installation(
        place, engine, https_port, http_port, pick_address_pool(), overrides or {}
    )
    installation.write_config()
    try:
        yield installation
    finally:
        installation.stop()
        if not is_kept:
            shutil.rmtree(place, ignore_errors=True)
