"""Builds an app's environment on its volume, in a throw-away container, unless it is there.

Invariants: an environment without its marker is never used and is built anew; the marker is the
last thing written, and ours: what a build left in its name is neither followed nor believed; a
build cannot change the app's code and sees nothing but the code, its own directory, uv and a CA
file; its cache lies in its directory and is gone when it is done.
"""

import asyncio
import hashlib
import importlib.metadata
import os
import shutil
import ssl
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import uv

from runner.building.environment import (
    NAMES,
    WORKSHOP,
    BuildError,
    BuildPlaces,
    Toolchain,
    hash_environment,
    list_includes,
    list_workshop,
    needs_tree,
    pick_recipe,
    plan_environment,
)
from runner.building.reasons import explain_build
from runner.engines import (
    CA_BUNDLE,
    CODE,
    TIMED_OUT,
    TMP,
    UV,
    VENV,
    BuildSpec,
    Engine,
    EngineFacts,
    LineSink,
    Mount,
    Resources,
    Tmpfs,
)
from runner.layout import VolumeLayout
from runner.spec.model import AppSpec
from runner.store import AppRecord
from runner.volumes.mounts import in_thread

MARKER = ".lockgate-complete"
FILE_LIMIT_BYTES = 16 * 1024 * 1024
MEMORY_BYTES = 2 * 1024 * 1024 * 1024
TMP_BYTES = 64 * 1024 * 1024
PIDS = 512
TAIL_LINES = 20
KEPT_LINES = 400
HOST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class BuildSettings(Protocol):
    """The part of the configuration that builds go by; `timeout` in seconds."""

    @property
    def ca_bundle(self) -> object:
        """`auto`, a path, or None for no bundle at all."""

    @property
    def index_url(self) -> str | None:
        """A package index to use instead of the public one."""

    @property
    def timeout(self) -> float:
        """For all steps together."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is whole; `is_kept` if it was there already."""

    env_hash: str
    is_kept: bool


async def build_environment(
    engine: Engine,
    facts: EngineFacts,
    settings: BuildSettings,
    spec: AppSpec,
    record: AppRecord,
    layout: VolumeLayout,
    number: int,
    uid: int | None,
    on_line: LineSink,
) -> Environment:
    """Build what the code of generation `number` asks for; raises `BuildError`, `EngineError`.

    The environment belongs to `uid` (None: to us).
    """
    code = layout.code(number)
    check_python(spec.python, facts)
    files = await asyncio.to_thread(read_files, code)
    pick_recipe(files)
    tools = build_toolchain(facts, settings.index_url)
    tree = await asyncio.to_thread(hash_tree, code) if needs_tree(files) else ""
    env_hash = hash_environment(files, tools, tree)
    place = layout.environment(env_hash)
    if await in_thread(_is_whole, place):
        return Environment(env_hash, is_kept=True)
    # Not in a thread: a thread would go on making directories after a cancellation.
    if place.exists():
        await asyncio.to_thread(shutil.rmtree, place)
    _make_empty(place, uid)
    try:
        if tree:
            code = await in_thread(_copy_code, code, place, uid)
        mounts = build_build_mounts(
            code, place, find_ca_bundle(settings.ca_bundle), is_code_writable=bool(tree)
        )
        plan = plan_environment(files, tools, _locate(engine, mounts))
        build = _build_spec(spec, record, settings, plan.env, mounts, uid)
        await _run_steps(engine, build, plan.steps, on_line)
        await in_thread(_finish, place)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)
        raise
    return Environment(env_hash, is_kept=False)


def _build_spec(
    spec: AppSpec,
    record: AppRecord,
    settings: BuildSettings,
    env: dict[str, str],
    mounts: tuple[Mount, ...],
    uid: int | None,
) -> BuildSpec:
    return BuildSpec(
        app=record.name,
        uuid=record.uuid,
        slot=record.slot,
        argv=(),
        env=env,
        mounts=mounts,
        tmpfs=(Tmpfs(TMP, TMP_BYTES),),
        resources=pick_resources(spec.resources.memory),
        uid=os.getuid() if uid is None else uid,
        timeout_s=settings.timeout,
    )


def build_toolchain(facts: EngineFacts, index_url: str | None) -> Toolchain:
    """What builds, for the hash and for the commands."""
    version = importlib.metadata.version("uv")
    return Toolchain(facts.python, facts.python_path, facts.image_id, version, index_url)


def check_python(wanted: str | None, facts: EngineFacts) -> None:
    """Raises `BuildError` if the spec asks for another Python than the image has."""
    if wanted is None or f"{facts.python}.".startswith(f"{wanted}."):
        return
    raise BuildError(
        f"the app asks for Python {wanted}, and the image has {facts.python}: change `python`, or"
        " set runner.engine.image to an image with that version"
    )


