"""Which volume drivers there are, and in which order they are tried.

Invariants: volumes in the clear are never tried unless they alone are asked for.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from runner.volumes import Choice, VolumeDriver, VolumeError, choose_driver
from runner.volumes.fscrypt import FscryptDriver
from runner.volumes.gocryptfs import GocryptfsDriver
from runner.volumes.plain import PlainDriver
from runner.volumes.tmpfs import SharedTmpfsDriver, TmpfsDriver

AUTO = ("fscrypt", "gocryptfs", "tmpfs")
KINDS = ("auto", *AUTO, "none")


def build_driver(kind: str, directory: Path) -> VolumeDriver:
    """The driver of this name with its volumes under `directory`."""
    if kind == "fscrypt":
        return FscryptDriver(directory)
    if kind == "gocryptfs":
        return GocryptfsDriver(directory)
    if kind == "tmpfs":
        return TmpfsDriver(directory) if os.geteuid() == 0 else SharedTmpfsDriver(directory)
    if kind == "none":
        return PlainDriver(directory)
    raise VolumeError(f"runner.volumes.encryption: {kind!r} is none of {', '.join(KINDS)}")


def build_drivers(kind: str, directory: Path) -> Sequence[VolumeDriver]:
    """The drivers that `runner.volumes.encryption: <kind>` allows, in the order to try them."""
    return [build_driver(name, directory) for name in (AUTO if kind == "auto" else (kind,))]


async def choose_volume_driver(kind: str, directory: Path) -> Choice:
    """The first of them that works here. Raises `VolumeError` with the remedy if none does."""
    try:
        return await choose_driver(build_drivers(kind, directory))
    except VolumeError as error:
        raise VolumeError(
            f"{error}; install one of them, or set runner.volumes.encryption to none to keep"
            " volumes in the clear"
        ) from None
