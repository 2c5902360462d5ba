"""The volume port: what Lockgate asks of anything that can keep an app's files encrypted.

Invariants: values only, no I/O here; a driver knows nothing of apps, specs or the vault; a key goes
in as bytes and is in no argument list, file, log line or error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runner.errors import RunnerError

KEY_SIZE_BYTES = 64


class VolumeError(RunnerError):
    """A volume cannot be opened, proved, closed or destroyed; one line with the reason."""


class NoSpaceError(VolumeError):
    """The host has no room for a volume of this size; the text has the numbers and the remedy."""


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """A volume that is open now, whoever opened it."""

    volume_id: str
    mountpoint: Path


class VolumeDriver(Protocol):
    """One way to keep volumes. Every method raises `VolumeError`; `key` is 64 random bytes.

    `notes` say what the driver gives up, one line each. A mount point belongs to one volume.
    """

    name: str
    is_encrypted: bool

    @property
    def notes(self) -> Sequence[str]:
        """What this driver gives up on this host, for `status` and `doctor`."""
        ...

    async def probe(self) -> None:
        """Try it for real on a throw-away volume; raise with the reason if it does not work."""
        ...

    async def open(self, volume_id: str, key: bytes, size_bytes: int, mountpoint: Path) -> Path:
        """Make the volume if there is none, open it, prove it; return its directory (0711).

        A volume that is open already is proved and returned; a failed or cancelled open leaves it
        closed. A closed volume of a smaller size is grown; a volume never shrinks.
        """
        ...

    async def prove(self, mountpoint: Path, key: bytes) -> Path:
        """Raise unless what is there now is the volume under this key; return its directory."""
        ...

    async def close(self, mountpoint: Path) -> None:
        """Lock it and unmount; raise if anything is left, saying what. Closed is no error."""
        ...

    async def destroy(self, volume_id: str, mountpoint: Path) -> None:
        """Close and delete, without the key. Nothing there is no error."""
        ...

    async def list_open(self) -> Sequence[OpenVolume]:
        """Every volume of this installation that is open, by whomever it was opened."""
        ...

    async def clean(self) -> Sequence[str]:
        """Remove what a crash left (half-made files, loop devices); a line for each thing left."""
        ...


@dataclass(frozen=True, slots=True)
class Skipped:
    """A driver that was not chosen, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The driver in use and those that were tried before it."""

    driver: VolumeDriver
    skipped: Sequence[Skipped]


async def choose_driver(drivers: Sequence[VolumeDriver]) -> Choice:
    """The first driver whose probe passes. Raises `VolumeError` with every reason if none does."""
    skipped: list[Skipped] = []
    for driver in drivers:
        try:
            await driver.probe()
        except RunnerError as error:
            skipped.append(Skipped(driver.name, str(error)))
        else:
            return Choice(driver, tuple(skipped))
    reasons = "; ".join(f"{item.name}: {item.reason}" for item in skipped)
    raise VolumeError(f"no way to keep volumes encrypted works here ({reasons})")
