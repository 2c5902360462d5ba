"""The commands that ask the runner about apps: deploy, plan, status, logs, restart, remove, doctor.

**Invariants**: nothing is decided here that the runner can decide; a stream's last event is its
result, and a stream that ends without one is an error.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from runner.cli.progress import format_seconds, open_progress
from runner.cli.tables import build_checks, build_plan, build_status
from runner.cli.terminal import DONE, FAILED, Options, Terminal, UsageError, clean, perform
from runner.client import RunnerClient, check_result
from runner.config import LockgateConfig, find_config_path, load_config, load_spec
from runner.errors import UnreachableError
from runner.events import Check, Json
from runner.spec.grammar import is_app_name

NO_OPTIONS = Options()


def load_settings(options: Options) -> LockgateConfig:
    """The configuration that the command line and the environment name."""
    return load_config(find_config_path(options.config, os.environ))


def check_app(name: str) -> str:
    """An app's name from the command line; a path is a common slip."""
    if is_app_name(name):
        return name
    hint = " (this takes an app's name, not its file)" if "/" in name or "." in name else ""
    raise UsageError(f"{name!r} is not an app's name{hint}")


def deploy(path: Path, /, *, options: Options = NO_OPTIONS) -> int:
    """Deploy PATH, an app's YAML."""

    async def command(terminal: Terminal) -> int:
        config = load_settings(options)
        spec = load_spec(path, config)
        async with RunnerClient(config.socket_path) as client:
            result = await follow(terminal, client.deploy(spec), "deploy", spec.name)
        if terminal.is_json:
            terminal.print_json(result)
        else:
            print_deployed(terminal, result)
        return DONE

    return perform(options, command)


def print_deployed(terminal: Terminal, result: Json) -> None:
    """The last lines of a deploy: what came of it, and the address by itself."""
    what = f"{result['app']} generation {result['generation']}, commit {result['commit'][:7]}"
    if result["changed"]:
        terminal.print(f"deployed {what} in {format_seconds(result['seconds'])}")
    else:
        terminal.print(f"nothing to do: {what} is what the file describes")
    terminal.print(Text(result["url"], style=f"bold cyan link {result['url']}"))


def plan(path: Path, /, *, options: Options = NO_OPTIONS) -> int:
    """Plan PATH, an app's YAML."""

    async def command(terminal: Terminal) -> int:
        config = load_settings(options)
        spec = load_spec(path, config)
        async with RunnerClient(config.socket_path) as client:
            steps = await client.fetch_plan(spec)
        if terminal.is_json:
            terminal.print_json({"app": spec.name, "steps": steps})
        elif not steps:
            terminal.print(f"nothing to do: {spec.name} is what {path} describes")
        else:
            terminal.print(f"a deploy of {spec.name} would")
            for line in build_plan(steps):
                terminal.print(line)
        return DONE

    return perform(options, command)


def status(app: str | None = None, /, *, options: Options = NO_OPTIONS) -> int:
    """Show APP, or all apps."""

    async def command(terminal: Terminal) -> int:
        name = check_app(app) if app is not None else None
        async with RunnerClient(load_settings(options).socket_path) as client:
            apps = await client.fetch_status(name)
        if terminal.is_json:
            terminal.print_json([found.to_json() for found in apps])
        elif not apps:
            terminal.print("no apps yet: deploy one with `lockgate deploy APP.yaml`")
        else:
            for line in build_status(apps, terminal.clock()):
                terminal.print(line)
        return DONE

    return perform(options, command)


def logs(
    app: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=())] = False,
    lines: Annotated[int, Parameter(name=("--lines", "-n"))] = 100,
    generation: int | None = None,
    build: Annotated[bool, Parameter(negative=())] = False,
    options: Options = NO_OPTIONS,
) -> int:
    """Show the log of APP.

    Parameters
    ----------
    follow
        Go on with what comes, until interrupted.
    lines
        How many of the last lines.
    generation
        Of which generation; the newest if not given.
    build
        The build's output instead of the app's.
    """

    async def command(terminal: Terminal) -> int:
        name = check_app(app)
        async with RunnerClient(load_settings(options).socket_path) as client:
            events = client.logs(
                name, generation=generation, lines=lines, follow=follow, build=build
            )
            async with aclosing(events) as source:  # type: ignore[type-var]
                async for event in source:
                    if event["event"] == "result":
                        check_result(event)
                    elif terminal.is_json:
                        terminal.print_json({"line": event["text"]})
                    else:
                        print_foreign(event["text"])
        return DONE

    return perform(options, command)


