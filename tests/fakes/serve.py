"""`python -m tests.fakes.serve SOCKET`: the runner's real socket over the fake deployer.

Invariants: ends on SIGTERM, after `POST /stop`, and when the pipe of `--parent-fd` closes.
"""

import asyncio
import signal
import sys
from pathlib import Path

from runner.api import serve_api
from runner.operations import Operations
from tests.fakes.deployer import FakeDeployer


async def serve(path: Path) -> None:
    """Until told to end."""
    async with Operations() as operations, serve_api(FakeDeployer(), operations, path) as api:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, api.stopped.set)
        print("runner: ready", file=sys.stderr, flush=True)
        await api.stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
