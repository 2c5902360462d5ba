"""What is the case on this host, as values that a plan can be made from.

Invariants: pure; an observation is never mixed with a wish; a container counts as ours only when
its app's uuid is the recorded one, so a leftover of a removed app of the same name is foreign.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.engines import ContainerState, ObservedContainer
from runner.store import AppRecord, GenerationRecord


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one app: its record (None before its first deploy) and what runs."""

    name: str
    record: AppRecord | None
    is_volume_open: bool
    running: frozenset[int]
    exited: tuple[ObservedContainer, ...]

    @property
    def published(self) -> GenerationRecord | None:
        """The generation that visitors get, whether or not it runs just now."""
        if self.record is None:
            return None
        return next((g for g in self.record.generations if g.state == "published"), None)

    @property
    def next_generation(self) -> int:
        """The number that the next deploy gets; a number is never used twice."""
        return 1 if self.record is None else self.record.last_generation + 1

    @property
    def is_serving(self) -> bool:
        """The published generation runs on an open volume and has answered."""
        published = self.published
        if self.record is None or published is None or self.record.state != "healthy":
            return False
        return self.is_volume_open and published.number in self.running


def build_standing(
    name: str,
    record: AppRecord | None,
    containers: Sequence[ObservedContainer],
    is_volume_open: bool,
) -> Standing:
    """Sort the engine's containers into what this app's record accounts for."""
    ours = [c for c in containers if record is not None and c.uuid == record.uuid]
    return Standing(
        name=name,
        record=record,
        is_volume_open=is_volume_open,
        running=frozenset(c.generation for c in ours if c.state is ContainerState.running),
        exited=tuple(c for c in ours if c.state is ContainerState.exited),
    )


def list_orphans(
    records: Sequence[AppRecord], containers: Sequence[ObservedContainer]
) -> tuple[ObservedContainer, ...]:
    """Containers of this installation that no record accounts for."""
    known = {(r.uuid, g.number) for r in records for g in r.generations}
    return tuple(c for c in containers if (c.uuid, c.generation) not in known)
