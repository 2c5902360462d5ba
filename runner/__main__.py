"""`python -m runner serve`: the runner as a process of its own.

Invariants: wiring only; a mistake of the operator is one line and exit code 1 or 2, no traceback.
"""

import argparse
import asyncio
import ctypes
import resource
import sys
from pathlib import Path

import structlog

from pki import ConfigError
from runner.errors import RunnerError
from runner.serve import serve

PR_SET_DUMPABLE = 4


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, close the doors that a debugger would use, serve."""
    parser = argparse.ArgumentParser(prog="python -m runner")
    commands = parser.add_subparsers(dest="command", required=True)
    serving = commands.add_parser("serve", help="keep apps as they shall be, answer on runner.sock")
    serving.add_argument("--config", type=Path, required=True)
    serving.add_argument("--seal-fd", type=int, required=True, help="a pipe with the vault key")
    serving.add_argument("--parent-fd", type=int, help="a pipe; its end is the end of this process")
    given = parser.parse_args(argv)
    # The vault key is in this memory: no core dump, no debugger of the same user.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event")),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        asyncio.run(serve(given.config, given.seal_fd, given.parent_fd))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except RunnerError as error:
        print(f"runner: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
