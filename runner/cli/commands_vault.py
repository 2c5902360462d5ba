"""The commands about secrets and certificates: a value goes in and is never shown again.

**Invariants**: a secret's value is read from stdin or a hidden prompt, never from the command line,
and is in no message, no file and no process list.
"""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pki import PkiClient, PkiError
from runner.cli.commands import NO_OPTIONS, check_app, load_settings
from runner.cli.terminal import DONE, Options, Terminal, UsageError, clean, perform
from runner.client import RunnerClient
from runner.spec.grammar import is_secret_name


def set_secret(
    app: str,
    name: str,
    /,
    *value: Annotated[str, Parameter(show=False)],
    options: Options = NO_OPTIONS,
) -> int:
    """Store the secret NAME of APP. The value is read from stdin, or asked for on a terminal.

    One newline at its end is dropped. The app gets it as an environment variable and in Streamlit's
    secrets.toml at its next deploy or restart.
    """

    async def command(terminal: Terminal) -> int:
        owner, key = check_app(app), _check_name(name)
        if value:
            raise UsageError(
                "a value on the command line would stay in the shell's history and the process "
                f"list; pipe it in: `lockgate secrets set {owner} {key} < FILE`"
            )
        config = load_settings(options)
        secret = _read_value(key)
        async with RunnerClient(config.socket_path) as client:
            await client.set_secret(owner, key, secret)
        _conclude(
            terminal, owner, key, f"stored {key}; {owner} gets it at its next deploy or restart"
        )
        return DONE

    return perform(options, command)


def list_secrets(app: str, /, *, options: Options = NO_OPTIONS) -> int:
    """List the secrets of APP by name."""

    async def command(terminal: Terminal) -> int:
        owner = check_app(app)
        async with RunnerClient(load_settings(options).socket_path) as client:
            names = await client.list_secrets(owner)
        if terminal.is_json:
            terminal.print_json({"app": owner, "secrets": names})
        for key in names or [f"{owner} has no secrets"]:
            terminal.print(key)
        return DONE

    return perform(options, command)


def remove_secret(app: str, name: str, /, *, options: Options = NO_OPTIONS) -> int:
    """Forget the secret NAME of APP; a running app keeps it until its next restart."""

    async def command(terminal: Terminal) -> int:
        owner, key = check_app(app), _check_name(name)
        async with RunnerClient(load_settings(options).socket_path) as client:
            await client.remove_secret(owner, key)
        _conclude(terminal, owner, key, f"removed {key}; {owner} keeps it until its next restart")
        return DONE

    return perform(options, command)


def show_pki(*, options: Options = NO_OPTIONS) -> int:
    """Show the certificate authority."""

    async def command(terminal: Terminal) -> int:
        found = await _ask_pki(options, "status")
        if terminal.is_json:
            terminal.print_json(found)
        for line in _build_lines(found):
            terminal.print(clean(line))
        return DONE

    return perform(options, command)


def print_root(*, options: Options = NO_OPTIONS) -> int:
    """Print the root certificate."""

    async def command(terminal: Terminal) -> int:
        pem = (await _ask_pki(options, "bundle")).decode()
        if terminal.is_json:
            terminal.print_json({"root": pem})
        terminal.print(pem.rstrip("\n"))
        return DONE

    return perform(options, command)


async def _ask_pki(options: Options, what: str) -> Any:
    path = load_settings(options).pki_socket_path
    _check_reachable(path)
    async with PkiClient(path) as client:
        return await (client.fetch_status() if what == "status" else client.fetch_bundle())


def _check_reachable(path: Path) -> None:
    if not path.exists():
        raise PkiError(
            f"lockgate up is not running: there is no {path}; start it with `lockgate up`, "
            "or name its configuration with --config"
        )


def _conclude(terminal: Terminal, app: str, name: str, text: str) -> None:
    if terminal.is_json:
        terminal.print_json({"ok": True, "app": app, "name": name})
    terminal.print(text)


def _check_name(name: str) -> str:
    if not is_secret_name(name):
        raise UsageError(
            "that is not a secret's name: letters, digits and _, not starting with a digit or "
            "LOCKGATE_"
        )
    return name


def _read_value(name: str) -> str:
    """The value, without the newline that ends a line; raises `UsageError` for none."""
    if sys.stdin.isatty():
        value = getpass.getpass(f"{name}: ")
    else:
        try:
            value = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise UsageError(f"{name} is not UTF-8 text; encode it (base64) first") from None
        value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError(f"no value for {name} came from stdin; to forget one: secrets remove")
    return value


def _build_lines(value: Any, indent: str = "") -> list[str]:
    """Nested values as indented `key: value` lines."""
    if not isinstance(value, dict):
        return [f"{indent}{value}"]
    lines = []
    for key, inner in value.items():
        name = str(key).replace("_", " ")
        if isinstance(inner, dict):
            lines += [f"{indent}{name}:", *_build_lines(inner, indent + "  ")]
        elif isinstance(inner, list):
            lines.append(f"{indent}{name}:")
            for item in inner:
                first, *rest = _build_lines(item, indent + "    ") or [""]
                lines += [f"{indent}  - {first.strip()}", *rest]
        else:
            lines.append(f"{indent}{name}: {inner}")
    return lines
