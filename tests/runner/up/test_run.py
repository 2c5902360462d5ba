"""What `lockgate up` must hold: the real supervisor, pki and gateway, a fake runner."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.client import RunnerClient
from runner.config import load_config
from runner.up.adopt import find_listener
from runner.up.run import build_announcement, open_filled_pipe
from tests.support.ports import find_free_ports

CHECKOUT = Path(__file__).parents[3]
NAMES = ("pki", "gateway", "runner")


class Place:
    """Directories and ports of one test, and every supervisor it started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run_dir = root / "run"
        self.https, self.http = find_free_ports(2)
        self.config_path = root / "lockgate.yaml"
        self.started: list[subprocess.Popen[bytes]] = []
        self.write_config()

    def write_config(self, extra: str = "") -> None:
        """Own directories and ports."""
        self.config_path.write_text(
            f"state_dir: {self.root}/state\nrun_dir: {self.run_dir}\n"
            f"gateway:\n  https: 127.0.0.1:{self.https}\n  http: 127.0.0.1:{self.http}\n{extra}"
        )

    @property
    def log(self) -> Path:
        """What the newest supervisor and its processes print."""
        return self.root / f"up-{len(self.started)}.log"

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """A supervisor, started."""
        self.started.append(None)  # type: ignore[arg-type]
        with self.log.open("wb") as log:
            self.started[-1] = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.up", str(self.config_path), *words],
                cwd=CHECKOUT,
                stdout=log,
                stderr=log,
            )
        return self.started[-1]

    def start_ready(self) -> "subprocess.Popen[bytes]":
        """A supervisor that says that it is ready."""
        process = self.start()
        self.wait_for("lockgate: ready")
        return process

    def wait_for(self, text: str, timeout_s: float = 30) -> None:
        """Until the newest log has `text`."""
        wait_until(lambda: text in self.log.read_text(), timeout_s, lambda: self.log.read_text())

    def pid(self, name: str) -> int:
        """Who listens on `<name>.sock`, by the kernel's word; it must be a process of this test."""
        pid = find_listener(self.run_dir / f"{name}.sock")
        assert pid is not None, f"{name} does not answer"
        assert str(self.root) in Path(f"/proc/{pid}/cmdline").read_text()
        return pid

    def list_processes(self) -> dict[int, str]:
        """Every process whose command line names this test's root, but for ours."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    line = (entry / "cmdline").read_text().replace("\0", " ")
                    if str(self.root) in line:
                        found[int(entry.name)] = line
        return found

    def close(self) -> None:
        """End what the test left; each one by its pid, checked to be of this test."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()
        for pid in self.list_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_until(
    holds: Callable[[], bool], timeout_s: float = 10, explain: Callable[[], str] = str
) -> None:
    """Poll; fail with an explanation."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)


@pytest.fixture
def place() -> Iterator[Place]:
    """A root with a short path (sockets) that other users may enter."""
    root = Path(tempfile.mkdtemp(prefix="lgup-"))
    root.chmod(0o755)
    found = Place(root)
    try:
        yield found
    finally:
        found.close()
        shutil.rmtree(root, ignore_errors=True)


def ask(place: Place) -> bytes:
    """The first line of what the gateway answers a visitor of an unknown host."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", place.https), timeout=10)
    with context.wrap_socket(plain, server_hostname="x.localhost") as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: x.localhost\r\nConnection: close\r\n\r\n")
        return visitor.recv(65536).split(b"\r\n")[0]


def test_it_starts_serves_and_leaves_nothing(place: Place) -> None:
    """Three processes, a visitor gets an answer, SIGTERM ends all and removes the sockets."""
    process = place.start_ready()
    assert len({place.pid(name) for name in NAMES}) == 3
    assert ask(place) == b"HTTP/1.1 404 Not Found"
    assert (place.root / "state" / "master.key").stat().st_mode & 0o777 == 0o600
    process.terminate()
    assert process.wait(30) == 0
    assert place.list_processes() == {}
    assert not list(place.run_dir.glob("*.sock"))
    said = place.log.read_text()
    assert "lockgate: engine fake, volumes tmpfs" in said
    assert "lockgate: this engine gives up: everything" in said
    assert f"https on 127.0.0.1:{place.https}" in said
    assert said.rstrip().endswith("lockgate: stopped")


@pytest.mark.root  # the processes hide their environment from their own user
def test_no_process_has_a_key_on_its_command_line(place: Place) -> None:
    """Keys go through pipes: neither argv nor environment nor the effective file has them."""
    place.start_ready()
    key = (place.root / "state" / "master.key").read_text().strip()
    assert len(key) == 64
    shown = (place.run_dir / "effective.yaml").read_text()
    for name in NAMES:
        proc = Path(f"/proc/{place.pid(name)}")
        shown += (proc / "cmdline").read_text() + (proc / "environ").read_text()
    assert key not in shown


async def test_apps_that_do_not_stop_make_the_exit_code_1(place: Place) -> None:
    """What is left behind is said, the rest is stopped all the same."""
    process = place.start_ready()
    async with RunnerClient(place.run_dir / "runner.sock") as client:
        await client.set_secret("stuck", "X", "v")
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 1
    said = place.log.read_text()
    assert "apps could not be stopped in order: the volume of stuck is still held" in said
    assert said.rstrip().endswith("lockgate: stopped, but not everything: see above")
    assert place.list_processes() == {}


