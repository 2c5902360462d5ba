"""Which Python and which sandbox the process engine can use here, found by trying them.

Invariants: a candidate counts only if it ran as the very uid that apps run under.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import host
from runner.engines import EngineError
from runner.engines.image import OLDEST_PYTHON, ImagePython
from runner.engines.sandbox import SYSTEM_LINKS, VARIANTS, Tools, build_sandbox

PROBE = "import select, ssl, sys; print(*sys.version_info[:3], sys.base_prefix, sep='|')"
PROBE_DEADLINE_S = 20.0
USUAL = ("/usr/bin/python3", "/usr/local/bin/python3")


@dataclass(frozen=True, slots=True)
class Ability:
    """What works: Python, its prefix, the sandbox (None: plain processes, and why)."""

    python: ImagePython
    prefix: str
    tools: Tools | None
    bwrap_version: str
    why_plain: str


async def find_ability(uid: int | None) -> Ability:
    """Try Pythons, then sandboxes, as `uid` (None: as ourselves); raises `EngineError`."""
    python, prefix = await find_python(uid)
    try:
        bwrap = host.find_program("bwrap")
    except host.HostError as error:
        return Ability(python, prefix, None, "", str(error))
    reason = ""
    for variant in VARIANTS:
        tools = Tools(bwrap, variant, read_links(), prefix)
        argv = (*build_sandbox(tools, "probe", (), ()), python.path, "-I", "-S", "-c", PROBE)
        done = await host.run(argv, deadline_s=PROBE_DEADLINE_S, env={}, cwd="/", uid=uid)
        if done.code == 0:
            return Ability(python, prefix, tools, await _read_version(bwrap), "")
        reason = done.build_reason()
    return Ability(python, prefix, None, "", f"bubblewrap does not work here: {reason}")


async def find_python(uid: int | None) -> tuple[ImagePython, str]:
    """The first Python that runs as `uid`, and its prefix; raises `EngineError`."""
    tried = []
    for path in list_pythons():
        argv = (path, "-I", "-S", "-B", "-c", PROBE)
        try:
            done = await host.run(argv, deadline_s=PROBE_DEADLINE_S, env={}, cwd="/", uid=uid)
        except host.HostError as error:
            tried.append(f"{path}: {error}")
            continue
        fields = done.stdout.decode(errors="replace").strip().split("|")
        if done.code == 0 and len(fields) == 4:
            version = ".".join(fields[:3])
            if tuple(map(int, fields[:2])) >= OLDEST_PYTHON:
                return ImagePython(version, path), fields[3]
            tried.append(f"{path} is {version}")
        else:
            tried.append(f"{path}: {done.build_reason()}")
    oldest = ".".join(map(str, OLDEST_PYTHON))
    raise EngineError(
        f"no Python {oldest} that apps may run ({'; '.join(tried)}): install one outside of"
        " private directories (Debian: apt-get install python3)"
    )


def list_pythons() -> Iterator[str]:
    """Our own interpreter without its virtualenv, then the usual ones."""
    own = str(getattr(sys, "_base_executable", sys.executable))
    seen = set()
    for path in (own, *USUAL):
        if path not in seen and os.path.exists(path):
            seen.add(path)
            yield path


def read_links() -> dict[str, str | None]:
    """The host's /bin, /lib …: where they point, or None if they are directories."""
    found: dict[str, str | None] = {}
    for name in SYSTEM_LINKS:
        path = Path(name)
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = None
    return found


async def _read_version(bwrap: str) -> str:
    done = await host.run((bwrap, "--version"), deadline_s=PROBE_DEADLINE_S, env={}, cwd="/")
    return done.stdout.decode(errors="replace").strip()