def restart(app: str, /, *, options: Options = NO_OPTIONS) -> int:
    """Restart APP."""

    async def command(terminal: Terminal) -> int:
        name = check_app(app)
        async with RunnerClient(load_settings(options).socket_path) as client:
            result = await follow(terminal, client.restart(name), "restart", name)
        if terminal.is_json:
            terminal.print_json(result)
        else:
            terminal.print(f"restarted {name} generation {result['generation']}")
        return DONE

    return perform(options, command)


def remove(
    app: str,
    /,
    *,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=())] = False,
    options: Options = NO_OPTIONS,
) -> int:
    """Remove APP and everything in it; this cannot be undone.

    Parameters
    ----------
    yes
        Do not ask.
    """

    async def command(terminal: Terminal) -> int:
        name = check_app(app)
        async with RunnerClient(load_settings(options).socket_path) as client:
            await client.fetch_status(name)
            if not yes and sys.stdin.isatty() and not confirm_removal(name):
                terminal.print("nothing was removed")
                return FAILED
            result = await follow(terminal, client.remove(name), "removal", name)
        if terminal.is_json:
            terminal.print_json(result)
        else:
            gone = ", ".join(result["removed"])
            terminal.print(f"removed {name}" + (f": {gone}" if gone else ""))
        return DONE

    return perform(options, command)


def doctor(*, options: Options = NO_OPTIONS) -> int:
    """Check this machine."""

    async def command(terminal: Terminal) -> int:
        config = load_settings(options)
        file = find_config_path(options.config, os.environ)
        checks = [Check("configuration", True, str(file or "built-in defaults")).to_json()]
        try:
            async with RunnerClient(config.socket_path) as client:
                checks += await client.fetch_checks()
        except UnreachableError as error:
            reason, _, remedy = str(error).partition("; ")
            checks.append(Check("lockgate up", False, reason, remedy).to_json())
        is_well = all(check["ok"] for check in checks)
        if terminal.is_json:
            terminal.print_json({"ok": is_well, "checks": checks})
        else:
            for line in build_checks(checks):
                terminal.print(line)
        return DONE if is_well else FAILED

    return perform(options, command)


async def follow(terminal: Terminal, events: AsyncIterator[Json], verb: str, app: str) -> Json:
    """Show an operation's progress and return its result; raises `RunnerError` if it failed."""
    is_committed = verb != "deploy"
    result: Json | None = None
    try:
        with open_progress(terminal) as view:
            async with aclosing(events) as source:  # type: ignore[type-var]
                async for event in source:
                    is_committed = is_committed or event["event"] == "committed"
                    view.take(event)
                    if event["event"] == "result":
                        result = event
    except asyncio.CancelledError:
        terminal.err.print(
            f"interrupted: the {verb} goes on, see `lockgate status {app}`"
            if is_committed
            else f"interrupted: the {verb} is cancelled and takes its steps back",
        )
        raise
    if result is None:
        raise UnreachableError(f"the {verb} of {app} ended without a result")
    check_result(result)
    return {key: value for key, value in result.items() if key != "event"}


def confirm_removal(app: str) -> bool:
    """Ask on the terminal; anything but the app's own name is a no."""
    sys.stderr.write(
        f"This destroys {app}: its key, code, secrets, logs and scratch. There is no way back.\n"
        f"Type {app} to remove it: "
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip() == app


def print_foreign(text: str) -> None:
    """A line that an app wrote: unchanged in a pipe, harmless on a terminal."""
    sys.stdout.write((clean(text.replace("\t", "    ")) if sys.stdout.isatty() else text) + "\n")
    sys.stdout.flush()
