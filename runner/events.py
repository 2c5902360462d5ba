"""What the runner says of its work: progress, results, states; the values that cross its socket.

Invariants: frozen values only, nothing here awaits or reads a clock; `to_json` of every value
holds only what `json.dumps` takes and what may be printed; no value carries a secret.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Self

Json = dict[str, Any]


class AppState(Enum):
    """The state of an app as `lockgate status` shows it."""

    building = "building"
    starting = "starting"
    healthy = "healthy"
    unhealthy = "unhealthy"
    asleep = "asleep"
    waking = "waking"
    draining = "draining"
    stopped = "stopped"
    failed = "failed"


class StepState(Enum):
    """How far a step is. `skipped` means that nothing had to be done."""

    start = "start"
    done = "done"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of one step; `seconds` is the time since its start (0 at `start`)."""

    name: str
    state: StepState
    seconds: float = 0.0
    detail: str = ""

    def to_json(self) -> Json:
        """One NDJSON line of the socket."""
        return {
            "event": "step",
            "name": self.name,
            "state": self.state.value,
            "seconds": round(self.seconds, 3),
            "detail": self.detail,
        }


@dataclass(frozen=True, slots=True)
class Line:
    """One line of output of a step (a build, a fetch), without its line end."""

    text: str

    def to_json(self) -> Json:
        """One NDJSON line of the socket."""
        return {"event": "line", "text": self.text}


@dataclass(frozen=True, slots=True)
class Committed:
    """The point of no return: from here the operation runs to its end, even if its caller leaves.

    Until it is reported, a deploy whose caller hangs up is cancelled and takes its steps back.
    """

    def to_json(self) -> Json:
        """One NDJSON line of the socket."""
        return {"event": "committed"}


Event = Step | Line | Committed


@dataclass(frozen=True, slots=True)
class DeployResult:
    """A deploy that succeeded; `is_changed` is false when everything was converged already."""

    app: str
    generation: int
    commit: str
    url: str
    is_changed: bool = True
    seconds: float = 0.0

    def to_json(self) -> Json:
        """The fields that follow `"ok": true` in the result line."""
        return {
            "app": self.app,
            "generation": self.generation,
            "commit": self.commit,
            "url": self.url,
            "changed": self.is_changed,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class RestartResult:
    """A restart that succeeded: a new generation with the commit and environment of before."""

    app: str
    generation: int
    url: str

    def to_json(self) -> Json:
        """The fields that follow `"ok": true` in the result line."""
        return {"app": self.app, "generation": self.generation, "url": self.url}


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """A removal that succeeded; `removed` names each thing that is gone, for people."""

    app: str
    removed: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """The fields that follow `"ok": true` in the result line."""
        return {"app": self.app, "removed": list(self.removed)}


Result = DeployResult | RestartResult | RemoveResult


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step that a deploy would take, in words: `start` `hello/3` `0.5 cores, 1GiB`."""

    verb: str
    subject: str
    detail: str = ""

    def to_json(self) -> Json:
        """An element of the plan's list."""
        return {"verb": self.verb, "subject": self.subject, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class AppStatus:
    """What is known of one app. `since` (aware) is the time of the last change of `state`.

    `generation` is 0 and `commit` empty before the first deploy; `volume` is the encryption driver
    in use, `none` when the operator gave encryption up.
    """

    name: str
    state: AppState
    generation: int
    commit: str
    url: str
    reason: str
    since: datetime
    hosts: tuple[str, ...] = ()
    engine: str = ""
    volume: str = ""

    def to_json(self) -> Json:
        """An element of `lockgate status --json`."""
        return {
            "name": self.name,
            "state": self.state.value,
            "generation": self.generation,
            "commit": self.commit,
            "url": self.url,
            "reason": self.reason,
            "since": self.since.astimezone(UTC).isoformat(timespec="seconds"),
            "hosts": list(self.hosts),
            "engine": self.engine,
            "volume": self.volume,
        }

    @classmethod
    def parse_json(cls, value: Json) -> Self:
        """The inverse of `to_json`."""
        return cls(
            name=value["name"],
            state=AppState(value["state"]),
            generation=value["generation"],
            commit=value["commit"],
            url=value["url"],
            reason=value["reason"],
            since=datetime.fromisoformat(value["since"]),
            hosts=tuple(value.get("hosts", ())),
            engine=value.get("engine", ""),
            volume=value.get("volume", ""),
        )


@dataclass(frozen=True, slots=True)
class Check:
    """One finding of `lockgate doctor`: is it as it should be, what was seen, what to do if not."""

    name: str
    is_ok: bool
    detail: str
    remedy: str = ""

    def to_json(self) -> Json:
        """An element of `lockgate doctor --json`."""
        return {
            "name": self.name,
            "ok": self.is_ok,
            "detail": self.detail,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class RunnerFacts:
    """What the runner tells about itself once it serves: engine, isolation given up, volume driver.

    `pid` is the runner's; `gives_up` and `notes` are lines for people.
    """

    pid: int
    engine: str
    volume: str
    gives_up: str = ""
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> Json:
        """The answer to `GET /facts`."""
        return {
            "pid": self.pid,
            "engine": self.engine,
            "volume": self.volume,
            "gives_up": self.gives_up,
            "notes": list(self.notes),
        }
