"""When an upstream has drained, and what is cut when its deadline has come.

Invariants: nothing is cut before its deadline; an upstream without a deadline is waited for;
this room only says what to do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.upstream import State, Upstream


@dataclass(frozen=True, slots=True)
class ClosePlan:
    """Names of upstreams: `finished` have nothing left, `cut` have to end now.

    `next_deadline` is the instant at which to look again at the latest, None when nothing
    waits for a deadline.
    """

    finished: tuple[str, ...]
    cut: tuple[str, ...]
    next_deadline: float | None


def is_drained(upstreams: Iterable[Upstream]) -> bool:
    """Whether nothing is under way on any of the upstreams."""
    return all(upstream.is_idle for upstream in upstreams)


def plan_close(
    upstreams: Iterable[Upstream], deadlines: Mapping[str, float], now: float
) -> ClosePlan:
    """Decide for every draining upstream at the instant `now`; `deadlines` are by name."""
    finished: list[str] = []
    cut: list[str] = []
    waiting: list[float] = []
    for upstream in upstreams:
        if upstream.state is not State.draining:
            continue
        deadline = deadlines.get(upstream.name)
        if upstream.is_idle:
            finished.append(upstream.name)
        elif deadline is not None and now >= deadline:
            cut.append(upstream.name)
        elif deadline is not None:
            waiting.append(deadline)
    return ClosePlan(tuple(finished), tuple(cut), min(waiting, default=None))
