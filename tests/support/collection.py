"""Which tests can run on this machine, and which must share a worker.

Invariants: a skip says what is missing; nothing is skipped for being slow.
"""

import os
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


def skip_what_cannot_run(items: list[pytest.Item]) -> None:
    """Skip tests whose marker names something that this machine has not."""
    for marker, (is_here, reason) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_here():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


def group_what_is_shared(items: list[pytest.Item]) -> None:
    """One worker runs all tests of an engine: they share its session's installation."""
    for item in items:
        if {"integration", "security"} & set(item.path.parts):
            engine = "docker" if item.get_closest_marker("docker") else "process"
            item.add_marker(pytest.mark.xdist_group(engine))
