"""The parts put together; starting and stopping as a process is in tests/integration."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from gateway import GatewayConfig
from gateway.access_log import AccessLog
from gateway.process import StartError, open_control_socket
from gateway.serve import Ground, read_version, serve
from gateway.sockets import bind


def build_ground(tmp_path: Path, said: list[str]) -> Ground:
    """Everything that wiring brings, on free ports."""
    return Ground(
        bind("127.0.0.1", 0),
        None,
        open_control_socket(tmp_path / "run" / "gateway.sock"),
        AccessLog.open(tmp_path / "access.log"),
        time.time,
        lambda: 0.0,
        said.append,
    )


async def test_gives_up_on_a_pki_that_never_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience has an end, and what was missing is said once."""
    monkeypatch.setattr("gateway.serve._PKI_PATIENCE_S", 0.5)
    monkeypatch.setattr("gateway.serve._PKI_PAUSE_S", 0.05)
    said: list[str] = []
    config = GatewayConfig(run_dir=tmp_path / "run")
    with pytest.raises(StartError, match="no certificate of its own"):
        await serve(config, build_ground(tmp_path, said), asyncio.Event())
    assert len(said) == 1


async def test_stop_before_it_began(tmp_path: Path) -> None:
    """A stop that came first is obeyed, and no descriptor is left."""
    stop = asyncio.Event()
    stop.set()
    ground = build_ground(tmp_path, [])
    before = len(os.listdir("/proc/self/fd"))
    await serve(GatewayConfig(run_dir=tmp_path / "run"), ground, stop)
    assert len(os.listdir("/proc/self/fd")) <= before
    ground.https.close()
    ground.control.close()


def test_knows_its_version() -> None:
    """The version is that of the package, or "0" where nothing is installed."""
    assert read_version()[0].isdigit()
