"""The app's process."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from runner.agent.child import build_environment, find_descendants, load_secrets
from runner.agent.settings import Settings
from tests.support.agent import wait_until

# The C library keeps signals 32 and 33 to itself: no program can set how they are taken.
RESERVED = 0b11 << 31


def build_settings(**env: str) -> Settings:
    """Enough for an environment."""
    settings = Settings()
    settings.env, settings.home = env, "/tmp/home"
    return settings


def test_secrets_win_over_environment_over_defaults():
    """The operator's word stands above ours, the secret above both."""
    settings = build_settings(LANG="de_DE.UTF-8", TOKEN="plain")
    assert build_environment(settings, {"TOKEN": "secret"}) == {
        "PATH": "/app/venv/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "de_DE.UTF-8",
        "HOME": "/tmp/home",
        "TMPDIR": "/tmp",
        "TOKEN": "secret",
    }


def test_no_file_no_secrets(tmp_path):
    """An app without secrets has an empty folder, or none."""
    assert load_secrets(str(tmp_path)) == {}
    assert load_secrets(str(tmp_path / "none")) == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"A": 1}', '{"A=B": "c"}', '{"A": "canary\\u0000"}'])
def test_unusable_secrets_are_an_error_that_quotes_nothing(tmp_path, text):
    """What cannot be an environment is told without its content."""
    (tmp_path / "env.json").write_text(text)
    with pytest.raises(ValueError, match=r"^env\.json is not ") as caught:
        load_secrets(str(tmp_path))
    assert "canary" not in str(caught.value)


def test_descendants_are_found_at_any_depth():
    """Children and grandchildren, in whatever session they are."""
    script = "setsid sh -c 'sleep 30 & echo up; wait' & wait"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        found = find_descendants(process.pid)
        assert len(found) == 2
    finally:
        for pid in (*find_descendants(process.pid), process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert find_descendants(process.pid) == []


def test_own_session_and_default_signals(agent):
    """The app leads its own session and group, and finds signals as a program expects them."""
    told = agent.tell()
    pid, group, session = told["ids"]
    assert pid == group == session
    ignored = int(told["status"]["SigIgn"], 16)  # Python itself ignores these two on start
    assert ignored & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1 | RESERVED) == 0
    assert int(told["status"]["SigBlk"], 16) == 0


def test_signals_python_ignores_are_not_inherited(build_agent):
    """`yes | head` ends because SIGPIPE does what it should."""
    agent = build_agent()
    script = "grep SigIgn /proc/self/status"
    agent.configure(argv=["/bin/sh", "-c", script])
    assert agent.start(is_up=False).wait() == 0
    (mask,) = re.findall(r"SigIgn:\t([0-9a-f]{16})", agent.log())
    assert int(mask, 16) & ~RESERVED == 0


def test_home_keeps_what_is_there(build_agent, tmp_path):
    """An old link is replaced, a file of the app's own is not."""
    home = tmp_path / "home"
    own = home / ".streamlit" / "secrets.toml"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    agent = build_agent(argv=["/bin/true"])
    agent.write_secrets({}, "A = 1")
    agent.start(is_up=False).wait()
    assert own.read_text() == "mine"
    own.unlink()
    own.symlink_to("nowhere")
    agent.process.stdout.close()
    agent.start(is_up=False).wait()
    assert own.read_text() == "A = 1"


def test_without_secrets_toml_there_is_no_link(build_agent, tmp_path):
    """An app without that file gets no dangling link."""
    build_agent(argv=["/bin/true"]).start(is_up=False).wait()
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
@pytest.mark.parametrize("is_session", [True, False], ids=["new-session", "same-session"])
def test_a_sandboxed_app_gets_its_grace(build_agent, is_session):
    """Under bubblewrap SIGTERM reaches the app, which may finish, not the sandbox around it."""
    agent = build_agent()
    sandbox = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--die-with-parent"]
    sandbox += ["--proc", "/proc", *(["--new-session"] if is_session else [])]
    script = (
        "import signal, sys, time;"
        "stop = lambda *_: (time.sleep(0.3), print('finished', flush=True), sys.exit(9));"
        "signal.signal(signal.SIGTERM, stop); print('up', flush=True); time.sleep(60)"
    )
    agent.configure(sandbox_argv=sandbox, argv=[sys.executable, "-I", "-S", "-c", script])
    agent.start()
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 9
    assert " finished\n" in agent.log()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
def test_a_sandboxed_app_is_served_and_killed(build_agent):
    """Behind a sandbox the door works, secrets arrive, and nothing survives the agent."""
    agent = build_agent(grace_s=0.2)
    sandbox = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--die-with-parent"]
    agent.write_secrets({"TOKEN": "s"})
    agent.configure(sandbox_argv=[*sandbox, "--proc", "/proc"]).start()
    told = agent.tell()
    assert told["env"]["TOKEN"] == "s"
    assert json.dumps(told)
    below = find_descendants(agent.process.pid)
    assert len(below) >= 3
    agent.process.kill()
    agent.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in below))
