"""What lists for people must hold."""

from datetime import UTC, datetime, timedelta

import pytest

from runner.cli.tables import build_checks, build_plan, build_status, format_age
from runner.events import AppState, AppStatus, Check, PlanStep

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def build_app(name: str, state: AppState, reason: str = "") -> AppStatus:
    """An app that has been so for three hours."""
    url = f"https://{name}.localhost:8443"
    since = NOW - timedelta(hours=3)
    return AppStatus(name, state, 12, "4f2a9c1be0d37a55", url, reason, since)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (61, "1m"), (7300, "2h"), (200000, "2d"), (-5, "0s")],
)
def test_an_age_is_one_unit(seconds: int, text: str) -> None:
    """Rounded down; a clock that runs behind is no reason for a negative age."""
    assert format_age(NOW - timedelta(seconds=seconds), NOW) == text


def test_the_status_fits_80_columns() -> None:
    """Columns line up; a reason has a line of its own, unless all is well."""
    reason = "the app ended with exit code 3: ModuleNotFoundError: No module named 'numpy'"
    apps = [
        build_app("crm", AppState.failed, reason),
        build_app("hello", AppState.healthy, "answers"),
    ]
    lines = [line.plain for line in build_status(apps, NOW)]
    assert lines == [
        "NAME   STATE      GEN  COMMIT   SINCE  URL",
        "crm    ● failed    12  4f2a9c1  3h     https://crm.localhost:8443",
        f"       {reason}",
        "hello  ● healthy   12  4f2a9c1  3h     https://hello.localhost:8443",
    ]
    assert len(lines[1]) <= 80


def test_an_app_that_was_never_deployed_has_dashes() -> None:
    """Nothing is made up."""
    app = AppStatus("new", AppState.stopped, 0, "", "", "never deployed", NOW)
    (_, row, reason) = build_status([app], NOW)
    assert row.plain.split() == ["new", "●", "stopped", "-", "-", "0s", "-"]
    assert reason.plain.strip() == "never deployed"


def test_a_reason_cannot_steer_the_terminal() -> None:
    """It may hold an app's own words."""
    app = build_app("a", AppState.failed, "\x1b[2Jboom")
    assert build_status([app], NOW)[-1].plain.strip() == "boom"


def test_a_plan_lines_up() -> None:
    """Verb, subject, detail."""
    steps = [PlanStep("open volume", "hello", "4GiB"), PlanStep("start", "hello/3")]
    lines = [line.plain for line in build_plan([step.to_json() for step in steps])]
    assert lines == ["  open volume  hello    4GiB", "  start        hello/3"]


def test_a_failed_check_says_what_to_do() -> None:
    """A remedy is shown below what is amiss and only there."""
    checks = [Check("engine", True, "docker", "unused"), Check("swap", False, "on", "swapoff -a")]
    lines = [line.plain for line in build_checks([check.to_json() for check in checks])]
    assert lines == ["✓ engine  docker", "✗ swap    on", "          → swapoff -a"]
