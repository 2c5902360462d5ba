"""What the commands about secrets and certificates must hold."""

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.served import LOCKGATE, Served, prepare, serve


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A runner that answers."""
    with serve(tmp_path) as found:
        yield found


def test_a_secret_comes_from_stdin_and_is_listed_by_name(served: Served) -> None:
    """Set, listed, removed; its value is in no output."""
    done = served.run("secrets", "set", "hello", "TOKEN", stdin="hunter2\n")
    assert done.returncode == 0
    listed = served.run("secrets", "list", "hello")
    assert listed.stdout == "TOKEN\n"
    assert json.loads(served.run("secrets", "list", "hello", "--json").stdout) == {
        "app": "hello",
        "secrets": ["TOKEN"],
    }
    removed = served.run("secrets", "remove", "hello", "TOKEN")
    assert removed.returncode == 0
    assert served.run("secrets", "list", "hello").stdout == "hello has no secrets\n"
    for said in (done, listed, removed):
        assert "hunter2" not in said.stdout + said.stderr


def test_a_value_on_the_command_line_is_refused_with_the_reason(served: Served) -> None:
    """It would stay in the shell's history and the process list; it is not repeated."""
    done = served.run("secrets", "set", "hello", "TOKEN", "hunter2")
    assert done.returncode == 2
    assert "history" in done.stderr
    assert "hunter2" not in done.stderr
    assert served.run("secrets", "list", "hello").returncode == 1


@pytest.mark.parametrize("words", [("bad-name",), ("1X",), ("LOCKGATE_URL",)])
def test_a_bad_name_is_refused(served: Served, words: tuple[str, ...]) -> None:
    """Before the value is read."""
    assert served.run("secrets", "set", "hello", *words, stdin="v").returncode == 2


def test_no_value_is_refused(served: Served) -> None:
    """An empty pipe is more often a mistake than a wish."""
    done = served.run("secrets", "set", "hello", "TOKEN", stdin="\n")
    assert done.returncode == 2
    assert "secrets remove" in done.stderr


def test_a_prompt_on_a_terminal_hides_what_is_typed(served: Served) -> None:
    """Nothing of the value is echoed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(LOCKGATE), "secrets", "set", "hello", "TOKEN"],
        cwd=served.root,
        env=served.build_env(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    time.sleep(1.5)
    os.write(ours, b"hunter2\n")
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # the command has ended
    os.close(ours)
    assert process.wait(20) == 0
    assert b"TOKEN" in shown
    assert b"hunter2" not in shown
    assert served.run("secrets", "list", "hello").stdout == "TOKEN\n"


@pytest.mark.parametrize("word", ["status", "root"])
def test_without_a_pki_the_message_says_what_to_start(tmp_path: Path, word: str) -> None:
    """The pki is asked directly; `lockgate up` is what starts it."""
    done = prepare(tmp_path).run("pki", word)
    assert done.returncode == 1
    assert "lockgate up is not running" in done.stderr
