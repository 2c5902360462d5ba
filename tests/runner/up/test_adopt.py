"""What taking over a process of a former run must hold."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.up.adopt import Adopted, await_end, find_listener

LISTEN = """
import signal, socket, sys
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
print("listening", flush=True)
while True: s.accept()
"""


def start(path: Path, manner: str = "mild") -> "subprocess.Popen[str]":
    """A process that listens on a Unix socket."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(path), manner], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


@pytest.fixture
def process(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """One that listens on `x.sock`."""
    found = start(tmp_path / "x.sock")
    yield found
    found.kill()
    found.wait()


def test_a_listener_is_found_by_its_socket(
    tmp_path: Path, process: "subprocess.Popen[str]"
) -> None:
    """The kernel names the pid; a dead one's file names nobody."""
    path = tmp_path / "x.sock"
    assert find_listener(path) == process.pid
    process.kill()
    process.wait()
    assert path.exists()
    assert find_listener(path) is None
    assert find_listener(tmp_path / "none.sock") is None


async def test_an_adopted_process_is_watched_and_ended(process: "subprocess.Popen[str]") -> None:
    """SIGTERM is enough for one that listens to it."""
    adopted = Adopted(process.pid, "gateway")
    assert adopted.is_running
    await adopted.terminate(5.0)
    assert not adopted.is_running
    assert process.wait(5) == -15
    await adopted.terminate(5.0)
    adopted.kill()


async def test_a_stubborn_process_is_killed(tmp_path: Path) -> None:
    """SIGKILL after the grace."""
    process = start(tmp_path / "y.sock", "stubborn")
    begin = time.monotonic()
    await Adopted(process.pid, "gateway").terminate(0.2)
    assert process.wait(5) == -9
    assert time.monotonic() - begin >= 0.2


async def test_the_end_of_an_adopted_process_is_noticed(process: "subprocess.Popen[str]") -> None:
    """Without being its parent."""
    adopted = Adopted(process.pid, "gateway")
    waiting = asyncio.create_task(adopted.wait())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    process.kill()
    assert await asyncio.wait_for(waiting, 5) == 0


async def test_a_predecessor_is_waited_for_then_ended(
    tmp_path: Path, process: "subprocess.Popen[str]"
) -> None:
    """Nothing new starts while the old one still serves."""
    await await_end(tmp_path / "x.sock", "runner", 0.2)
    assert process.poll() is not None or process.wait(5) == -15
    await await_end(tmp_path / "x.sock", "runner", 0.2)
    assert find_listener(tmp_path / "x.sock") is None
