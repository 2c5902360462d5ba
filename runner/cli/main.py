"""The `lockgate` command: its words, their help, and nothing that takes time to import.

**Invariants**: what a command does lies in the module that its row names, imported when it is run;
exit codes are 0 done, 1 failed, 2 bad usage or configuration, 130 interrupted.
"""

import sys
from dataclasses import dataclass
from importlib import metadata

from cyclopts import App

ABOUT = """\
Host data apps from private Git repositories, behind TLS, encrypted at rest.

Start it with `lockgate up`, then `lockgate deploy APP.yaml`.
Every command takes --json, and --config FILE. Without the latter it reads
$LOCKGATE_CONFIG, else /etc/lockgate/lockgate.yaml, else built-in defaults."""


@dataclass(frozen=True, slots=True)
class Row:
    """One command: its words, the function it is, one line of help, examples."""

    words: str
    target: str
    help: str
    examples: tuple[str, ...]


ROWS = (
    Row(
        "up",
        "runner.cli.commands_up:up",
        "Run Lockgate on this machine until it is interrupted.",
        ("lockgate up", "lockgate up --config lockgate.yaml --with apps/hello.yaml"),
    ),
    Row(
        "demo",
        "runner.cli.commands_up:demo",
        "Host the demo app at https://hello.localhost:8443 until interrupted.",
        ("lockgate demo",),
    ),
    Row(
        "deploy",
        "runner.cli.commands:deploy",
        "Bring an app to what its YAML says; wait and show each step.",
        ("lockgate deploy hello.yaml", "lockgate deploy hello.yaml --json | jq -r .url"),
    ),
    Row(
        "plan",
        "runner.cli.commands:plan",
        "Show what a deploy would do; change nothing.",
        ("lockgate plan hello.yaml",),
    ),
    Row(
        "status",
        "runner.cli.commands:status",
        "List the apps: state, generation, commit, address, since when, why.",
        ("lockgate status", "lockgate status hello --json"),
    ),
    Row(
        "logs",
        "runner.cli.commands:logs",
        "Show the last lines that an app wrote, or its build did.",
        ("lockgate logs hello --follow", "lockgate logs hello --build --lines 500"),
    ),
    Row(
        "restart",
        "runner.cli.commands:restart",
        "Start an app's current generation afresh.",
        ("lockgate restart hello",),
    ),
    Row(
        "remove",
        "runner.cli.commands:remove",
        "Destroy an app's key, then its container, volume, routes and secrets.",
        ("lockgate remove hello", "lockgate remove hello --yes"),
    ),
    Row(
        "secrets set",
        "runner.cli.commands_vault:set_secret",
        "Store a secret; its value comes from stdin or a hidden prompt.",
        (
            "lockgate secrets set hello DATABASE_PASSWORD",
            "lockgate secrets set hello GIT_KEY < deploy_key",
        ),
    ),
    Row(
        "secrets list",
        "runner.cli.commands_vault:list_secrets",
        "List the names of an app's secrets.",
        ("lockgate secrets list hello",),
    ),
    Row(
        "secrets remove",
        "runner.cli.commands_vault:remove_secret",
        "Forget a secret.",
        ("lockgate secrets remove hello DATABASE_PASSWORD",),
    ),
    Row(
        "pki status",
        "runner.cli.commands_vault:show_pki",
        "Show the certificate authority: root, issuers, what was issued.",
        ("lockgate pki status",),
    ),
    Row(
        "pki root",
        "runner.cli.commands_vault:print_root",
        "Print the root certificate (PEM) that browsers are to trust.",
        ("lockgate pki root > lockgate-root.pem",),
    ),
    Row(
        "doctor",
        "runner.cli.commands:doctor",
        "Check what this machine can do and what is amiss.",
        ("lockgate doctor",),
    ),
)
GROUPS = {
    "secrets": "Store, list and remove an app's secrets.",
    "pki": "Look at the built-in certificate authority.",
}


def build_cli() -> App:
    """The command tree; importing it imports no command."""
    app = App(name="lockgate", help=ABOUT, help_format="plaintext", version=read_version)
    groups = {name: App(name=name, help=text, sort_key=50) for name, text in GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for place, row in enumerate(ROWS):
        parent, _, word = row.words.rpartition(" ")
        epilogue = "Examples:\n" + "\n".join(f"  {example}" for example in row.examples)
        (groups[parent] if parent else app).command(
            row.target, name=word, help=row.help, help_epilogue=epilogue, sort_key=place
        )
    return app


def read_version() -> str:
    """The installed package's."""
    return metadata.version("lockgate")


def order_words(words: list[str]) -> list[str]:
    """`--config FILE` and `--json` before the command mean the same as after it."""
    early: list[str] = []
    rest = list(words)
    while rest and (rest[0] in ("--json", "--config") or rest[0].startswith("--config=")):
        taken = 2 if rest[0] == "--config" else 1
        early += rest[:taken]
        rest = rest[taken:]
    return [*rest, *early] if rest else early


def main() -> None:
    """Run the command that `sys.argv` names and exit with its code."""
    try:
        code = build_cli()(order_words(sys.argv[1:]), result_action="return_value")
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # the reader of our output is gone: nothing left to say
        sys.stderr.close()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
