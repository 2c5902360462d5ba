"""What crosses the runner's socket must hold."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from runner.events import (
    AppState,
    AppStatus,
    Check,
    Committed,
    DeployResult,
    Line,
    PlanStep,
    RemoveResult,
    RestartResult,
    RunnerFacts,
    Step,
    StepState,
)

STATUS = AppStatus(
    "hello",
    AppState.healthy,
    3,
    "c" * 40,
    "https://hello.localhost:8443",
    "",
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    ("hello.localhost",),
    "docker",
    "fscrypt",
)


@pytest.mark.parametrize(
    "value",
    [
        Step("probe", StepState.done, 1.23456, "200"),
        Line("text"),
        Committed(),
        DeployResult("hello", 1, "c", "https://x", True, 2.0),
        RestartResult("hello", 1, "https://x"),
        RemoveResult("hello", ("key",)),
        PlanStep("start", "hello/1"),
        STATUS,
        Check("engine", True, "docker"),
        RunnerFacts(1, "docker", "fscrypt"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_value_can_be_written_as_json(value: Step) -> None:
    """Whatever is sent on the socket is plain JSON."""
    assert json.loads(json.dumps(value.to_json())) == value.to_json()


def test_a_status_has_exactly_the_promised_keys_first() -> None:
    """`lockgate status --json` lists name, state, generation, commit, url, reason, since."""
    promised = ["name", "state", "generation", "commit", "url", "reason", "since"]
    assert list(STATUS.to_json())[:7] == promised


def test_a_status_comes_back_from_json_as_it_was() -> None:
    """What the client shows is what the runner knows."""
    assert AppStatus.parse_json(STATUS.to_json()) == STATUS


def test_a_status_tells_its_time_in_utc() -> None:
    """`since` is the same text wherever the runner's clock is."""
    local = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    moved = AppStatus("a", AppState.stopped, 0, "", "", "", local)
    assert moved.to_json()["since"] == "2026-01-02T03:04:05+00:00"


def test_a_step_rounds_its_seconds_to_milliseconds() -> None:
    """A line of progress is readable."""
    assert Step("probe", StepState.done, 1.23456).to_json()["seconds"] == 1.235
