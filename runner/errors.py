"""Errors of the runner that a caller tells apart; each text is one line for an operator.

Invariants: no error carries a secret or an app's data; `status` is what the runner's socket
answers with, decided here and nowhere else.
"""


class RunnerError(Exception):
    """The runner could not do it. `log_tail`: last lines of a log; `log_path`: where it lies."""

    status = 500

    def __init__(self, text: str, *, log_tail: tuple[str, ...] = (), log_path: str = "") -> None:
        super().__init__(text)
        self.log_tail = log_tail
        self.log_path = log_path


class UnknownAppError(RunnerError):
    """No app has this name."""

    status = 404


class BusyError(RunnerError):
    """Another operation on the same app is under way; the text says which and whose."""

    status = 409


class RefusedError(RunnerError):
    """What was asked for can never work as it was asked (two apps with one host, a bad name)."""

    status = 422


class UnreachableError(RunnerError):
    """Nothing answers on the runner's socket: `lockgate up` is not running."""

    status = 503


class StartError(RunnerError):
    """Lockgate cannot start here as it is configured; the text ends with what to do."""
