"""What the process engine keeps of each process, so that a later runner finds it again.

Invariants: no secret in it; a record is whole or not there; removing one removes its folder and its
RAM directories.
"""

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.engines import EngineError
from runner.engines.procfs import ProcessIdentity

SOCKET_PATH_LIMIT_BYTES = 107
SOCKET_NAME = "agent.sock"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A started generation; `ram` are directories that belong to it alone."""

    app: str
    generation: int
    uuid: str
    spec_hash: str
    address: str
    process: ProcessIdentity
    ram: tuple[str, ...]


class RunFiles:
    """One folder on the host, closed to writing by others, open for passing through."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the folder; every uid may pass through it to a socket."""
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._folder.chmod(0o711)

    def socket_path(self, app: str, generation: int) -> str:
        """Where the agent listens; raises `EngineError` if the kernel cannot take such a path."""
        path = str(self._place(app, generation) / SOCKET_NAME)
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT_BYTES:
            raise EngineError(f"{path} is too long for a Unix socket: set a shorter run_dir")
        return path

    def make_place(self, app: str, generation: int, uid: int | None) -> None:
        """The folder in which the agent makes its socket."""
        place = self._place(app, generation)
        place.mkdir(mode=0o711, exist_ok=True)
        place.chmod(0o711)
        if uid is not None:
            os.chown(place, uid, uid)

    def errors_path(self, app: str, generation: int) -> Path:
        """What an agent says that cannot begin."""
        return self._folder / f"{app}-{generation}.err"

    def save(self, record: ProcessRecord) -> None:
        """Write a record, whole."""
        path = self._record_path(record.app, record.generation)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record)))
        fresh.chmod(0o600)
        fresh.replace(path)

    def list(self) -> Iterator[ProcessRecord]:
        """Every record; one that cannot be read is skipped, its process has no owner then."""
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                fields = json.loads(path.read_text())
                process = ProcessIdentity(**fields.pop("process"))
                yield ProcessRecord(process=process, ram=tuple(fields.pop("ram")), **fields)

    def find(self, app: str, generation: int) -> ProcessRecord | None:
        """The record of a generation."""
        wanted = (app, generation)
        return next((one for one in self.list() if (one.app, one.generation) == wanted), None)

    def remove(self, app: str, generation: int, ram: tuple[str, ...]) -> None:
        """Delete everything of a generation; nothing there is no error."""
        for place in (self._place(app, generation), *map(Path, ram)):
            shutil.rmtree(place, ignore_errors=True)
        self.errors_path(app, generation).unlink(missing_ok=True)
        self._record_path(app, generation).unlink(missing_ok=True)

    def open_to_all(self, source: Path) -> Path:
        """`source`, or a copy of it if some uid could not read it there (programs, no secrets)."""
        if is_open_to_all(source):
            return source
        marks = source.stat()
        copy = self._folder / f"shared-{source.name}-{marks.st_ino}-{marks.st_mtime_ns}"
        if not copy.exists():
            fresh = copy.with_name(f".{copy.name}")
            shutil.rmtree(fresh, ignore_errors=True)
            if source.is_dir():
                shutil.copytree(source, fresh)
                fresh.chmod(0o755)
            else:
                shutil.copy2(source, fresh)
                fresh.chmod(0o755 if marks.st_mode & stat.S_IXUSR else 0o644)
            fresh.rename(copy)
        return copy

    def _place(self, app: str, generation: int) -> Path:
        return self._folder / f"{app}-{generation}"

    def _record_path(self, app: str, generation: int) -> Path:
        return self._folder / f"{app}-{generation}.json"


def is_open_to_all(path: Path) -> bool:
    """Whether every uid may read a file or folder: its own mode and that of all above it."""
    need = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    if path.stat().st_mode & need != need:
        return False
    return all(above.stat().st_mode & stat.S_IXOTH for above in path.parents)
