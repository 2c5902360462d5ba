"""The commands that are Lockgate itself: `up` and `demo`.

**Invariants**: they serve until interrupted and exit 0 when everything was stopped in order; an app
that cannot be deployed does not keep the others from being served.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from pki import ConfigError, PkiClient
from runner.cli.commands import NO_OPTIONS, follow, load_settings, print_deployed
from runner.cli.terminal import DONE, FAILED, Options, Terminal, UsageError, clean, perform
from runner.client import RunnerClient
from runner.config import LockgateConfig, load_spec
from runner.errors import RunnerError, StartError
from runner.events import Json
from runner.up.demo import build_demo_config, describe_trust, find_demo_spec, pick_place
from runner.up.run import OnReady, Up


def up(
    *,
    with_: Annotated[tuple[Path, ...], Parameter(name="--with", negative=())] = (),
    options: Options = NO_OPTIONS,
) -> int:
    """Run pki, gateway and runner until interrupted.

    Parameters
    ----------
    with_
        An app's YAML to deploy once everything runs; may be given several times.
    """

    async def command(terminal: Terminal) -> int:
        config = load_settings(options)
        files = [*with_, *list_apps(config)]
        for file in files:
            load_spec(file, config)  # what is wrong with a file is said before anything starts

        async def deploy_all() -> None:
            for file in files:
                await deploy_one(terminal, config, file)

        is_tidy = await build_up(terminal, config, deploy_all).run()
        return DONE if is_tidy else FAILED

    return perform(options, command)


def demo(*, options: Options = NO_OPTIONS) -> int:
    """Run Lockgate with the demo app, in directories of its own."""

    async def command(terminal: Terminal) -> int:
        if options.config is not None:
            raise UsageError("the demo brings its own configuration: use `lockgate up` for yours")
        place = pick_place(os.environ, os.geteuid())
        config = build_demo_config(place, os.environ)
        spec_path = await find_demo_spec(place)
        load_spec(spec_path, config)
        is_failed = False

        async def deploy_demo() -> None:
            nonlocal is_failed
            result = await deploy_one(terminal, config, spec_path)
            if result is None:
                is_failed = True
                run.ask_to_stop()
                return
            for line in describe_trust(place, await _fetch_root(config), result["url"]):
                terminal.print(line)
            if terminal.is_json:
                terminal.print_json({"event": "ready", "url": result["url"]})
            terminal.print(f"ready: {result['url']}")

        run = build_up(terminal, config, deploy_demo)
        is_tidy = await run.run()
        return DONE if is_tidy and not is_failed else FAILED

    return perform(options, command)


def list_apps(config: LockgateConfig) -> list[Path]:
    """The YAML files in `runner.apps_dir`, by name."""
    if config.apps_dir is None:
        return []
    if not config.apps_dir.is_dir():
        raise StartError(f"runner.apps_dir: {config.apps_dir} is not a folder: make it")
    return sorted(config.apps_dir.glob("*.yaml"))


def build_up(terminal: Terminal, config: LockgateConfig, on_ready: OnReady) -> Up:
    """A run whose lines go to this terminal; on one, the processes' own output goes to files."""

    def say(text: str) -> None:
        if terminal.is_json:
            terminal.print_json({"event": "said", "text": text})
        line = Text().append("lockgate: ", style="dim")
        line.append(clean(text), style="bold green" if text == "ready" else "")
        terminal.print(line)

    return Up(config, say, on_ready=on_ready, logs_to_files=sys.stderr.isatty())


async def deploy_one(terminal: Terminal, config: LockgateConfig, file: Path) -> Json | None:
    """Deploy a file and say what came of it; None if it failed."""
    try:
        spec = load_spec(file, config)
        async with RunnerClient(config.socket_path) as client:
            result = await follow(terminal, client.deploy(spec), "deploy", spec.name)
    except (RunnerError, ConfigError) as error:
        terminal.print_error(error)
        return None
    if not terminal.is_json:
        print_deployed(terminal, result)
    return result


async def _fetch_root(config: LockgateConfig) -> bytes:
    async with PkiClient(config.pki_socket_path) as client:
        return await client.fetch_bundle()
