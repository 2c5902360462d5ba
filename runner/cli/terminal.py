"""What a command says: for people on a terminal or in a pipe, or as one JSON document.

**Invariants**: with `--json` stdout holds JSON and nothing else; a user's mistake is one line,
never a traceback; text that an app wrote cannot steer the operator's terminal.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from gateway import GatewayError
from pki import ConfigError, PkiError
from runner.errors import RefusedError, RunnerError

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Options:
    """What every command takes."""

    config: Path | None = None
    "Configuration file."
    json: Annotated[bool, Parameter(negative=())] = False
    "Print JSON instead of text for people."


_read_clock = partial(datetime.now, UTC)


class UsageError(Exception):
    """The command line asks for something that it cannot mean; one line with the remedy."""


class Terminal:
    """Standard output and error of one command, and the clock it tells ages by."""

    def __init__(self, options: Options, clock: Callable[[], datetime] = _read_clock) -> None:
        self.clock = clock
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        self.is_json = options.json
        self.out = Console(highlight=False, emoji=False, markup=False)
        self.err = Console(stderr=True, highlight=False, emoji=False, markup=False)

    @property
    def is_live(self) -> bool:
        """Whether a person looks at stdout as it comes."""
        return self.out.is_terminal and not self.out.is_dumb_terminal and not self.is_json

    def print(self, text: Text | str = "") -> None:
        """One or more lines for people; nothing with `--json`."""
        if not self.is_json:
            self.out.print(text, soft_wrap=True)
            self.out.file.flush()

    def print_json(self, value: Any) -> None:
        """The document that `--json` promises."""
        sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")
        sys.stdout.flush()

    def print_error(self, error: BaseException, *, status: int = 0) -> int:
        """Say what went wrong; returns the exit code."""
        code = find_code(error, status)
        if self.is_json:
            self.print_json({"ok": False, "error": str(error)})
            return code
        line = Text().append("error: ", style="bold red").append(clean(str(error)))
        self.err.print(line, soft_wrap=True)
        for last in getattr(error, "log_tail", ()):
            self.err.print(Text(f"  {clean(last)}", style="dim"), soft_wrap=True)
        if log_path := getattr(error, "log_path", ""):
            self.err.print(Text(f"  the whole log: {log_path}", style="dim"), soft_wrap=True)
        return code


def clean(text: str) -> str:
    """Foreign text without what would steer a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", _ESCAPES.sub("", text))


def find_code(error: BaseException, status: int = 0) -> int:
    """The exit code that an error means."""
    is_misuse = isinstance(error, ConfigError | UsageError | RefusedError)
    return MISUSED if is_misuse or status == RefusedError.status else FAILED


def perform(options: Options, command: Callable[[Terminal], Coroutine[Any, Any, int]]) -> int:
    """Run a command to its exit code; every foreseen error becomes one line."""
    terminal = Terminal(options)
    try:
        return asyncio.run(command(terminal))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (ConfigError, UsageError, RunnerError, PkiError, GatewayError, OSError) as error:
        return terminal.print_error(error)
