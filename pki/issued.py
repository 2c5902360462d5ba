"""The leaves that are valid now, as the journal tells of them.

Invariants: pure bookkeeping: what was forgotten or has expired is not in the set.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pki.profiles import Claim, Kind


@dataclass(frozen=True, slots=True)
class IssuedRecord:
    """One leaf: for whom, until when."""

    kind: Kind
    name: str
    generation: int | None
    not_after: datetime


class IssuedSet:
    """Serial (hex) → record."""

    def __init__(self) -> None:
        self._records: dict[str, IssuedRecord] = {}

    def __repr__(self) -> str:
        return f"<IssuedSet {len(self._records)}>"

    def __len__(self) -> int:
        return len(self._records)

    def add(self, serial: str, claim: Claim, not_after: datetime) -> None:
        """Remember a leaf."""
        self._records[serial] = IssuedRecord(claim.kind, claim.name, claim.generation, not_after)

    def find_app(self, app: str, generation: int | None) -> list[str]:
        """Serials of one generation of the app, or of all."""
        return [
            serial
            for serial, record in self._records.items()
            if record.kind is Kind.app
            and record.name == app
            and generation in (None, record.generation)
        ]

    def find_hosts(self, hosts: Collection[str]) -> list[str]:
        """Serials of the visitors' leaves for the hosts."""
        return [
            serial
            for serial, record in self._records.items()
            if record.kind is Kind.visitor and record.name in hosts
        ]

    def drop(self, serials: Iterable[str]) -> None:
        """Forget these; unknown ones are no error."""
        for serial in serials:
            self._records.pop(serial, None)

    def prune(self, now: datetime) -> None:
        """Drop what expired."""
        self.drop([s for s, record in self._records.items() if record.not_after <= now])

    def replay(self, entries: Iterable[Mapping[str, Any]], now: datetime) -> None:
        """Apply the journal's `issued` and `forgotten` lines, oldest first."""
        for entry in entries:
            if entry["event"] == "issued":
                claim = Claim(Kind(entry["kind"]), "", entry["name"], entry["generation"])
                self.add(entry["serial"], claim, datetime.fromisoformat(entry["not_after"]))
            elif entry["event"] == "forgotten":
                self.drop(entry["serials"])
        self.prune(now)
