"""Lists for people: apps, plan steps, findings; in 80 columns, coloured where there is a terminal.

**Invariants**: pure; a colour never says what the words do not.
"""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from runner.cli.terminal import clean
from runner.events import AppState, AppStatus, Json

STYLES = {
    AppState.healthy: "green",
    AppState.unhealthy: "red",
    AppState.failed: "red",
    AppState.stopped: "dim",
    AppState.asleep: "blue",
}
HEADS = ("NAME", "STATE", "GEN", "COMMIT", "SINCE", "URL")


def format_age(since: datetime, now: datetime) -> str:
    """`12s`, `5m`, `3h`, `4d`: one unit, rounded down."""
    seconds = max(0, int((now - since).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def build_status(apps: Sequence[AppStatus], now: datetime) -> list[Text]:
    """One line per app; a second, indented one where there is a reason to tell."""
    rows = [
        (
            app.name,
            f"● {app.state.value}",
            str(app.generation) if app.generation else "-",
            app.commit[:7] or "-",
            format_age(app.since, now),
            app.url or "-",
        )
        for app in apps
    ]
    widths = [max(len(row[i]) for row in (HEADS, *rows)) for i in range(len(HEADS))]
    lines = [_build_row(HEADS, widths, "dim", "dim")]
    for app, row in zip(apps, rows, strict=True):
        lines.append(_build_row(row, widths, STYLES.get(app.state, "yellow"), ""))
        if app.reason and app.state is not AppState.healthy:
            lines.append(Text(f"{'':<{widths[0]}}  {clean(app.reason)}", style="dim"))
    return lines


def _build_row(row: Sequence[str], widths: Sequence[int], state_style: str, style: str) -> Text:
    line = Text()
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        padded = f"{cell:>{width}}" if HEADS[index] == "GEN" else f"{cell:<{width}}"
        line.append(padded + "  ", style=state_style if index == 1 else style)
    line.rstrip()
    return line


def build_plan(steps: Sequence[Json]) -> list[Text]:
    """Verb, subject and detail of each step, in columns."""
    verbs = max((len(step["verb"]) for step in steps), default=0)
    subjects = max((len(step["subject"]) for step in steps), default=0)
    lines = []
    for step in steps:
        line = Text().append(f"  {step['verb']:<{verbs}}", style="bold")
        line.append(f"  {step['subject']:<{subjects}}")
        line.append(f"  {clean(step['detail'])}", style="dim")
        line.rstrip()
        lines.append(line)
    return lines


def build_checks(checks: Sequence[Json]) -> list[Text]:
    """A mark, a name and what was seen; below a failed one what to do."""
    width = max((len(check["name"]) for check in checks), default=0)
    lines = []
    for check in checks:
        line = Text()
        line.append("✓ " if check["ok"] else "✗ ", style="green" if check["ok"] else "bold red")
        line.append(f"{check['name']:<{width}}  ")
        line.append(clean(check["detail"]), style="dim" if check["ok"] else "")
        lines.append(line)
        if check["remedy"] and not check["ok"]:
            lines.append(Text(f"  {'':<{width}}  → {clean(check['remedy'])}", style="yellow"))
    return lines
