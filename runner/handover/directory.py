"""The RAM directory through which agents get their identity and apps their secrets.

Layout: `ROOT/apps/<app>/<generation>/{identity,secrets}`.

Invariants: nothing here ever lies on a disk; what is in `identity` only the agent's uid reads, what
is in `secrets` only the app's; files change as a whole set. Calls block, but `open_handover`.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.errors import RunnerError
from runner.handover.delivery import build_secret_files
from runner.handover.swap import read_one, write_all
from runner.ram import (
    SWAP_NOTE,
    has_swap,
    list_shared_places,
    make_own_directory,
    mount_tmpfs,
    pick_shared_place,
)
from runner.volumes import VolumeError
from runner.volumes.mounts import (
    find_mount,
    in_thread,
    make_mountpoint,
    remove_mountpoint,
    unmount_now,
)

SOURCE = "lockgate-ram"
SIZE_BYTES = 256 * 1024 * 1024
ROOM_BYTES = 16 * 1024 * 1024


class HandoverError(RunnerError):
    """The RAM directory cannot be had, written or removed."""


class Handover:
    """`root` is the RAM directory; `is_mount` tells whether it is a tmpfs of our own."""

    def __init__(self, root: Path, *, is_mount: bool, notes: Sequence[str] = ()) -> None:
        self.root = root
        self.is_mount = is_mount
        self.notes = notes
        self._apps = root / "apps"
        self._apps.mkdir(mode=0o711, exist_ok=True)

    def __repr__(self) -> str:
        return f"<Handover {self.root}{' (own mount)' if self.is_mount else ''}>"

    def identity_dir(self, app: str, number: int) -> Path:
        """What is mounted read-only for the agent."""
        return self._apps / app / str(number) / "identity"

    def secrets_dir(self, app: str, number: int) -> Path:
        """What is mounted read-only for the app."""
        return self._apps / app / str(number) / "secrets"

    def write_identity(
        self, app: str, number: int, files: Mapping[str, bytes], uid: int | None
    ) -> None:
        """Replace the agent's files; `uid` is the agent's, None where all is one user."""
        self._write(self.identity_dir(app, number), files, uid)

    def read_identity(self, app: str, number: int, name: str) -> bytes:
        """One of the agent's files as it is now."""
        try:
            return read_one(self.identity_dir(app, number), name)
        except OSError as error:
            raise HandoverError(f"{app}/{number}: no {name} in RAM: {error.strerror}") from None

    def write_secrets(
        self, app: str, number: int, secrets: Mapping[str, str], uid: int | None
    ) -> None:
        """Replace the app's secrets; `uid` is the app's, None where all is one user."""
        try:
            files = build_secret_files(secrets)
        except ValueError as error:
            raise HandoverError(f"{app}: {error}") from None
        self._write(self.secrets_dir(app, number), files, uid)

    def remove(self, app: str, number: int) -> None:
        """Remove a generation's directories; not there is no error."""
        self._remove(self._apps / app / str(number))
        with contextlib.suppress(OSError):
            (self._apps / app).rmdir()

    def remove_app(self, app: str) -> None:
        """Remove all generations of an app; not there is no error."""
        self._remove(self._apps / app)

    def list_generations(self) -> list[tuple[str, int]]:
        """Every (app, generation) that has a directory here."""
        paths = sorted(self._apps.glob("*/*"))
        return [(path.parent.name, int(path.name)) for path in paths if path.name.isdecimal()]

    def close(self) -> None:
        """Remove everything; unmount what was mounted. Raises `HandoverError` if it is in use."""
        self._remove(self._apps)
        try:
            if self.is_mount:
                unmount_now(self.root)
                remove_mountpoint(self.root)
            else:
                _delete(self.root)
        except (OSError, VolumeError) as error:
            raise HandoverError(str(error)) from None

    def _write(self, directory: Path, files: Mapping[str, bytes], uid: int | None) -> None:
        try:
            for parent in (directory.parent.parent, directory.parent):
                parent.mkdir(mode=0o711, exist_ok=True)
                parent.chmod(0o711)
            write_all(directory, files, uid)
        except OSError as error:
            raise HandoverError(f"{directory}: {error.strerror}") from None

    def _remove(self, path: Path) -> None:
        try:
            _delete(path)
        except OSError as error:
            raise HandoverError(f"{path}: cannot remove: {error.strerror}") from None


async def open_handover(run_dir: Path) -> Handover:
    """The RAM directory of this installation: adopted if it is there, else made.

    As root a tmpfs at `run_dir`/ram; otherwise, or where mounting is refused, a directory of ours
    in a tmpfs of the host. Raises `HandoverError` if there is no RAM to be had.
    """
    try:
        if os.geteuid() == 0 and await _mount(run_dir / "ram"):
            return await in_thread(_adopt, run_dir / "ram")
        return await in_thread(_open_shared, run_dir)
    except VolumeError as error:
        raise HandoverError(str(error)) from None


async def _mount(root: Path) -> bool:
    """Whether a tmpfs is mounted there now; False where mounting is not allowed."""
    if await in_thread(find_mount, root) is not None:
        return True
    await in_thread(make_mountpoint, root)
    try:
        await mount_tmpfs(root, SOURCE, SIZE_BYTES, 0o711)
    except VolumeError:
        await in_thread(remove_mountpoint, root)
        return False
    return True


def _adopt(root: Path) -> Handover:
    row = find_mount(root)
    if row is None or row.kind != "tmpfs" or row.source != SOURCE:
        raise VolumeError(f"{root}: something else than our tmpfs is mounted there")
    is_safe = "noswap" in row.options or not has_swap()
    return Handover(root, is_mount=True, notes=() if is_safe else (SWAP_NOTE,))


def _open_shared(run_dir: Path) -> Handover:
    """In `run_dir` itself if that is RAM already, else in a place of the host's."""
    places = (run_dir, *list_shared_places(os.environ))
    place = pick_shared_place(places, ROOM_BYTES, runs_programs=False)
    tag = hashlib.sha256(bytes(run_dir.resolve())).hexdigest()[:8]
    name = "ram" if place == run_dir else f"lockgate-{os.geteuid()}-{tag}-ram"
    root = make_own_directory(place, name)
    if os.geteuid() == 0:
        root.chmod(0o711)
    return Handover(root, is_mount=False, notes=(SWAP_NOTE,) if has_swap() else ())


def _delete(path: Path) -> None:
    """Like rm -r, also of directories that are 0500; follows no link."""
    if os.geteuid() != 0:
        for folder, names, _ in os.walk(path):
            for name in names:
                below = os.path.join(folder, name)
                if not os.path.islink(below):
                    os.chmod(below, 0o700)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
