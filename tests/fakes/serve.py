"""`python -m tests.fakes.serve SOCKET`: the runner's real socket over the fake deployer.

Invariants: ends on SIGTERM, after `POST /stop`, and when the pipe of `--parent-fd` closes.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from runner.api import serve_api
from runner.operations import Operations
from tests.fakes.deployer import FakeDeployer


async def serve(path: Path, parent_fd: int | None) -> None:
    """Until told to end."""
    async with Operations() as operations, serve_api(FakeDeployer(), operations, path) as api:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, api.stopped.set)
        if parent_fd is not None:
            loop.add_reader(parent_fd, api.stopped.set)
        print("runner: ready", file=sys.stderr, flush=True)
        await api.stopped.wait()


def main() -> None:
    """The options are those of the real one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("--seal-fd", type=int)
    parser.add_argument("--parent-fd", type=int)
    given = parser.parse_args()
    if given.seal_fd is not None:
        with os.fdopen(given.seal_fd, "rb") as pipe:
            if len(pipe.read()) != 32:
                sys.exit("no key of 32 bytes")
    asyncio.run(serve(given.socket, given.parent_fd))


if __name__ == "__main__":
    main()
