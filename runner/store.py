"""Desired state on disk: one JSON file per app, and its generations. No secrets.

Invariants: a file is replaced atomically or not at all; a damaged file is told with its path and
hides no other app; a name on disk is an app's name by grammar, so it cannot leave the directory.
Calls block.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.durable import lock_directory, make_private_directory, save_file, sync_directory
from runner.errors import RunnerError

SCHEMA = 1
_APP_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?\Z")


class StoreError(RunnerError):
    """Desired state cannot be read or written; the text names the file."""


class GenerationRecord(BaseModel):
    """One deploy of an app that visitors got to; times are Unix times.

    `drain_s` is when it began to drain: set exactly when `state` is `draining`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Annotated[int, Field(ge=1)]
    commit: str
    env_hash: str
    spec_hash: str
    created_s: float
    state: Literal["published", "draining"]
    drain_s: float | None = None


class AppRecord(BaseModel):
    """What an app shall be. `slot` decides its uids and its network; `spec` is its spec as JSON.

    An empty `spec` is an app that has secrets and was never deployed. `last_generation` is the
    highest number ever given out. `state`, `reason` and `since_s` are what `status` shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    uuid: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    slot: Annotated[int, Field(ge=0)]
    spec: dict[str, Any]
    desired: Literal["running", "stopped"]
    generations: tuple[GenerationRecord, ...] = ()
    last_generation: Annotated[int, Field(ge=0)] = 0
    state: str = "stopped"
    reason: str = ""
    since_s: float = 0.0

    def find_generation(self, number: int) -> GenerationRecord | None:
        """The generation of this number, if the app has it."""
        return next((item for item in self.generations if item.number == number), None)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that could not be read, and why, in one line."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """All apps that could be read, sorted by name, and all files that could not."""

    apps: Sequence[AppRecord]
    damaged: Sequence[Damaged]


class Store:
    """The directory of app records."""

    def __init__(self, directory: Path) -> None:
        make_private_directory(directory)
        self._directory = directory

    def __repr__(self) -> str:
        return f"<Store {self._directory}>"

    def list(self) -> Listing:
        """Read every record."""
        apps: list[AppRecord] = []
        damaged: list[Damaged] = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                apps.append(_load(path))
            except FileNotFoundError:
                continue
            except StoreError as error:
                damaged.append(Damaged(path, str(error)))
        return Listing(apps, damaged)

    def load(self, name: str) -> AppRecord | None:
        """The record of this app, None if there is none. Raises `StoreError` if it is damaged."""
        try:
            return _load(self._path(name))
        except FileNotFoundError:
            return None

    def save(self, record: AppRecord) -> None:
        """Write a record durably. Raises `StoreError` if another app has its slot."""
        with lock_directory(self._directory):
            for other in self.list().apps:
                if other.name != record.name and other.slot == record.slot:
                    raise StoreError(f"slot {record.slot} belongs to app {other.name!r}")
            document = {"v": SCHEMA, **record.model_dump(mode="json")}
            save_file(self._path(record.name), json.dumps(document, indent=1).encode() + b"\n")

    def delete(self, name: str) -> bool:
        """Remove a record; False if there was none."""
        with lock_directory(self._directory):
            try:
                self._path(name).unlink()
            except FileNotFoundError:
                return False
            sync_directory(self._directory)
        return True

    def find_free_slot(self, limit: int) -> int:
        """The lowest slot below `limit` that no readable or damaged record can claim."""
        listing = self.list()
        if listing.damaged:
            reasons = "; ".join(item.reason for item in listing.damaged)
            raise StoreError(f"cannot tell which slots are free: {reasons}")
        return pick_slot((app.slot for app in listing.apps), limit)

    def _path(self, name: str) -> Path:
        if not _APP_NAME.match(name):
            raise StoreError(f"{name[:60]!r} is not an app's name")
        return self._directory / f"{name}.json"


def pick_slot(taken: Iterable[int], limit: int) -> int:
    """The lowest number that is not taken. Raises `StoreError` at `limit`."""
    used = set(taken)
    for slot in range(limit):
        if slot not in used:
            return slot
    raise StoreError(f"no slot left: all {limit} are taken; remove an app first")


def _load(path: Path) -> AppRecord:
    """Raises `FileNotFoundError`, or `StoreError` with the file's path and what is wrong in it."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None
    except ValueError as error:
        raise StoreError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict) or document.pop("v", None) != SCHEMA:
        raise StoreError(f"{path}: not an app record of version {SCHEMA}")
    try:
        record = AppRecord.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{path}: {where}: {first['msg']}") from None
    if record.name != path.stem:
        raise StoreError(f"{path}: holds the record of app {record.name!r}")
    return record
