"""Reads the logs on an app's volume: what the app wrote, what its build wrote.

Invariants: a directory that belongs to the agent's uid is read without following a link in it; a
line is passed on as it is, except that control characters cannot reach a terminal.
"""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from runner.errors import RefusedError
from runner.layout import VolumeLayout

TAIL_BYTES = 1024 * 1024
FOLLOW_PAUSE_S = 0.25
_NUMBER = re.compile(r"(?:app|build)-([0-9]+)\.log\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


def find_log(layout: VolumeLayout, generation: int | None, *, is_build: bool) -> Path:
    """The log asked for, or the newest; raises `RefusedError` if there is none."""
    directory = layout.builds if is_build else layout.logs
    kind = "build log" if is_build else "log"
    if generation is not None:
        path = layout.build_log(generation) if is_build else layout.app_log(generation)
        if not path.exists():
            raise RefusedError(f"generation {generation} has no {kind}")
        return path
    numbered = [
        (int(match[1]), path)
        for path in directory.iterdir()
        if (match := _NUMBER.match(path.name)) is not None
    ]
    if not numbered:
        raise RefusedError(f"there is no {kind} yet")
    return max(numbered)[1]


def open_log(path: Path) -> BinaryIO:
    """Open a regular file, never a link; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a file")
    return os.fdopen(descriptor, "rb")


def read_tail(path: Path, lines: int) -> tuple[str, ...]:
    """The last lines of a log; none if it cannot be read."""
    try:
        with open_log(path) as file:
            return _read_last(file, lines)
    except OSError:
        return ()


async def read_log(path: Path, lines: int, *, is_followed: bool) -> AsyncIterator[str]:
    """The last `lines` lines, then what comes; follows the file through its rotation."""
    try:
        file = open_log(path)
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        for line in _read_last(file, lines):
            yield line
        rest = b""
        while is_followed:
            chunk = file.read(TAIL_BYTES)
            if not chunk:
                await asyncio.sleep(FOLLOW_PAUSE_S)
                file = _reopen_if_rotated(file, path)
                continue
            *whole, rest = (rest + chunk).split(b"\n")
            for raw in whole:
                yield clean(raw)
    finally:
        file.close()


def clean(raw: bytes) -> str:
    """Text that cannot steer a terminal, except for its colours."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", raw.decode(errors="replace"))


def _read_last(file: BinaryIO, lines: int) -> tuple[str, ...]:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    text = file.read()
    # What has no line end yet is left for whoever follows.
    end = text.rfind(b"\n") + 1 or len(text)
    file.seek(end - len(text), os.SEEK_CUR)
    return tuple(clean(raw) for raw in text[:end].splitlines()[-lines:]) if lines else ()


def _reopen_if_rotated(file: BinaryIO, path: Path) -> BinaryIO:
    try:
        fresh = open_log(path)
    except OSError:
        return file
    if os.fstat(fresh.fileno()).st_ino == os.fstat(file.fileno()).st_ino:
        fresh.close()
        return file
    file.close()
    return fresh
