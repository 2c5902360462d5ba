"""The steps of an operation as they happen: a living list on a terminal, plain lines elsewhere.

**Invariants**: a step that ended is one line that stays; on a terminal a build's output is shown
while it runs and kept only when its step fails.
"""

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from runner.cli.terminal import Terminal, clean
from runner.events import Json

LINES_SHOWN = 6
LINES_KEPT = 30
NAME_WIDTH = 20
MARKS = {"done": ("✓", "green"), "failed": ("✗", "bold red"), "skipped": ("-", "dim")}


def format_seconds(seconds: float) -> str:
    """`0.2s`, `12.3s`, `2m05s`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s"


class PlainProgress:
    """One line per ended step, each line of output as it comes."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def take(self, event: Json) -> None:
        """Show an event."""
        if event["event"] == "line":
            self._terminal.print(f"    {clean(event['text'])}")
        elif event["event"] == "step" and event["state"] in MARKS:
            self._terminal.print(build_plain_step(event))


class LiveProgress:
    """Ended steps above, the running one with a spinner and its last lines of output below."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._spinner: Spinner | None = None
        self._name, self._began_s = "", 0.0
        self._live = Live(
            console=terminal.out,
            get_renderable=self._build_view,
            refresh_per_second=10,
            transient=True,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spinner = None
        self._live.stop()

    def take(self, event: Json) -> None:
        """Show an event."""
        if event["event"] == "line":
            self._lines.append(clean(event["text"]))
        elif event["event"] == "step":
            self._take_step(event)

    def _take_step(self, event: Json) -> None:
        if event["state"] == "start":
            self._lines.clear()
            self._spinner = Spinner("dots", style="cyan")
            self._name, self._began_s = event["name"], time.monotonic()
            return
        self._spinner = None
        console = self._terminal.out
        if event["state"] == "failed":
            for line in self._lines:
                console.print(Text(f"    {line}", style="dim"), soft_wrap=True)
        console.print(build_step(event, console.width), no_wrap=True, overflow="ellipsis")
        self._lines.clear()

    def _build_view(self) -> Group:
        if self._spinner is None:
            return Group()
        text = Text(f"{self._name:<{NAME_WIDTH}}")
        text.append(f" {format_seconds(time.monotonic() - self._began_s):>6}", style="dim")
        self._spinner.update(text=text)
        shown = list(self._lines)[-LINES_SHOWN:]
        tail = [
            Text(f"    {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in shown
        ]
        return Group(self._spinner, *tail)


def open_progress(terminal: Terminal) -> PlainProgress | LiveProgress:
    """The view that fits where stdout leads."""
    return LiveProgress(terminal) if terminal.is_live else PlainProgress(terminal)


def build_step(event: Json, width: int) -> Text:
    """The line of an ended step on a terminal: mark, name, time, detail, cut to `width`."""
    mark, style = MARKS[event["state"]]
    is_skipped = event["state"] == "skipped"
    line = Text().append(f"{mark} ", style=style)
    line.append(f"{event['name']:<{NAME_WIDTH}}", style="dim" if is_skipped else "")
    taken = "" if is_skipped else format_seconds(event["seconds"])
    line.append(f" {taken:>6}", style="dim")
    if event["detail"]:
        line.append(f"  {clean(event['detail'])}", style="dim")
    line.truncate(width, overflow="ellipsis")
    return line


def build_plain_step(event: Json) -> str:
    """The same in a pipe: `✓ open volume 0.2s`."""
    words = [MARKS[event["state"]][0], event["name"]]
    if event["state"] != "skipped":
        words.append(format_seconds(event["seconds"]))
    if event["detail"]:
        words.append(clean(event["detail"]))
    return " ".join(words)
