"""What the commands about apps must hold: the real `lockgate` against the real socket."""

import json
import os
import pty
import signal
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


def test_a_deploy_shows_its_steps_and_ends_with_the_address(served: Served) -> None:
    """Plain lines in a pipe; the URL is the last line, by itself."""
    done = served.run("deploy", "hello.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "✓ open volume 0.2s",
        "    Resolved 41 packages in 1.2s",
        "- build environment unchanged since generation 1",
        "✓ publish 0.0s",
        "deployed hello generation 1, commit 4f2a9c1 in 3.2s",
        "https://hello.localhost:8443",
    ]


def test_a_second_deploy_says_that_there_is_nothing_to_do(served: Served) -> None:
    """Exit code 0 and no step."""
    served.run("deploy", "hello.yaml")
    done = served.run("deploy", "hello.yaml")
    assert done.returncode == 0
    assert done.stdout.startswith("nothing to do: hello generation 1")


def test_a_failed_deploy_says_why_in_one_line_and_shows_the_log(served: Served) -> None:
    """On stderr, with the last lines and where the rest is."""
    served.write_spec("env:\n  FAIL: numpy 99 does not exist\n")
    done = served.run("deploy", "hello.yaml")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: numpy 99 does not exist",
        "  line one",
        "  line two",
        "  the whole log: /logs/build-1.log",
    ]


def test_a_refused_deploy_is_misuse(served: Served) -> None:
    """What can never work as it is written is exit code 2."""
    served.write_spec("env:\n  REFUSE: hello.localhost belongs to web\n")
    done = served.run("deploy", "hello.yaml")
    assert done.returncode == 2
    assert "belongs to web" in done.stderr


def test_a_bad_file_names_line_and_key(served: Served) -> None:
    """Before anything is asked of the runner."""
    served.write_spec("resorces: {}\n")
    done = served.run("deploy", "hello.yaml")
    assert done.returncode == 2
    assert "hello.yaml:5: resorces: there is no such key (did you mean resources?)" in done.stderr


def test_json_is_one_document(served: Served) -> None:
    """deploy, plan, status, restart, doctor, remove: nothing but JSON on stdout."""
    plan = json.loads(served.run("plan", "hello.yaml", "--json").stdout)
    assert [step["verb"] for step in plan["steps"]] == ["open volume", "fetch source", "publish"]
    deployed = json.loads(served.run("deploy", "hello.yaml", "--json").stdout)
    assert (deployed["ok"], deployed["url"]) == (True, "https://hello.localhost:8443")
    (status,) = json.loads(served.run("status", "--json").stdout)
    promised = {"name", "state", "generation", "commit", "url", "reason", "since"}
    assert promised <= set(status)
    assert json.loads(served.run("restart", "hello", "--json").stdout)["ok"]
    assert json.loads(served.run("doctor", "--json").stdout)["ok"] is False
    assert json.loads(served.run("logs", "hello", "--json").stdout) == {
        "line": "generation 1 started"
    }
    assert json.loads(served.run("remove", "hello", "--yes", "--json").stdout)["removed"]
    missing = served.run("status", "hello", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout) == {"ok": False, "error": "there is no app named hello"}


def test_plan_changes_nothing_and_says_when_there_is_nothing(served: Served) -> None:
    """Twice the same plan; empty after the deploy."""
    first = served.run("plan", "hello.yaml").stdout
    assert first == served.run("plan", "hello.yaml").stdout
    assert first.startswith("a deploy of hello would\n  open volume ")
    served.run("deploy", "hello.yaml")
    assert served.run("plan", "hello.yaml").stdout.startswith("nothing to do")


def test_status_without_apps_says_how_to_get_one(served: Served) -> None:
    """An empty table would be a riddle."""
    assert "lockgate deploy" in served.run("status").stdout


def test_a_path_where_a_name_belongs_is_explained(served: Served) -> None:
    """`lockgate remove hello.yaml` is a common slip."""
    done = served.run("remove", "hello.yaml")
    assert done.returncode == 2
    assert "an app's name, not its file" in done.stderr


