"""Makes the file system of the base image from the distribution's packages, without a registry.

Invariants: writes one tar in a folder of its own and takes it away again; holds no app's bytes.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from runner import host
from runner.engines import EngineError
from runner.engines.image import (
    MAKE_DEADLINE_S,
    build_bootstrap_argv,
    parse_os_release,
    pick_suite,
)

OS_RELEASE = Path("/etc/os-release")
PLACE = Path("/var/tmp")  # noqa: S108 - a folder of our own is made in it


def detect_suite() -> str:
    """The suite to make a base from on this host."""
    try:
        return pick_suite(parse_os_release(OS_RELEASE.read_text()))
    except OSError:
        return pick_suite({})


@asynccontextmanager
async def open_rootfs(suite: str, place: Path = PLACE) -> AsyncIterator[Path]:
    """A tar of a minimal system with Python, there until the context ends (about 200 MB).

    It lies in a folder of its own below `place`, which has to have the room.
    Raises `EngineError` with the bootstrap program's reason.
    """
    with tempfile.TemporaryDirectory(prefix="lockgate-base-", dir=place) as folder:
        target = Path(folder) / "base.tar"
        argv = build_bootstrap_argv(suite, str(target))
        try:
            done = await host.run(argv, deadline_s=MAKE_DEADLINE_S)
        except host.HostError as error:
            raise EngineError(str(error)) from None
        if done.code != 0:
            raise EngineError(f"mmdebstrap {suite}: {done.build_reason()}")
        yield target
