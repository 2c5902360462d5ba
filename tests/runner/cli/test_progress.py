"""What is shown of an operation must hold."""

import io

import pytest
from rich.console import Console

from runner.cli.progress import (
    LiveProgress,
    PlainProgress,
    build_plain_step,
    build_step,
    format_seconds,
    open_progress,
)
from runner.cli.terminal import Options, Terminal
from runner.events import Json, Line, Step, StepState

STORY: list[Json] = [
    Step("open volume", StepState.start).to_json(),
    Step("open volume", StepState.done, 0.21).to_json(),
    Step("build environment", StepState.start).to_json(),
    Line("Resolved \x1b[32m41\x1b[0m packages").to_json(),
    Step("build environment", StepState.failed, 65.2, "exit code 1").to_json(),
    Step("probe", StepState.skipped, detail="not reached").to_json(),
]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (0.25, "0.2s"), (59.9, "59.9s"), (125.4, "2m05s")]
)
def test_seconds_read_well(seconds: float, text: str) -> None:
    """Tenths below a minute, minutes above."""
    assert format_seconds(seconds) == text


def build_terminal(is_live: bool) -> tuple[Terminal, io.StringIO]:
    """A terminal of 80 columns in memory."""
    terminal, page = Terminal(Options()), io.StringIO()
    environ = {"TERM": "xterm-256color"}
    terminal.out = Console(file=page, force_terminal=is_live, width=80, _environ=environ)
    return terminal, page


def test_a_pipe_gets_one_line_per_ended_step() -> None:
    """`✓ open volume 0.2s`; output is indented; no escape sequence anywhere."""
    terminal, page = build_terminal(is_live=False)
    with open_progress(terminal) as view:
        assert isinstance(view, PlainProgress)
        for event in STORY:
            view.take(event)
    assert page.getvalue().splitlines() == [
        "✓ open volume 0.2s",
        "    Resolved 41 packages",
        "✗ build environment 1m05s exit code 1",
        "- probe not reached",
    ]


def test_a_terminal_keeps_the_output_of_a_failed_step() -> None:
    """Ended steps stay; a build's output stays when it tells why."""
    terminal, page = build_terminal(is_live=True)
    with open_progress(terminal) as view:
        assert isinstance(view, LiveProgress)
        for event in STORY:
            view.take(event)
    shown = page.getvalue()
    assert "open volume" in shown
    assert "Resolved 41 packages" in shown
    assert "exit code 1" in shown


def test_a_terminal_drops_the_output_of_a_step_that_succeeded() -> None:
    """Nobody reads a good build."""
    terminal, page = build_terminal(is_live=True)
    done = Step("build environment", StepState.done, 1.0).to_json()
    with open_progress(terminal) as view:
        for event in [STORY[2], Line("noise").to_json(), done]:
            view.take(event)
    after = page.getvalue().split("build environment")[-1]
    assert "noise" not in after


def test_json_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout is the result's alone."""
    with open_progress(Terminal(Options(json=True))) as view:
        for event in STORY:
            view.take(event)
    assert capsys.readouterr().out == ""


def test_a_line_is_cut_to_the_width() -> None:
    """A long detail never breaks the list of steps."""
    event = Step("probe", StepState.done, 1.0, "x" * 200).to_json()
    assert build_step(event, 60).cell_len == 60
    assert build_plain_step(event).endswith("x" * 200)