async def test_a_second_interrupt_hurries_and_a_third_kills(place: Place) -> None:
    """Apps that take for ever to stop do not keep an operator who insists."""
    process = place.start_ready()
    async with RunnerClient(place.run_dir / "runner.sock") as client:
        await client.set_secret("slow", "X", "v")
    for said in ("stopping:", "hurrying:", "killed what was left"):
        process.send_signal(signal.SIGINT)
        place.wait_for(f"lockgate: {said}")
    assert await asyncio.to_thread(process.wait, 30) == 1
    assert place.list_processes() == {}


def test_a_second_one_is_refused_and_names_the_first(place: Place) -> None:
    """With its pid; the first one is not disturbed."""
    first = place.start_ready()
    pids = [place.pid(name) for name in NAMES]
    second = place.start()
    assert second.wait(30) == 1
    assert f"running already (pid {first.pid})" in place.log.read_text()
    assert [place.pid(name) for name in NAMES] == pids


def test_a_taken_port_is_said_before_anything_starts(place: Place) -> None:
    """Address, key and holder; nothing is left running."""
    with socket.create_server(("127.0.0.1", place.https)):
        assert place.start().wait(30) == 1
    said = place.log.read_text()
    assert f"gateway.https: 127.0.0.1:{place.https} is taken by" in said
    assert f"(pid {os.getpid()})" in said
    assert place.list_processes() == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_dies_is_started_again(place: Place, name: str) -> None:
    """One line that it ended, one that it is back; visitors are served meanwhile or again."""
    place.start_ready()
    before = place.pid(name)
    os.kill(before, signal.SIGKILL)
    place.wait_for(f"lockgate: {name} is back")
    assert f"lockgate: {name} ended (killed by SIGKILL), starting it again" in place.log.read_text()
    assert place.pid(name) != before
    assert ask(place) == b"HTTP/1.1 404 Not Found"


def test_a_killed_supervisor_leaves_the_gateway_which_the_next_adopts(place: Place) -> None:
    """pki and runner end with it; an open visitor's connection lives on through both."""
    first = place.start_ready()
    gateway = place.pid("gateway")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", place.https), timeout=10)
    with context.wrap_socket(plain, server_hostname="x.localhost") as visitor:
        first.kill()
        first.wait()
        wait_until(lambda: set(place.list_processes()) == {gateway})
        second = place.start_ready()
        assert place.pid("gateway") == gateway
        assert f"gateway (pid {gateway}) runs on from before" in place.log.read_text()
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: x.localhost\r\n\r\n")
        assert visitor.recv(65536).startswith(b"HTTP/1.1 404")
    os.kill(gateway, signal.SIGKILL)
    place.wait_for("lockgate: gateway is back")
    assert ask(place) == b"HTTP/1.1 404 Not Found"
    second.terminate()
    assert second.wait(30) == 0
    assert place.list_processes() == {}


def test_an_adopted_gateway_is_stopped_with_the_rest(place: Place) -> None:
    """Who adopts it, ends it."""
    first = place.start_ready()
    first.kill()
    first.wait()
    second = place.start_ready()
    second.send_signal(signal.SIGINT)
    assert second.wait(30) == 0
    assert place.list_processes() == {}


def test_a_gateway_of_other_settings_is_replaced(place: Place) -> None:
    """Changed settings take effect at the next start, on the same ports."""
    first = place.start_ready()
    gateway = place.pid("gateway")
    first.kill()
    first.wait()
    place.write_config("  hsts: false\n")
    place.start_ready()
    assert place.pid("gateway") != gateway
    assert "is replaced: its settings have changed" in place.log.read_text()
    assert ask(place) == b"HTTP/1.1 404 Not Found"


@pytest.mark.parametrize("name", NAMES)
def test_a_process_that_cannot_start_ends_everything(place: Place, name: str) -> None:
    """One line that says which, and nothing is left."""
    assert place.start(name).wait(60) == 1
    assert f"error: {name} does not start (exit code 1)" in place.log.read_text()
    assert place.list_processes() == {}


def test_stale_files_of_a_crash_are_no_obstacle(place: Place) -> None:
    """Dead sockets and the lock file of a machine that lost power."""
    place.run_dir.mkdir()
    for name in NAMES:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place.run_dir / f"{name}.sock"))
    (place.run_dir / "up.lock").write_text("1\n")
    place.start_ready()
    assert ask(place) == b"HTTP/1.1 404 Not Found"


def test_an_interrupt_during_the_start_leaves_nothing(place: Place) -> None:
    """Ctrl-C does not have to wait for ready."""
    process = place.start()
    wait_until(lambda: (place.run_dir / "pki.sock").exists())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert place.list_processes() == {}


def test_a_damaged_master_key_is_said_in_one_line(place: Place) -> None:
    """And nothing starts, let alone with a new key."""
    (place.root / "state").mkdir(mode=0o711)
    key = place.root / "state" / "master.key"
    key.write_text("nonsense\n")
    key.chmod(0o600)
    assert place.start().wait(30) == 1
    assert "error: the master key cannot be used" in place.log.read_text()
    assert key.read_text() == "nonsense\n"
    assert place.list_processes() == {}


def test_a_filled_pipe_holds_its_content_and_its_end() -> None:
    """A reader gets all of it and then the end, with nobody writing."""
    reader = open_filled_pipe(b"k" * 32)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"k" * 32


def test_what_an_engine_gives_up_is_announced() -> None:
    """The lines an operator sees at the start."""
    config = load_config(None, uid=0, env={})
    facts = {"engine": "process", "volume": "gocryptfs", "gives_up": "limits", "notes": ["a note"]}
    assert build_announcement(config, facts) == [
        "engine process, volumes gocryptfs",
        "this engine gives up: limits",
        "a note",
        "listening: https on 0.0.0.0:8443, http on 0.0.0.0:8080",
    ]
