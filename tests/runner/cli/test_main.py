"""What the `lockgate` command's words, help and exit codes must hold."""

import importlib
import importlib.metadata
import time
from pathlib import Path

import pytest

from runner.cli.main import ROWS, order_words
from tests.support.served import Served, prepare


@pytest.fixture
def idle(tmp_path: Path) -> Served:
    """A configuration without a runner."""
    return prepare(tmp_path)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.words)
def test_every_command_exists_and_has_help_with_examples(idle: Served, row: object) -> None:
    """`--help` of each one shows how it is used."""
    words = getattr(row, "words").split()  # noqa: B009
    module, _, name = getattr(row, "target").partition(":")  # noqa: B009
    assert callable(getattr(importlib.import_module(module), name))
    done = idle.run(*words, "--help")
    assert done.returncode == 0
    assert f"lockgate {' '.join(words)}" in done.stdout
    assert "Examples:" in done.stdout
    assert "--json" in done.stdout
    assert "--config" in done.stdout


def test_help_is_fast(idle: Served) -> None:
    """The best of three starts: nothing heavy is imported for the list of commands."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        done = idle.run("--help")
        times.append(time.perf_counter() - begin)
    assert done.returncode == 0
    assert min(times) < 0.6, f"{times} (0.3 s on a quiet machine)"


def test_help_fits_80_columns_and_lists_commands_in_the_order_of_use(idle: Served) -> None:
    """`up` comes first, `deploy` before `remove`."""
    said = idle.run("--help").stdout
    assert max(len(line) for line in said.splitlines()) <= 80
    places = [said.index(f"│ {word} ") for word in ("up", "deploy", "status", "remove", "doctor")]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "words",
    [
        ("sttus",),
        ("deploy",),
        ("deploy", "a.yaml", "--frobnicate"),
        ("logs", "hello", "--lines", "many"),
        ("status", "No/Name"),
        ("secrets", "set", "hello"),
        ("secrets", "set", "hello", "A-B"),
        ("deploy", "none.yaml"),
        ("status", "--config", "none.yaml"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_2_and_never_a_traceback(idle: Served, words: tuple[str, ...]) -> None:
    """A user's mistake is said in a line or a box, on stderr."""
    done = idle.run(*words, stdin="x")
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_a_command_that_is_not_there_yet_is_not_offered(idle: Served) -> None:
    """No command that would only say that it is missing."""
    offered = {row.words.split()[0] for row in ROWS}
    assert not offered & {"sleep", "wake", "rollback", "backup", "restore", "verify"}


def test_the_version_is_the_packages(idle: Served) -> None:
    """`lockgate --version`."""
    assert idle.run("--version").stdout.strip() == importlib.metadata.version("lockgate")


@pytest.mark.parametrize(
    ("words", "ordered"),
    [
        (["--json", "status"], ["status", "--json"]),
        (["--config", "a", "--json", "status", "x"], ["status", "x", "--config", "a", "--json"]),
        (["--config=a", "status"], ["status", "--config=a"]),
        (["status", "--json"], ["status", "--json"]),
        (["--help"], ["--help"]),
        (["--json"], ["--json"]),
        ([], []),
    ],
)
def test_common_options_may_come_before_the_command(words: list[str], ordered: list[str]) -> None:
    """`lockgate --config X status` means `lockgate status --config X`."""
    assert order_words(words) == ordered
