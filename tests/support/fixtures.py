"""Fixtures of the tests that run a whole Lockgate: one per engine and session, browsers on top.

Invariants: a session's installation is shared, so its tests use apps of their own names and leave
the installation running; a test that kills or fills something opens its own.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import open_browser
from tests.support.installation import Installation, open_installation
from tests.support.leftovers import wait_for_nothing
from tests.support.repos import (
    HELLO_APP,
    PROBE_APP,
    Repo,
    build_hello_spec,
    build_probe_spec,
    make_repo,
)
from tests.support.visitor import Visitor


@dataclass(frozen=True, slots=True)
class Site:
    """A running installation and a visitor that trusts its root."""

    lockgate: Installation
    visitor: Visitor


def open_site(stack: ExitStack, engine: str, **overrides: Any) -> Site:
    """Start an installation; the stack ends it and checks that nothing is left of it."""
    root = Path(tempfile.mkdtemp(prefix="lg-", dir="/tmp"))
    lockgate = stack.enter_context(open_installation(engine, overrides, root))
    return start_site(stack, lockgate)


@contextmanager
def open_site_at(root: Path, engine: str) -> Iterator[Site]:
    """The same in an existing directory."""
    with ExitStack() as stack:
        lockgate = stack.enter_context(open_installation(engine, root=root, is_kept=True))
        yield start_site(stack, lockgate)


def start_site(stack: ExitStack, lockgate: Installation) -> Site:
    """Start it, and see to it that its end is checked."""
    stack.callback(stop_and_check, lockgate)
    lockgate.start()
    return Site(lockgate, Visitor(lockgate.https_port, lockgate.read_root_pem()))


def stop_and_check(lockgate: Installation) -> None:
    """Ctrl-C leaves nothing running, mounted or looped."""
    lockgate.stop()
    left = wait_for_nothing(lockgate.root, lockgate.address_pool)
    assert not left, "left after lockgate up ended: " + "; ".join(left)


@pytest.fixture(scope="session")
def docker_site() -> Iterator[Site]:
    """Lockgate with the Docker engine."""
    with ExitStack() as stack:
        yield open_site(stack, "docker")


@pytest.fixture(scope="session")
def process_site() -> Iterator[Site]:
    """Lockgate with the embedded process engine."""
    with ExitStack() as stack:
        yield open_site(stack, "process")


@pytest.fixture
def new_site() -> Iterator[Callable[..., Site]]:
    """Make installations of this test's own: `new_site("docker", runner={…})`."""
    with ExitStack() as stack:
        yield lambda engine, **overrides: open_site(stack, engine, **overrides)


@pytest.fixture
def installation() -> Iterator[Installation]:
    """An installation with the Docker engine that is not started yet."""
    with open_installation("docker") as lockgate:
        yield lockgate


@pytest.fixture
def probe_repo(tmp_path: Path) -> Repo:
    """A repository with the probe app, for this test alone."""
    return make_repo(tmp_path / "probe", PROBE_APP)


@pytest.fixture(scope="session")
def session_dir() -> Iterator[Path]:
    """A folder for repositories that several tests deploy from."""
    folder = Path(tempfile.mkdtemp(prefix="lgs-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def docker_probe(docker_site: Site, session_dir: Path) -> Site:
    """The Docker site with a probe app `probe` that nobody redeploys or removes."""
    repo = make_repo(session_dir / "docker-probe", PROBE_APP)
    docker_site.lockgate.deploy(build_probe_spec("probe", repo))
    return docker_site


@pytest.fixture(scope="session")
def docker_hello(docker_site: Site, session_dir: Path) -> Site:
    """The Docker site with the demo app `hello`."""
    docker_site.lockgate.deploy(build_hello_spec(make_repo(session_dir / "hello", HELLO_APP)))
    return docker_site


@pytest.fixture(scope="session")
def process_hello(process_site: Site, session_dir: Path) -> Site:
    """The process site with the demo app `hello`."""
    repo = make_repo(session_dir / "process-hello", HELLO_APP)
    process_site.lockgate.deploy(build_hello_spec(repo))
    return process_site


@pytest.fixture
def docker_browser(docker_site: Site, tmp_path: Path) -> Iterator[Browser]:
    """Chromium that trusts the root of the Docker site only."""
    with open_browser(tmp_path / "home", docker_site.visitor.root_pem) as browser:
        yield browser


@pytest.fixture
def process_browser(process_site: Site, tmp_path: Path) -> Iterator[Browser]:
    """Chromium that trusts the root of the process site only."""
    with open_browser(tmp_path / "home", process_site.visitor.root_pem) as browser:
        yield browser
