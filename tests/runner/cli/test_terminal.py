"""What a command says must hold."""

import io

import pytest
from rich.console import Console

from pki import ConfigError
from runner.cli.terminal import Options, Terminal, UsageError, clean, find_code, perform
from runner.errors import RefusedError, RunnerError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain \u00fc \u2713", "plain \u00fc \u2713"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\rb\x08c", "a\ufffdb\ufffdc"),
        ("tab\tstays", "tab\tstays"),
        ("\x9b31m", "\ufffd31m"),
        ("\x1bc", "\ufffdc"),
    ],
)
def test_foreign_text_cannot_steer_a_terminal(text: str, expected: str) -> None:
    """Colours, titles, cursor movements and links of an app are taken out."""
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunnerError("x"), 1),
        (RefusedError("x"), 2),
        (UsageError("x"), 2),
        (ConfigError("f", 1, "k", "p"), 2),
        (OSError("x"), 1),
    ],
)
def test_the_exit_code_tells_misuse_from_failure(error: Exception, code: int) -> None:
    """1 failed, 2 bad usage or configuration."""
    assert find_code(error) == code


def test_an_error_is_one_line_on_stderr_with_the_end_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What went wrong first, then the log's last lines and its place."""

    async def command(terminal: Terminal) -> int:
        raise RunnerError("it ended", log_tail=("last \x1b[1mwords",), log_path="/l.log")

    assert perform(Options(), command) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "error: it ended",
        "  last words",
        "  the whole log: /l.log",
    ]


def test_with_json_an_error_is_a_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """A script reads one place only."""

    async def command(terminal: Terminal) -> int:
        terminal.print("for people")
        raise RunnerError("no")

    assert perform(Options(json=True), command) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ('{"ok": false, "error": "no"}\n', "")


def test_an_interrupt_is_130() -> None:
    """As every shell tool's."""

    async def command(terminal: Terminal) -> int:
        raise KeyboardInterrupt

    assert perform(Options(), command) == 130


def test_markup_in_foreign_text_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets of an app's message are printed as they are."""
    terminal = Terminal(Options())
    terminal.print_error(RunnerError("[red]x[/red] :smile:"))
    assert "[red]x[/red] :smile:" in capsys.readouterr().err


def test_a_pipe_is_not_live() -> None:
    """Spinners are for people."""
    terminal = Terminal(Options())
    terminal.out = Console(file=io.StringIO())
    assert not terminal.is_live
    terminal.out = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    assert terminal.is_live
