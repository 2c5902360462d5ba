"""The app's process: started with its own uid, environment and session, signalled, reaped.

Invariants: secrets are read by the child alone and only after it is the app; the agent never has
them; the child holds no file of the agent but the log pipe.
"""

from __future__ import annotations

import json
import os
import signal
import time

from . import privilege
from .settings import is_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .settings import Settings

FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
START_FAILED = 127

_PATH = "/app/venv/bin:/usr/local/bin:/usr/bin:/bin"
_SANDBOX_SECRETS = "/run/lockgate/secrets"
_KILL_ROUNDS = 20
_KILL_PAUSE_S = 0.001
_MAX_INHERITED = 1024
_SIG_IGN_OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


class Child:
    """The running app: its first process, its group, what descends from it."""

    def __init__(self, pid: int, is_sandboxed: bool) -> None:
        self.pid = pid
        self._is_sandboxed = is_sandboxed

    def forward(self, signum: int) -> None:
        """Send a signal to the app's process group.

        Under a sandbox its outermost process would die of it at once and take the app along, so
        all but that one get it.
        """
        if self._is_sandboxed:
            for pid in find_descendants(self.pid):
                _send(pid, signum)
        else:
            self._send_group(signum)

    def kill(self) -> None:
        """SIGKILL to the group and to every descendant, in or out of it."""
        descendants = find_descendants(self.pid)
        self._send_group(signal.SIGKILL)
        for pid in descendants:
            _send(pid, signal.SIGKILL)

    def _send_group(self, signum: int) -> None:
        try:
            os.killpg(self.pid, signum)
        except ProcessLookupError:  # between fork and setsid it has no group yet
            _send(self.pid, signum)


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return  # gone, or not ours any more


def find_descendants(pid: int) -> list[int]:
    """Children of `pid`, their children and so on; what cannot be read has none."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        try:
            with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            continue
        found += children
        waiting += children
    return found


def kill_descendants() -> None:
    """SIGKILL to everything that descends from the agent, reaped too, within some milliseconds."""
    for _ in range(_KILL_ROUNDS):
        descendants = find_descendants(os.getpid())
        if not descendants:
            return
        for pid in descendants:
            _send(pid, signal.SIGKILL)
        time.sleep(_KILL_PAUSE_S)
        reap()


def reap() -> list[tuple[int, int]]:
    """(pid, exit code) of everything that has ended; 128+n for a signal."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended.append((pid, code if code >= 0 else 128 - code))


def start_child(settings: Settings, log_fd: int, is_init: bool) -> Child:
    """Fork the app; its output goes to `log_fd`. Raises `OSError` if there can be no fork.

    Signals that arrive meanwhile wait and reach whoever they are meant for.
    """
    agent_pid = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    pid = os.fork()
    if pid == 0:
        _run_child(settings, log_fd, None if is_init else agent_pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return Child(pid, bool(settings.sandbox_argv))


def _run_child(settings: Settings, log_fd: int, parent: int | None) -> None:
    """Become the app; never returns."""
    what = "start"
    try:
        _take_stdio(log_fd)
        os.setsid()
        _reset_signals()
        what = "become the app's user"
        if not settings.sandbox_argv:  # a sandbox may need its setuid bit, and then does the same
            privilege.drop_bounding_set()
            privilege.forbid_new_privileges()
        privilege.become_app(settings.app_uid)
        privilege.limit_core_dumps()
        if parent is not None:
            privilege.die_with_parent(parent, signal.SIGKILL)
        os.umask(0o077)
        what = "prepare the home folder"
        _make_home(settings)
        what = "read the secrets"
        environment = build_environment(settings, load_secrets(settings.secrets_dir))
        what = f"enter {settings.cwd}"
        os.chdir(settings.cwd)
        argv = [*settings.sandbox_argv, *settings.argv]
        what = f"start {argv[0]}"
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - never a shell
    except OSError as error:
        _say(f"cannot {what}: {error.strerror or error}")
    except ValueError as error:
        _say(f"cannot {what}: {error}")
    finally:
        os._exit(START_FAILED)


def _say(text: str) -> None:
    os.write(2, text.encode("utf-8", "replace") + b"\n")


def _take_stdio(log_fd: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    os.closerange(3, _MAX_INHERITED)


def _reset_signals() -> None:
    """As a program expects them: Python ignores two, and handlers of ours end with the exec."""
    signal.set_wakeup_fd(-1)
    for signum in (*FORWARDED, *_SIG_IGN_OF_PYTHON, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _make_home(settings: Settings) -> None:
    """The home folder, with Streamlit's secrets.toml as a link to the one in RAM."""
    os.makedirs(settings.home, mode=0o700, exist_ok=True)
    if not os.path.exists(os.path.join(settings.secrets_dir, "secrets.toml")):
        return
    folder = os.path.join(settings.home, ".streamlit")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    seen = _SANDBOX_SECRETS if settings.sandbox_argv else settings.secrets_dir
    link = os.path.join(folder, "secrets.toml")
    if os.path.islink(link):
        os.unlink(link)
    if not os.path.lexists(link):
        os.symlink(os.path.join(seen, "secrets.toml"), link)


def load_secrets(folder: str) -> dict[str, str]:
    """env.json; no file, no secrets. Raises `OSError` and `ValueError`, which quotes nothing."""
    try:
        with open(os.path.join(folder, "env.json"), "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    try:
        secrets = json.loads(text)
    except ValueError:
        raise ValueError("env.json is not JSON") from None
    if not is_environment(secrets):
        raise ValueError("env.json is not names and texts")
    return dict(secrets)


def build_environment(settings: Settings, secrets: dict[str, str]) -> dict[str, str]:
    """Nothing of the agent's own; the plain environment over our defaults, secrets over both."""
    return {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "HOME": settings.home,
        "TMPDIR": "/tmp",  # noqa: S108 - a size-capped RAM disk of this app alone
        **settings.env,
        **secrets,
    }
