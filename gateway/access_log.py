"""One JSON line per request, two per WebSocket, and nothing of what was in them.

Invariants: a line holds no query, header, cookie or body; control characters are escaped; adding
a line never blocks: a thread writes, and what it cannot keep up with is counted and dropped.
"""

import os
import queue
import threading
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path
from typing import NamedTuple

_LONGEST_PATH = 1024
_BATCH_LINES = 256
_BACKLOG_BATCHES = 256


class Line(NamedTuple):
    """What is known of a request once it is over; bytes are bodies as relayed, times seconds.

    `event` is "request", or "open" and "close" for a WebSocket; `reason` is empty when all
    went well; what is not known of a request that could not be read is empty too.
    """

    event: str
    time: float
    status: int
    duration_s: float
    reason: str
    request_id: str
    peer_ip: str
    bytes_in: int = 0
    bytes_out: int = 0
    app: str = ""
    host: str = ""
    method: str = ""
    target: bytes = b""
    upstream: str = ""


def strip_query(target: bytes) -> str:
    """The path of a request target, without query, at most 1 KiB, as text."""
    path, _, _ = target.partition(b"?")
    return path[:_LONGEST_PATH].decode("latin-1")


def build_line(line: Line) -> str:
    """The line as JSON with its line end."""
    return (
        f'{{"time":{line.time:.3f},"event":"{line.event}","app":{quote(line.app)}'
        f',"host":{quote(line.host)},"method":{quote(line.method)}'
        f',"path":{quote(strip_query(line.target))},"status":{line.status}'
        f',"bytes_in":{line.bytes_in},"bytes_out":{line.bytes_out}'
        f',"duration_ms":{line.duration_s * 1000:.1f},"upstream":{quote(line.upstream)}'
        f',"reason":{quote(line.reason)},"request_id":{quote(line.request_id)}'
        f',"peer_ip":{quote(line.peer_ip)}}}\n'
    )


class AccessLog:
    """Collects lines and has a thread write them in batches, at the latest at each `flush`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[str] = []
        self._batches: queue.Queue[str | None] = queue.Queue(_BACKLOG_BATCHES)
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()
        self.dropped = 0

    @classmethod
    def open(cls, path: Path | None) -> "AccessLog":
        """Append to `path`, made readable for its owner only, or write to standard error."""
        if path is None:
            return cls(os.dup(2))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return cls(os.open(path, flags, 0o600))

    def __repr__(self) -> str:
        return f"<AccessLog {len(self._lines)} lines waiting, {self.dropped} dropped>"

    def add(self, line: Line) -> None:
        """Take a line; it is written soon."""
        lines = self._lines
        lines.append(build_line(line))
        if len(lines) >= _BATCH_LINES:
            self.flush()

    def flush(self) -> None:
        """Pass what was collected to the thread."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        try:
            self._batches.put_nowait("".join(lines))
        except queue.Full:
            self.dropped += len(lines)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is left, for at most `timeout_s`, and close."""
        self.flush()
        try:
            self._batches.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            rest = memoryview(batch.encode("ascii"))
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                self.dropped += batch.count("\n")
        os.close(self._descriptor)