def read_files(code: Path) -> dict[str, bytes]:
    """The dependency files of the code and what they include, by their names relative to it."""
    found: dict[str, bytes] = {}
    waiting = deque(NAMES)
    while waiting:
        name = os.path.normpath(waiting.popleft())
        path = code / name
        if name in found or name.startswith(("/", "..")) or not path.is_file():
            continue
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise BuildError(f"{name} is larger than {FILE_LIMIT_BYTES // 2**20} MiB")
        found[name] = path.read_bytes()
        if not name.endswith((".toml", ".lock")):
            folder = os.path.dirname(name)
            waiting.extend(os.path.join(folder, other) for other in list_includes(found[name]))
    return found


def hash_tree(code: Path) -> str:
    """A digest of every file's and link's name and content, whatever their times."""
    digest = hashlib.sha256()
    for path in sorted(code.rglob("*")):
        if path.is_symlink():
            content = f"link {os.fsencode(path.readlink()).hex()}"
        elif path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            continue
        digest.update(os.fsencode(path.relative_to(code)) + f"\0{content}\0".encode())
    return digest.hexdigest()


def find_ca_bundle(wanted: object) -> Path | None:
    """The CA file for builds; `auto` means what this host trusts, if it says so in a file.

    Raises `BuildError` for a named file that is not there.
    """
    if wanted is None:
        return None
    if wanted != "auto":
        path = Path(str(wanted))
        if not path.is_file():
            raise BuildError(f"runner.build.ca_bundle: {path} does not exist")
        return path.resolve()
    return next((path.resolve() for path in _list_bundles() if path.is_file()), None)


def _list_bundles() -> Iterator[Path]:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    yield from map(Path, HOST_BUNDLES)
    if default := ssl.get_default_verify_paths().cafile:
        yield Path(default)


def pick_resources(app_memory_bytes: int) -> Resources:
    """A build may take more than the app: compilers do."""
    return Resources(
        memory_bytes=max(app_memory_bytes, MEMORY_BYTES), cpus=os.cpu_count() or 1, pids=PIDS
    )


def build_build_mounts(
    code: Path, place: Path, ca_bundle: Path | None, *, is_code_writable: bool = False
) -> tuple[Mount, ...]:
    """What a build sees."""
    mounts = (
        Mount(code, CODE, is_code_writable),
        Mount(place, VENV, is_writable=True),
        Mount(Path(uv.find_uv_bin()).resolve(), UV),
    )
    return (*mounts, Mount(ca_bundle, CA_BUNDLE)) if ca_bundle else mounts


def _locate(engine: Engine, mounts: Sequence[Mount]) -> BuildPlaces:
    targets = {mount.target for mount in mounts}
    code, venv, tool = (engine.locate(mounts, target) for target in (CODE, VENV, UV))
    ca_bundle = engine.locate(mounts, CA_BUNDLE) if CA_BUNDLE in targets else None
    return BuildPlaces(code, venv, tool, ca_bundle)


async def _run_steps(
    engine: Engine, build: BuildSpec, steps: Sequence[tuple[str, ...]], on_line: LineSink
) -> None:
    """All steps within one timeout; the first that fails ends it with its reason."""
    kept: deque[str] = deque(maxlen=KEPT_LINES)

    def note(line: str) -> None:
        kept.append(line)
        on_line(line)

    loop = asyncio.get_running_loop()
    ends = loop.time() + build.timeout_s
    for step in steps:
        left_s = max(1.0, ends - loop.time())
        code = await engine.build(replace(build, argv=step, timeout_s=left_s), note)
        if code == TIMED_OUT:
            text = f"the build was not done in {build.timeout_s:g} s: raise runner.build.timeout"
            raise BuildError(text, log_tail=tuple(kept)[-TAIL_LINES:])
        if code != 0:
            raise BuildError(explain_build(tuple(kept)), log_tail=tuple(kept)[-TAIL_LINES:])


def _make_empty(place: Path, uid: int | None) -> None:
    """A new directory with its workshop."""
    for folder in (place, place / WORKSHOP, *map(Path, list_workshop(str(place)))):
        folder.mkdir(mode=0o755)
        if uid is not None:
            os.chown(folder, uid, uid)


def _copy_code(code: Path, place: Path, uid: int | None) -> Path:
    """A copy in the workshop: to build a folder of the code means to write into it."""
    copy = place / WORKSHOP / "code"
    shutil.copytree(code, copy, symlinks=True)
    for folder, folders, files in os.walk(copy):
        for path in (folder, *(os.path.join(folder, name) for name in (*folders, *files))):
            if uid is not None:
                os.lchown(path, uid, uid)
    return copy


def _is_whole(place: Path) -> bool:
    """Whether the marker is there and was made by us, not by the build."""
    try:
        facts = (place / MARKER).lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()


def _finish(place: Path) -> None:
    """Take the workshop away, then say that the environment is whole."""
    for path in (place / WORKSHOP, place / MARKER):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(place / MARKER, flags, 0o644))
