"""Which tests can run on this machine, and which must share a worker.

Invariants: a skip says what is missing; nothing is skipped for being slow.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM
from tests.support.leftovers import run_docker

# marker -> (whether this machine has it, why a test is skipped without it)
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "root": (lambda: os.geteuid() == 0, "needs root"),
    "browser": (lambda: Path(CHROMIUM).exists(), f"needs {CHROMIUM}"),
    "docker": (lambda: bool(run_docker("version")), "needs a Docker engine that can be reached"),
}

HOST_FOLDERS = {"integration", "engines", "volumes", "agent"}
HOST_FILES = {"test_agent_door.py", "test_perform.py", "test_fetch.py"}


def skip_what_cannot_run(items: list[pytest.Item]) -> None:
    """Skip tests whose marker names something that this machine has not."""
    for marker, (is_here, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_here():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def group_what_is_shared(items: list[pytest.Item]) -> None:
    """One worker runs all tests that change or watch what belongs to the whole host.

    A mount namespace that one test makes holds the mounts of all others, and a bridge that one
    makes is a network change to every browser.
    """
    for item in items:
        parts = set(item.path.parts)
        is_marked = any(item.get_closest_marker(marker) for marker in NEEDS)
        if is_marked or parts & HOST_FOLDERS or item.path.name in HOST_FILES:
            item.add_marker(pytest.mark.xdist_group("host"))


def use_default_signals() -> None:
    """Whoever starts us in the background may have told us to ignore what our tests send."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
