"""The agent as a whole: start, signals, exit codes, what it leaves behind."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.agent import find_children, read_status, wait_until

SH = "/bin/sh"
PYTHONS = [  # as pyenv keeps them; a machine without them tests its own Python only
    path
    for name in ("3.9", "3.10", "3.12", "3.13", "3.14")
    for path in sorted(Path.home().glob(f".pyenv/versions/{name}.*/bin/python"))
]


def run_to_end(agent, script: str, **changes) -> int:
    """The agent's exit code around a shell script."""
    agent.configure(argv=[SH, "-c", script], **changes)
    return agent.start(is_up=False).wait()


def is_running(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        return not read_status(pid)["State"].startswith("Z")
    except OSError:
        return False


def test_app_sees_its_environment_and_nothing_of_the_agents(agent):
    """The app has its plain environment and our defaults, and not the agent's."""
    told = agent.tell()
    assert told["env"]["PLAIN"] == "in the open"
    assert told["env"]["PATH"].startswith("/app/venv/bin:")
    assert told["env"]["LANG"] == "C.UTF-8"
    assert told["env"]["HOME"] == agent.settings["home"]
    assert "AGENT_OWN" not in told["env"]
    assert told["cwd"] == str(agent.work)
    assert told["umask"] == 0o077


def test_app_inherits_no_file_of_the_agent(agent):
    """Standard streams, and what the app itself has opened: listener, file, connection, listing."""
    assert len(agent.tell()["fds"]) == 3 + 4


def test_app_inherits_no_file_of_who_started_the_agent(build_agent):
    """What an engine left open by mistake ends at the agent."""
    agent = build_agent()
    agent.start(prefix=("/bin/sh", "-c", 'exec 9</etc/passwd; exec "$@"', "sh"))
    assert len(agent.tell()["fds"]) == 3 + 4


@pytest.mark.parametrize("code", [0, 3, 127])
def test_exits_with_the_apps_code(build_agent, code):
    """The engine learns the app's exit code from the agent's."""
    assert run_to_end(build_agent(), f"exit {code}") == code


def test_exits_with_128_and_the_signal(build_agent):
    """An app killed by a signal is told as a shell tells it."""
    agent = build_agent()
    assert run_to_end(agent, "kill -KILL $$") == 137
    assert "agent: app ended, killed by SIGKILL" in agent.log()


def test_missing_program_is_127_and_one_clear_line(build_agent):
    """An exec that fails is named in the log."""
    agent = build_agent(argv=["/no/such/program"])
    assert agent.start(is_up=False).wait() == 127
    assert "cannot start /no/such/program: No such file or directory" in agent.log()


def test_missing_folder_is_127_and_one_clear_line(build_agent):
    """A cwd that is not there is not blamed on the program."""
    agent = build_agent(cwd="/no/such/folder")
    assert agent.start(is_up=False).wait() == 127
    assert "cannot enter /no/such/folder: No such file" in agent.log()


def test_last_words_are_in_the_log_before_the_end(build_agent):
    """Everything an app says just before it ends is kept, in order, even without a line's end."""
    agent = build_agent()
    assert run_to_end(agent, "seq 20000; printf 'no newline'; exit 1") == 1
    lines = [line.split(" ", 1)[1] for line in agent.log().splitlines()]
    assert lines[1:20001] == [str(number) for number in range(1, 20001)]
    assert lines[20001:] == ["no newline", "agent: app ended, exit code 1"]


def test_every_line_has_an_rfc_3339_time(build_agent):
    """Every line begins with a time in UTC."""
    agent = build_agent()
    run_to_end(agent, "echo one; echo two >&2")
    assert agent.log().count("\n") == 4
    for line in agent.log().splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"])
def test_signals_reach_the_apps_whole_group(build_agent, name):
    """A signal to the agent arrives at the app and at what it has started."""
    agent = build_agent()
    script = (
        "import os, signal, sys, time;"
        "child = os.fork(); who = 'outer' if child else 'inner';"
        "end = lambda *_: (print(who, flush=True), child and os.wait(), os._exit(0));"
        f"signal.signal(signal.SIG{name}, end); print('up', flush=True); time.sleep(60)"
    )
    agent.configure(argv=[sys.executable, "-I", "-S", "-c", script]).start()
    wait_until(lambda: agent.log().count(" up\n") == 2)
    agent.signal(getattr(signal, f"SIG{name}"))
    assert agent.wait() == 0
    assert " inner\n" in agent.log()
    assert " outer\n" in agent.log()


def test_app_that_ignores_sigterm_is_killed_after_its_grace(build_agent):
    """SIGTERM starts the grace time; SIGKILL ends it."""
    agent = build_agent(grace_s=0.5)
    agent.configure(argv=[SH, "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"])
    agent.start()
    begin = time.monotonic()
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 137
    assert 0.4 < time.monotonic() - begin < 3
    assert "agent: the app did not stop in time" in agent.log()


def test_door_serves_while_the_app_stops(build_agent):
    """Between SIGTERM and the app's end new connections are still served."""
    agent = build_agent()
    slow = "import signal, runpy, sys; signal.signal(15, lambda *_: None); sys.argv = sys.argv[1:];"
    slow += "runpy.run_path(sys.argv[0], run_name='__main__')"
    argv = agent.settings["argv"]
    agent.configure(argv=[*argv[:4], "-c", slow, *argv[4:]], grace_s=1)
    agent.start()
    agent.signal(signal.SIGTERM)
    wait_until(lambda: "agent: stopping" in agent.log())
    assert agent.tell()["env"]["PLAIN"] == "in the open"
    assert agent.wait() == 137


def test_ends_leave_nothing_running(build_agent):
    """What the app started outlives neither the app nor, when killed outright, the agent."""
    agent = build_agent()
    pids = agent.work / "pids"
    script = f"setsid sleep 300 & echo $! > {pids}; sleep 300 & echo $! >> {pids}; exit 5"
    assert run_to_end(agent, script) == 5
    for pid in pids.read_text().split():
        assert not is_running(int(pid))


def test_app_dies_with_a_killed_agent(agent):
    """SIGKILL to the agent takes the app along."""
    (app,) = find_children(agent.process.pid)
    agent.process.kill()
    agent.process.wait()
    wait_until(lambda: not is_running(app))


def test_orphans_are_reaped(build_agent):
    """A process whose parent has gone leaves no zombie below the agent."""
    agent = build_agent()
    agent.configure(argv=[SH, "-c", "(sh -c 'sleep 0.1 & :') ; echo up; sleep 300"])
    agent.start()
    wait_until(lambda: len(find_children(agent.process.pid)) == 1)


def test_bad_settings_are_told_and_nothing_starts(build_agent):
    """An agent.json that cannot be understood names the key, and no app runs."""
    agent = build_agent(colour="red")
    assert agent.start(is_up=False).wait() == 2
    assert "unknown key colour" in agent.output()
    assert agent.touched() == 0


def test_without_a_key_the_app_does_not_stay(build_agent):
    """An agent that cannot open its door kills the app and says why."""
    agent = build_agent()
    agent.write_identity(agent.authority.issue()[0], b"no key")
    assert agent.start(is_up=False).wait() == 121
    assert "agent: cannot go on" in agent.log()


def test_listener_is_taken_before_the_app_runs(build_agent):
    """An app that tries to listen in the agent's place finds the port taken."""
    agent = build_agent()
    thief = f"import socket; socket.create_server(('127.0.0.1', {agent.port}))"
    agent.configure(argv=[sys.executable, "-I", "-S", "-c", thief])
    assert agent.start(is_up=False).wait() == 1
    assert "Address already in use" in agent.log()


def test_listens_on_a_unix_socket(build_agent, tmp_path):
    """`unix:/path` is a door like the other, and a stale socket is no obstacle."""
    path = tmp_path / "agent.sock"
    for _ in range(2):
        agent = build_agent(listen=f"unix:{path}")
        agent.start(is_up=False)
        wait_until(path.exists)
        agent.process.kill()
        agent.wait()


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
def test_runs_on_every_python_of_an_image(build_agent, python):
    """From Python 3.9 on the same files work."""
    agent = build_agent().start(python=str(python))
    assert agent.tell()["env"]["PLAIN"] == "in the open"
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 143


def test_writes_nothing_where_it_was_not_told_to(build_agent, tmp_path):
    """The agent's own folder stays as it was: no byte code, no temporary file."""
    source = Path(__file__).parents[3] / "runner" / "agent"
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    assert run_to_end(build_agent(), ":") == 0
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_as_pid_1_it_reaps_and_ends_like_a_container(build_agent):
    """As init of a pid namespace it takes signals, and its end is the end of everything."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a pid namespace")
    agent = build_agent()
    pids = agent.work / "pids"
    script = "setsid sleep 301 & (sh -c 'sleep 0.1 &'); echo up; trap 'exit 7' TERM; "
    script += f"echo $$ > {pids}; while :; do sleep 0.05; done"
    agent.configure(argv=[SH, "-c", script])
    agent.start(prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    (init,) = find_children(agent.process.pid)
    assert read_status(init)["NSpid"].split()[-1] == "1"
    wait_until(lambda: pids.exists() and pids.read_text())
    os.kill(init, signal.SIGTERM)
    assert agent.wait() == 7
    assert not any("sleep\0301" in read_cmdline(path) for path in Path("/proc").glob("[0-9]*"))


def read_cmdline(process: Path) -> str:
    """Its argv, NUL between; empty when it has gone."""
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""
