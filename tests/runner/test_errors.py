"""What the runner's errors must hold."""

from runner.errors import (
    BusyError,
    RefusedError,
    RunnerError,
    StartError,
    UnknownAppError,
    UnreachableError,
)


def test_each_kind_has_a_status_of_its_own() -> None:
    """The client turns a status back into the kind of error that it was."""
    kinds = [RunnerError, UnknownAppError, BusyError, RefusedError, UnreachableError]
    assert len({kind.status for kind in kinds}) == len(kinds)


def test_a_start_error_is_a_runner_error() -> None:
    """Commands print it as one line."""
    assert isinstance(StartError("no"), RunnerError)


def test_an_error_carries_the_end_of_a_log() -> None:
    """A failed deploy shows why with the app's own words."""
    error = RunnerError("it failed", log_tail=("a", "b"), log_path="/logs/app-1.log")
    assert (str(error), error.log_tail, error.log_path) == (
        "it failed",
        ("a", "b"),
        "/logs/app-1.log",
    )
