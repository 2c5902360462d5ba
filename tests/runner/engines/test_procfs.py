"""Processes that may not be our children."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from runner.engines.procfs import end_process, is_alive, list_descendants, read_identity

TREE = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork(); time.sleep(600)"


@pytest.fixture
def sleeper():
    """A process with a child, both deaf to SIGTERM."""
    process = subprocess.Popen((sys.executable, "-c", TREE))
    for _ in range(100):
        if list_descendants(process.pid):
            break
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_identity_of_ourselves():
    """A process is known by pid, start and boot, the same every time."""
    identity = read_identity(os.getpid())
    assert identity == read_identity(os.getpid())
    assert identity.pid == os.getpid()
    assert is_alive(identity)


def test_nobody_and_the_dead():
    """A pid that nobody has, and a zombie, are nobody."""
    process = subprocess.Popen(("true",))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert read_identity(process.pid) is None
    process.wait()
    assert read_identity(process.pid) is None


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "x"}])
async def test_stranger_is_left_alone(sleeper, change):
    """The same pid with another start or from another boot is not signalled."""
    identity = replace(read_identity(sleeper.pid), **change)
    assert not is_alive(identity)
    await end_process(identity, 0)
    assert sleeper.poll() is None


async def test_whole_tree_ends(sleeper):
    """What refuses SIGTERM is killed after the grace, with all its descendants."""
    (child,) = list_descendants(sleeper.pid)
    began = time.monotonic()
    await end_process(read_identity(sleeper.pid), 0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert sleeper.wait(5) == -signal.SIGKILL
    assert read_identity(child) is None


async def test_polite_process_ends_early():
    """What obeys SIGTERM is not waited for any longer."""
    process = subprocess.Popen(("sleep", "600"))
    began = time.monotonic()
    await end_process(read_identity(process.pid), 20)
    assert time.monotonic() - began < 5
    assert process.wait(5) == -signal.SIGTERM
