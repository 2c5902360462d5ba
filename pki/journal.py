"""The record of everything issued and refused: JSON lines, each naming the hash of the one before.

Invariants: a line is on disk before `append` returns; no line is ever changed; a line torn by a
crash was never acknowledged and is cut when the journal is opened; one process writes at a time.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pki.errors import JournalError

GENESIS = "0" * 64
_BLOCK_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 20

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The last line: its sequence number (0 = empty) and its SHA-256 in hex."""

    seq: int
    digest: str


class Journal:
    """An open journal; close it to let another process write."""

    def __init__(self, path: Path) -> None:
        """Open or create it, lock it, cut a torn line; raises `JournalError`."""
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}") from None
        try:
            self._lock()
            self.torn_bytes, self.head = self._recover()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __repr__(self) -> str:
        return f"<Journal {self._path} at {self.head.seq}>"

    def append(self, event: str, now: datetime, **fields: object) -> None:
        """Write one line and wait for the disk; raises `JournalError`, then the file is as before.

        The words `seq`, `time`, `event` and `prev` are the journal's own.
        """
        seq = self.head.seq + 1
        own = {"seq": seq, "time": now.isoformat(), "event": event}
        line = json.dumps({**own, **fields, "prev": self.head.digest}, separators=(",", ":"))
        content = line.encode("ascii")
        if len(content) >= _MAX_LINE_BYTES:
            raise JournalError("a line would be longer than 1 MiB")
        self._write(content + b"\n")
        self.head = Head(seq, hashlib.sha256(content).hexdigest())

    def read_since(self, instant: datetime) -> list[Entry]:
        """The lines from `instant` on, oldest first, chain checked; raises `JournalError`."""
        entries: list[Entry] = []
        expected = self.head
        for line in _read_backwards(self._descriptor):
            entry = _parse(line, expected, self._path)
            if datetime.fromisoformat(entry["time"]) < instant:
                break
            entries.append(entry)
            expected = Head(expected.seq - 1, entry["prev"])
        return entries[::-1]

    def close(self) -> None:
        """Let go of the file and its lock; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _lock(self) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise JournalError(f"{self._path} is not a regular file of uid {os.geteuid()}")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(f"{self._path} is in use: another pki is running") from None

    def _recover(self) -> tuple[int, Head]:
        """Cut what follows the last newline; returns how much that was, and the head."""
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _MAX_LINE_BYTES, max(0, size - _MAX_LINE_BYTES))
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        if torn:
            os.ftruncate(self._descriptor, size - torn)
            os.fsync(self._descriptor)
        last = next(_read_backwards(self._descriptor), None)
        if last is None:
            return torn, Head(0, GENESIS)
        try:
            return torn, Head(int(json.loads(last)["seq"]), hashlib.sha256(last).hexdigest())
        except (ValueError, KeyError, TypeError):
            raise JournalError(f"{self._path}: its last line is not a journal line") from None

    def _write(self, content: bytes) -> None:
        size = None
        try:
            size = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, content)
            if written != len(content):
                raise OSError(f"{written} of {len(content)} bytes")
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                if size is not None:
                    os.ftruncate(self._descriptor, size)
            raise JournalError(f"{self._path} cannot be written: {error}") from error


def verify_journal(path: Path) -> Head:
    """Read every line of the file; returns the head, raises `JournalError` naming a bad line."""
    head = Head(0, GENESIS)
    try:
        with path.open("rb") as stream:
            for line in stream:
                content = line.removesuffix(b"\n")
                found = Head(head.seq + 1, hashlib.sha256(content).hexdigest())
                entry = _parse(content, found, path)
                if entry["prev"] != head.digest or line == content:
                    raise JournalError(f"{path}: line {found.seq} does not follow the one before")
                head = found
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from None
    return head


def _parse(line: bytes, expected: Head, path: Path) -> Entry:
    """One line as a dict, if it is the expected one."""
    try:
        entry: Entry = json.loads(line)
        is_whole = entry["seq"] == expected.seq and isinstance(entry["prev"], str)
        datetime.fromisoformat(entry["time"])
    except (ValueError, KeyError, TypeError):
        raise JournalError(f"{path}: line {expected.seq} is not a journal line") from None
    if not is_whole or hashlib.sha256(line).hexdigest() != expected.digest:
        raise JournalError(f"{path}: line {expected.seq} was changed, added or removed")
    return entry


def _read_backwards(descriptor: int) -> Iterator[bytes]:
    """Complete lines without their newline, last first; memory is bounded by a line and a block."""
    position = os.fstat(descriptor).st_size
    rest = b""
    while position > 0:
        size = min(_BLOCK_BYTES, position)
        position -= size
        first, *lines = (os.pread(descriptor, size, position) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        rest = first
    if rest:
        yield rest
