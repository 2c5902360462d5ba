"""`python -m tests.fakes.up CONFIG`: the real supervisor, pki and gateway around the fake runner.

Invariants: everything but the runner is what `lockgate up` starts, started by the same code.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from runner.config import load_config
from runner.errors import RunnerError
from runner.up.processes import build_argv
from runner.up.run import Up

CHECKOUT = Path(__file__).parents[2]


def say(text: str) -> None:
    """As `lockgate up` does in a pipe."""
    print(f"lockgate: {text}", flush=True)


async def run(config_path: Path, broken: str) -> bool:
    """Until interrupted; `broken` names a process that ends at once."""
    config = load_config(config_path)

    def build(name: str, path: Path, descriptors: Mapping[str, int]) -> list[str]:
        argv = build_argv(name, path, descriptors)
        if name == broken:
            return [sys.executable, "-c", "import sys; sys.exit('out of luck')"]
        if name != "runner":
            return argv
        options = argv[argv.index("--config") + 2 :]
        fake = [sys.executable, "-m", "tests.fakes.serve", str(config.socket_path), *options]
        return ["env", "-C", str(CHECKOUT), *fake]

    return await Up(config, say, build=build).run()


if __name__ == "__main__":
    try:
        is_tidy = asyncio.run(run(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
        sys.exit(0 if is_tidy else 1)
    except RunnerError as error:
        print(f"error: {error}", flush=True)
        sys.exit(1)
