"""What one supervised process must hold."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from runner.config import LockgateConfig, load_config
from runner.errors import StartError
from runner.up.processes import LOG_LIMIT_BYTES, Supervised, answers, build_argv

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> LockgateConfig:
    """Directories below the test's folder."""
    (tmp_path / "run").mkdir()
    dirs = {"LOCKGATE_STATE_DIR": f"{tmp_path}/state", "LOCKGATE_RUN_DIR": f"{tmp_path}/run"}
    return load_config(None, env=dirs)


def supervise(config: LockgateConfig, code: str, said: list[str]) -> Supervised:
    """A `runner` that is this Python code."""

    def build(name: str, path: Path, descriptors: Mapping[str, int]) -> list[str]:
        return [
            sys.executable,
            "-c",
            code,
            str(config.socket_path),
            *map(str, descriptors.values()),
        ]

    return Supervised(
        "runner",
        config,
        config.run_dir / "effective.yaml",
        offer=dict,
        kept=dict,
        say=said.append,
        log=config.run_dir / "runner.log",
        build=build,
        patience_s=1.0,
    )


FAKE = f"""
import sys; sys.path.insert(0, {str(CHECKOUT)!r}); sys.argv = ["serve", sys.argv[1]]
from tests.fakes.serve import main; main()
"""


def test_a_process_runs_in_this_interpreter_blind_to_the_cwd() -> None:
    """`-P`: a folder named `pki` where somebody stands is not what is started."""
    argv = build_argv("runner", Path("/c.yaml"), {"seal-fd": 5, "parent-fd": 6})
    assert argv[:5] == [sys.executable, "-P", "-m", "runner", "serve"]
    assert argv[5:] == ["--config", "/c.yaml", "--seal-fd", "5", "--parent-fd", "6"]


async def test_it_counts_as_started_when_it_answers(config: LockgateConfig) -> None:
    """Not when it exists."""
    process = supervise(config, FAKE, [])
    process.patience_s = 20.0
    assert not await answers("runner", config)
    await process.start()
    assert await answers("runner", config)
    await process.stop(5.0)
    assert not process.is_running
    assert not config.socket_path.exists()


async def test_one_that_ends_at_once_is_an_error_with_its_last_words(
    config: LockgateConfig,
) -> None:
    """The exit code and the last line it wrote."""
    process = supervise(config, "import sys; sys.exit('no engine here')", [])
    with pytest.raises(StartError, match=r"runner does not start \(exit code 1\): no engine here"):
        await process.start()


async def test_one_that_never_answers_is_ended(config: LockgateConfig) -> None:
    """After its patience, with a line that says so."""
    process = supervise(config, "import time; time.sleep(60)", [])
    with pytest.raises(StartError, match="did not answer within 1 s"):
        await process.start()
    assert not process.is_running


async def test_one_that_keeps_dying_is_started_later_each_time(config: LockgateConfig) -> None:
    """0.5 s, then 1 s: each start is one line, a failed one says why."""
    said: list[str] = []
    process = supervise(config, "import sys; sys.exit('broken')", said)
    with pytest.raises(StartError):
        await process.start()
    keeping = asyncio.create_task(process.keep())
    begin = time.monotonic()
    while sum("starting it again" in line for line in said) < 2:
        assert time.monotonic() - begin < 10, said
        await asyncio.sleep(0.02)
    keeping.cancel()
    assert "starting it again in 0.5 s" in said[0]
    assert said[1] == "runner does not start (exit code 1): broken"
    assert "starting it again in 1 s" in said[2]


async def test_offered_descriptors_are_closed_here_and_open_there(config: LockgateConfig) -> None:
    """A key's pipe does not stay open in the supervisor."""
    reader, writer = os.pipe()
    os.write(writer, b"key!")
    os.close(writer)
    code = "import os, sys; sys.exit(os.read(int(sys.argv[2]), 9).decode())"
    process = supervise(config, code, [])
    process.offer = lambda: {"seal-fd": reader}
    with pytest.raises(StartError, match="key!"):
        await process.start()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


def test_a_log_that_grew_too_long_is_emptied(config: LockgateConfig) -> None:
    """It lies in RAM on most machines."""
    process = supervise(config, "", [])
    process.trim_log()
    assert process.log is not None
    process.log.write_bytes(b"x")
    process.trim_log()
    assert process.log.stat().st_size == 1
    os.truncate(process.log, LOG_LIMIT_BYTES + 1)
    process.trim_log()
    assert process.log.stat().st_size == 0
