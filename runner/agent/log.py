"""The app's log: what it writes to stdout and stderr, a time before each line, rotated by size.

Invariants: a write never raises, whatever the disk says; the files together stay below
`max_bytes` times `files`; a line that the app writes cannot pass for one of the agent's.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE_BYTES = 16 * 1024
OWN_PREFIX = b"agent: "

_CUT = b" [cut]"
_FORGED = OWN_PREFIX.rstrip()
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class LogFile:
    """`path`, moved to `path.1`, `path.2`, … when it would pass `max_bytes`; `files` in all.

    What cannot be written is counted in `lost`, and the path is tried again with the next write.
    """

    def __init__(self, path: str, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._fd = -1
        self._size = 0
        self.lost = 0

    def write(self, text: bytes) -> bool:
        """Append whole lines; False if the disk did not take all of them."""
        try:
            if self._fd < 0:
                self._open()
            if self._size and self._size + len(text) > self._max_bytes:
                self._rotate()
            written = os.write(self._fd, text)
        except OSError:
            self.lost += 1
            return False
        self._size += written
        if written < len(text):  # a full disk takes what fits
            self.lost += 1
            return False
        return True

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = os.open(self._path, _FLAGS, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        """Shift the files by one; the oldest is overwritten. What fails keeps the file as it is."""
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._files))]
        for older, newer in zip(reversed(names), list(reversed(names))[1:]):  # noqa: B905 - 3.9
            if os.path.lexists(newer):
                os.rename(newer, older)
        if self._files == 1:
            os.unlink(self._path)
        self.close()
        self._open()


class Log:
    """Lines from the app's pipe and the agent's own, in the order in which they came."""

    def __init__(self, file: LogFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._rest = b""
        self._is_cut = False
        self._second = -1
        self._stamp = ""

    def write_own(self, text: str) -> None:
        """One line of the agent; control characters are shown, not sent."""
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
        self._put([OWN_PREFIX + shown.encode("utf-8", "replace")])

    def write_app(self, piece: bytes) -> None:
        """The next bytes of the app's output; an unfinished line waits for its end."""
        first, *others = piece.split(b"\n")
        head = self._rest + first
        if not others:
            self._keep(head)
            return
        lines = [] if self._is_cut else [_tidy(head)]
        lines.extend(_tidy(line) for line in others[:-1])
        self._rest, self._is_cut = b"", False
        self._put(lines)
        self._keep(others[-1])

    def flush(self) -> None:
        """The app writes no more: its unfinished line is a line."""
        if self._rest:
            self._put([_tidy(self._rest)])
        self._rest, self._is_cut = b"", False

    def _keep(self, start: bytes) -> None:
        """Remember the start of a line; cut it as soon as it is too long, and skip its end."""
        if self._is_cut:
            return
        if len(start) > MAX_LINE_BYTES:
            self._put([_tidy(start)])
            self._rest, self._is_cut = b"", True
        else:
            self._rest = start

    def _put(self, lines: list[bytes]) -> None:
        if not lines:
            return
        stamp = self._build_stamp()
        if self._file.lost:
            count, self._file.lost = self._file.lost, 0
            text = b"%d writes to this log failed before this line" % count
            if not self._file.write(b"\n" + stamp + OWN_PREFIX + text + b"\n"):
                self._file.lost = count + 1
                return
        self._file.write(stamp + (b"\n" + stamp).join(lines) + b"\n")

    def _build_stamp(self) -> bytes:
        """RFC 3339 in UTC with milliseconds, and a space."""
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z ".encode()


def _tidy(line: bytes) -> bytes:
    if line.endswith(b"\r"):
        line = line[:-1]
    if len(line) > MAX_LINE_BYTES:
        line = line[:MAX_LINE_BYTES] + _CUT
    return b"app: " + line if line.startswith(_FORGED) else line


class Refusals:
    """Reports of refused peers, `burst` at once and then `per_s`; the others are counted."""

    def __init__(self, log: Log, monotonic: Callable[[], float], burst: int, per_s: float) -> None:
        self._log = log
        self._monotonic = monotonic
        self._burst = burst
        self._per_s = per_s
        self._tokens = float(burst)
        self._last = monotonic()
        self._unsaid = 0

    def report(self, peer: str, reason: str) -> None:
        """`agent: refused <peer>: <reason>`, if it is not too many."""
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_s)
        self._last = now
        if self._tokens < 1:
            self._unsaid += 1
            return
        self._tokens -= 1
        if self._unsaid:
            self._log.write_own(f"refused {self._unsaid} more, not listed")
            self._unsaid = 0
        self._log.write_own(f"refused {peer}: {reason}")
