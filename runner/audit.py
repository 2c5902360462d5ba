"""The audit log: one JSON line per change, each with the SHA-256 of the line before it.

Invariants: a line once written is never changed; it names secrets, never their values; an entry is
on the disk before `append` returns. A changed, moved or removed line breaks the chain (lines cut
off at the end do not: keep the last hash elsewhere to notice that). Calls block.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.errors import RunnerError

SCHEMA = 1
FIRST = "0" * 64
LINE_LIMIT_BYTES = 16 * 1024


class AuditError(RunnerError):
    """An entry cannot be written or the chain is broken; the text has the file and the line."""


@dataclass(frozen=True, slots=True)
class Verified:
    """An unbroken chain: how many entries, and the hash of the last line."""

    entries: int
    head: str


class Audit:
    """The log of one installation; several processes may append to it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Audit {self._path}>"

    def append(
        self,
        action: str,
        app: str,
        details: Mapping[str, object] | None = None,
        *,
        actor: int | None = None,
    ) -> None:
        """Add an entry. `actor` is the uid that asked for it, by default our own."""
        entry = {
            "v": SCHEMA,
            "time_s": round(self._clock(), 3),
            "actor": os.geteuid() if actor is None else actor,
            "action": action,
            "app": app,
            "details": dict(details or {}),
        }
        try:
            with _locked(self._path) as opened:
                last = self._mend(opened)
                self._write(opened, entry, last)
        except OSError as error:
            raise AuditError(f"{self._path}: {os.strerror(error.errno or 0).lower()}") from None

    def verify(self) -> Verified:
        """Read the whole chain. Raises `AuditError` with the first line that does not fit."""
        head, number = FIRST, 0
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if _read_previous(line) != head:
                        raise AuditError(f"{self._path}:{number}: the chain is broken here")
                    head = _hash(line)
        except FileNotFoundError:
            return Verified(0, FIRST)
        return Verified(number, head)

    def _write(self, opened: int, entry: dict[str, object], last: bytes) -> None:
        entry["prev"] = _hash(last) if last else FIRST
        line = json.dumps(entry, separators=(",", ":"), default=str).encode() + b"\n"
        if len(line) > LINE_LIMIT_BYTES:
            raise AuditError(f"{self._path}: an entry of {len(line)} bytes is too long")
        os.write(opened, line)
        os.fsync(opened)

    def _mend(self, opened: int) -> bytes:
        """The last line; one that a crash cut short is removed, and that is an entry itself."""
        size = os.fstat(opened).st_size
        tail = os.pread(opened, 2 * LINE_LIMIT_BYTES, max(0, size - 2 * LINE_LIMIT_BYTES))
        whole, _, torn = tail.rpartition(b"\n")
        last = whole.rpartition(b"\n")[2] + b"\n" if whole else b""
        if not torn:
            return last
        os.ftruncate(opened, size - len(torn))
        mended: dict[str, object] = {
            "v": SCHEMA,
            "time_s": round(self._clock(), 3),
            "actor": os.geteuid(),
            "action": "torn entry removed",
            "app": "",
            "details": {"bytes": len(torn)},
        }
        self._write(opened, mended, last)
        return self._mend(opened)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = os.open(path, flags, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened
    finally:
        os.close(opened)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _read_previous(line: bytes) -> str | None:
    try:
        document = json.loads(line)
    except ValueError:
        return None
    previous = document.get("prev") if isinstance(document, dict) else None
    return previous if isinstance(previous, str) and line.endswith(b"\n") else None
