"""Wiring: settings, the app's process, privileges, log, door, and the end of them all.

Invariants, in this order: the listener is bound before the app runs, so that the app cannot take
its place; the app is forked before privileges go, because only then it can get its uid; the TLS key
is read after they have gone; the agent ends with the app, and with its code.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from . import privilege
from .child import FORWARDED, kill_descendants, reap, start_child
from .listener import open_listener
from .log import Log, LogFile, Refusals
from .loop import READ, Loop
from .settings import Settings, SettingsError, parse_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from .door import Door

BAD_USAGE = 2
BROKEN = 121  # the agent cannot do its work; the app was killed

_OPEN_FILES = 8192
_SPARE_FILES = 64
_LAST_BYTES_S = 1.0
_LAST_PIECES = 64
_PIECE_BYTES = 64 * 1024
_SIGNALS_PER_READ = 512
_REFUSAL_BURST = 20
_REFUSALS_PER_S = 1.0


def main(argv: list[str]) -> int:
    """`argv[1]` is the path of agent.json; the app's exit code, 128+n after a signal."""
    if len(argv) != 2:
        return _complain("usage: agent AGENT.JSON", BAD_USAGE)
    try:
        settings = load_settings(argv[1])
    except (OSError, SettingsError) as error:
        return _complain(f"{argv[1]}: {error}", BAD_USAGE)
    try:
        return Agent(settings).run()
    except OSError as error:
        return _complain(str(error), BROKEN)


def load_settings(path: str) -> Settings:
    """Read agent.json as the owner of its folder, which is the agent's uid already.

    Raises `OSError`, `SettingsError`.
    """
    owner = os.stat(os.path.dirname(os.path.abspath(path))).st_uid
    with privilege.ActingAs(owner), open(path, "rb") as file:
        return parse_settings(file.read())


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"agent: {text}\n")
    return code


def _ignore(_signum: int, _frame: object) -> None:
    """A signal is read from the wakeup pipe; Python wants a function all the same."""


class Agent:
    """One app from its start to its end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_init = os.getpid() == 1
        self._is_stopping = False
        self._code: int | None = None
        self._loop = Loop(self._on_error)
        self._log_file = LogFile(settings.log_path, settings.log_max_bytes, settings.log_files)
        self._log = Log(self._log_file, time.time)
        self._refusals = Refusals(self._log, time.monotonic, _REFUSAL_BURST, _REFUSALS_PER_S)
        self._door: Door | None = None

    def run(self) -> int:
        """Until the app has ended; raises `OSError` if the agent cannot begin."""
        settings = self._settings
        privilege.limit_core_dumps()
        if not self._is_init:
            privilege.adopt_orphans()
        with privilege.ActingAs(settings.agent_uid):
            listener = open_listener(settings.listen)
        self._catch_signals()
        self._start_app()
        try:
            privilege.become_agent(settings.agent_uid)
            os.umask(0o077)
            self._open_log()
            self._open_door(listener)
            self._loop.run()
        except BaseException as error:
            self._log.write_own(f"cannot go on: {error}")
            self._child.kill()
            raise
        self._read_output()
        self._log.flush()
        return BROKEN if self._code is None else self._code

    # --- start -----------------------------------------------------------------------------------

    def _catch_signals(self) -> None:
        self._signal_fd, wakeup_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
        for signum in (*FORWARDED, signal.SIGCHLD):
            signal.signal(signum, _ignore)
        self._loop.watch(self._signal_fd, READ, self._on_signal)

    def _start_app(self) -> None:
        """The pipe belongs to the app's uid, or the app could not open /dev/stdout."""
        with privilege.ActingAs(self._settings.app_uid):
            self._output_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output_fd, False)
        self._child = start_child(self._settings, write_fd, self._is_init)
        os.close(write_fd)

    def _open_log(self) -> None:
        self._log.write_own("app started")
        if self._log_file.lost:
            _complain(f"{self._settings.log_path} cannot be written", BROKEN)
        self._loop.watch(self._output_fd, READ, self._on_output)

    def _open_door(self, listener: socket.socket) -> None:
        """TLS is loaded only now: the app starts meanwhile, and its process never holds it."""
        from .door import Door
        from .identity import Identity

        settings = self._settings
        files = privilege.raise_open_files(_OPEN_FILES)
        self._door = Door(
            self._loop,
            listener,
            Identity(settings.identity_dir, self._log.write_own),
            settings.peer_prefix,
            settings.app_port,
            max(1, (files - _SPARE_FILES) // 2),
            self._refusals.report,
        )

    # --- while the app runs ----------------------------------------------------------------------

    def _on_error(self, error: Exception) -> None:
        self._refusals.report("a connection", f"the agent failed: {error!r}")

    def _on_signal(self, _events: int) -> None:
        for signum in os.read(self._signal_fd, _SIGNALS_PER_READ):
            if signum == signal.SIGCHLD:
                self._on_ended()
            elif self._code is None:
                self._child.forward(signum)
                if signum == signal.SIGTERM:
                    self._stop()

    def _stop(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._log.write_own(f"stopping, the app has {self._settings.grace_s:g} s")
            self._loop.call_after(self._settings.grace_s, self._kill)

    def _kill(self) -> None:
        if self._code is None:
            self._log.write_own("the app did not stop in time")
            self._child.kill()

    def _on_output(self, _events: int) -> None:
        self._read_output(pieces=1)

    def _read_output(self, pieces: int = _LAST_PIECES) -> None:
        for _ in range(pieces):
            try:
                piece = os.read(self._output_fd, _PIECE_BYTES)
            except BlockingIOError:
                return
            if not piece:
                self._loop.unwatch(self._output_fd)
                return
            self._log.write_app(piece)

    # --- its end ---------------------------------------------------------------------------------

    def _on_ended(self) -> None:
        for pid, code in reap():
            if pid == self._child.pid:
                self._on_app_ended(code)

    def _on_app_ended(self, code: int) -> None:
        """What the app left behind goes too; then the last bytes get a moment to leave."""
        self._code = code
        if not self._is_init:  # the kernel does it when an init ends
            kill_descendants()
        self._read_output()
        self._log.flush()
        self._log.write_own(f"app ended, {describe_code(code)}")
        self._loop.call_after(_LAST_BYTES_S, self._loop.stop)
        if self._door is not None:
            self._door.close(on_empty=self._loop.stop)


def describe_code(code: int) -> str:
    """`exit code 3`, or `killed by SIGKILL` for 137."""
    if code > 128:
        try:
            return f"killed by {signal.Signals(code - 128).name}"
        except ValueError:
            pass
    return f"exit code {code}"