def test_logs_of_an_unknown_app_or_generation_fail(served: Served) -> None:
    """Exit code 1 and one line."""
    served.run("deploy", "hello.yaml")
    assert served.run("logs", "nope").returncode == 1
    done = served.run("logs", "hello", "--generation", "9")
    assert (done.returncode, done.stderr) == (1, "error: hello has no generation 9\n")
    assert served.run("logs", "hello", "--build").stdout == "built\n"


def test_doctor_fails_when_something_is_amiss(served: Served) -> None:
    """With what to do about it."""
    done = served.run("doctor")
    assert done.returncode == 1
    assert "→ turn it off: swapoff -a" in done.stdout


def test_without_a_runner_the_message_names_socket_and_remedy(tmp_path: Path) -> None:
    """Every command that needs one says the same; doctor lists it as a finding."""
    idle = prepare(tmp_path)
    for words in (("status",), ("deploy", "hello.yaml"), ("logs", "hello"), ("remove", "hello")):
        done = idle.run(*words)
        assert done.returncode == 1
        assert "lockgate up is not running" in done.stderr
        assert str(tmp_path / "run" / "runner.sock") in done.stderr
    doctor = idle.run("doctor")
    assert doctor.returncode == 1
    assert "✗ lockgate up" in doctor.stdout
    assert "→ start it with `lockgate up`" in doctor.stdout


def start(served: Served, *words: str) -> subprocess.Popen[str]:
    """A command that is still running."""
    return subprocess.Popen(
        [str(LOCKGATE), *words],
        cwd=served.root,
        env=served.build_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("env", "said"), [("SLOW_S", "is cancelled"), ("SLOW_AFTER_S", "goes on")])
def test_ctrl_c_says_what_becomes_of_the_deploy(served: Served, env: str, said: str) -> None:
    """130, no traceback; before the point of no return cancelled, after it finished."""
    served.write_spec(f"env:\n  {env}: '3'\n")
    process = start(served, "deploy", "hello.yaml")
    assert process.stdout is not None
    assert "open volume" in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said in error
    assert "Traceback" not in error


def test_ctrl_c_ends_a_followed_log(served: Served) -> None:
    """Quietly."""
    served.run("deploy", "hello.yaml")
    process = start(served, "logs", "hello", "--follow")
    assert process.stdout is not None
    assert process.stdout.readline() == "generation 1 started\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (130, "")


def test_a_closed_pipe_is_no_traceback(served: Served) -> None:
    """`lockgate logs hello | head -1` ends quietly."""
    served.run("deploy", "hello.yaml")
    process = start(served, "logs", "hello", "--follow")
    assert process.stdout is not None
    process.stdout.close()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    error = process.stderr.read()
    process.wait(20)
    assert "Traceback" not in error


def run_on_terminal(served: Served, *words: str, typed: str = "") -> tuple[int, str]:
    """Exit code and everything shown on a terminal."""
    ours, theirs = pty.openpty()
    env = {**served.build_env(), "TERM": "xterm-256color"}
    env.pop("NO_COLOR")
    process = subprocess.Popen(
        [str(LOCKGATE), *words],
        cwd=served.root,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    if typed:
        time.sleep(1.5)
        os.write(ours, typed.encode())
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # the other end is closed: the command has ended
    os.close(ours)
    return process.wait(20), shown.decode()


def test_remove_asks_on_a_terminal(served: Served) -> None:
    """Only the app's own name removes it."""
    served.run("deploy", "hello.yaml")
    code, shown = run_on_terminal(served, "remove", "hello", typed="yes\n")
    assert code == 1
    assert "cannot be undone" in shown or "no way back" in shown
    assert served.run("status", "hello").returncode == 0
    code, shown = run_on_terminal(served, "remove", "hello", typed="hello\n")
    assert code == 0
    assert served.run("status", "hello").returncode == 1


def test_a_terminal_gets_colours_and_a_living_list(served: Served) -> None:
    """The steps stay on the screen and the address is the last thing on it."""
    served.write_spec("env:\n  SLOW_S: '0.5'\n")
    code, shown = run_on_terminal(served, "deploy", "hello.yaml")
    assert code == 0
    assert "\x1b[" in shown
    assert "build environment" in shown
    assert shown.rstrip().splitlines()[-1].count("https://hello.localhost:8443") >= 1
