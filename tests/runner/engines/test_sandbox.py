"""The bubblewrap command line."""

from pathlib import Path

import pytest

from runner.engines import Mount, Places, Tmpfs, build_mounts
from runner.engines.sandbox import (
    VARIANTS,
    Tools,
    build_app_sandbox,
    build_sandbox,
    describe_losses,
)

TOOLS = Tools("/usr/bin/bwrap", VARIANTS[0], {"/bin": "usr/bin", "/lib": None}, "/opt/py")
NAMES = ("agent", "generation", "environment", "scratch", "logs", "identity", "secrets")
PLACES = Places(**{name: Path("/v") / name for name in NAMES})


def find(words: tuple[str, ...], *wanted: str) -> int:
    """Where a sequence of words is in the command line; -1 if it is not."""
    places = range(len(words) - len(wanted) + 1)
    return next((n for n in places if words[n : n + len(wanted)] == wanted), -1)


def test_namespaces():
    """Processes, IPC and names are the app's own, it dies with its agent and has no capability."""
    words = build_app_sandbox(TOOLS, "hello", (), ())
    for wanted in (
        *(("--unshare-user", "--disable-userns"), ("--unshare-pid",), ("--unshare-ipc",)),
        *(("--unshare-uts",), ("--die-with-parent",), ("--new-session",), ("--cap-drop", "ALL")),
        *(("--hostname", "hello"), ("--proc", "/proc"), ("--dev", "/dev")),
    ):
        assert find(words, *wanted) > 0, wanted
    assert words[0] == "/usr/bin/bwrap"
    assert words[-5:] == ("--remount-ro", "/", "--chdir", "/app/code", "--")


def test_mounts():
    """Scratch is writable, code is not, and what is the agent's is not there at all."""
    words = build_app_sandbox(TOOLS, "hello", build_mounts(PLACES), ())
    assert find(words, "--ro-bind", "/v/generation", "/app") > 0
    assert find(words, "--bind", "/v/scratch", "/scratch") > 0
    assert find(words, "--ro-bind", "/v/secrets", "/run/lockgate/secrets") > 0
    assert {"/v/identity", "/v/agent", "/v/logs"}.isdisjoint(words)


def test_inner_mounts_come_after_outer_ones():
    """An environment inside the code, and secrets inside /run, are not covered by what follows."""
    words = build_app_sandbox(TOOLS, "hello", build_mounts(PLACES), ())
    app = find(words, "--ro-bind", "/v/generation", "/app")
    assert app < find(words, "--ro-bind", "/v/environment", "/app/venv")
    assert find(words, "--tmpfs", "/run") < words.index("/run/lockgate/secrets")


def test_ram_is_capped():
    """Every RAM directory has a size, asked for or not."""
    words = build_sandbox(TOOLS, "x", (), (Tmpfs("/tmp", 7), Tmpfs("/dev/shm", 8)))
    assert find(words, "--size", "7", "--tmpfs", "/tmp") > 0
    assert find(words, "--size", "8", "--tmpfs", "/dev/shm") > 0
    assert words.count("--tmpfs") == words.count("--size")


@pytest.mark.parametrize(("prefix", "is_bound"), [("/opt/py", True), ("/usr", False)])
def test_python_outside_usr(prefix, is_bound):
    """A Python that is not below /usr is shown at its own place."""
    tools = Tools("/usr/bin/bwrap", (), {}, prefix)
    words = build_sandbox(tools, "x", (), ())
    assert (find(words, "--ro-bind", prefix, prefix) > find(words, "--tmpfs", "/tmp")) is is_bound


def test_links_of_the_host():
    """/bin is a link or a directory as on the host, and what the host has not is not there."""
    words = build_sandbox(TOOLS, "x", (), ())
    assert find(words, "--symlink", "usr/bin", "/bin") > 0
    assert find(words, "--ro-bind", "/lib", "/lib") > 0
    assert "/lib64" not in words


def test_private_settings_stay_out():
    """Of /etc only names are bound that every user may read anyway."""
    mount = Mount(Path("/x"), "/x")
    words = build_sandbox(TOOLS, "x", (mount,), ())
    assert {"/etc", "/etc/shadow", "/etc/ssl", "/etc/ssl/private"}.isdisjoint(words)


def test_losses_are_one_line_each():
    """What is given up is told in one line, and differs by what there is."""
    told = {
        describe_losses(has_sandbox=s, has_uids=u) for s in (True, False) for u in (True, False)
    }
    assert len(told) == 3
    assert not [text for text in told if "\n" in text]
