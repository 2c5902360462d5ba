"""The steps that change a host, as data: what each is called, and what undoes it.

Invariants: values only; every verb is a row of `UNDO`, so a step whose undo was forgotten cannot be
written; a step never says how it is done (that is `apply`).
"""

from dataclasses import dataclass
from enum import Enum


class Verb(Enum):
    """What a step does; the value is what people read in a plan and in progress lines."""

    create = "create app"
    open_volume = "open volume"
    fetch = "fetch source"
    build = "build environment"
    identify = "issue identity"
    start = "start container"
    probe = "probe"
    publish = "publish"
    drain = "drain"
    unpublish = "close routes"
    stop = "stop container"
    withdraw = "withdraw identity"
    delete_code = "delete code"
    destroy_key = "destroy key"
    remove_containers = "remove containers"
    destroy_volume = "destroy volume"
    forget = "forget app"


UNDO: dict[Verb, Verb | None] = {
    Verb.create: None,
    Verb.open_volume: None,
    Verb.fetch: Verb.delete_code,
    Verb.build: None,
    Verb.identify: Verb.withdraw,
    Verb.start: Verb.stop,
    Verb.probe: None,
    Verb.publish: None,
    Verb.drain: None,
    Verb.unpublish: None,
    Verb.stop: None,
    Verb.withdraw: None,
    Verb.delete_code: None,
    Verb.destroy_key: None,
    Verb.remove_containers: None,
    Verb.destroy_volume: None,
    Verb.forget: None,
}
"""What takes a step back when a later one fails. None: it is harmless to keep (a volume that holds
the build log, an environment that the next try reuses), or it is itself the last word."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the host: `generation` is 0 where a step concerns the whole app."""

    verb: Verb
    app: str
    generation: int = 0
    detail: str = ""

    @property
    def subject(self) -> str:
        """`hello` or `hello/3`."""
        return f"{self.app}/{self.generation}" if self.generation else self.app


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are performed; none = converged."""

    steps: tuple[Step, ...] = ()

    @property
    def is_converged(self) -> bool:
        """Nothing to do."""
        return not self.steps


def build_undo(done: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps that take `done` back, last first."""
    return tuple(
        Step(undo, step.app, step.generation)
        for step in reversed(done)
        if (undo := UNDO[step.verb]) is not None
    )
