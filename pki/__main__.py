"""`python -m pki`: the certificate authority as a process of its own.

Invariants: privileges are dropped before the first byte of a peer is read; the key comes from the
supervisor's pipe or the key file, never from argv or the environment.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from pki.config import PkiConfig, load_pki_config
from pki.errors import ConfigError, PkiError
from pki.office import Office
from pki.process import (
    drop_privileges,
    harden,
    prepare_run_dir,
    prepare_store,
    read_seal_key,
)
from pki.roles import Roles
from pki.service import Service, open_listener


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, SIGINT or the parent's end; 0 stopped, 1 failed, 2 bad configuration."""
    arguments = _parse_arguments(argv)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        config = load_pki_config(arguments.config, os.geteuid(), os.environ)
        _run(config, arguments.seal_fd, arguments.parent_fd)
    except ConfigError as error:
        _say(str(error))
        return 2
    except (PkiError, OSError) as error:
        _say(str(error))
        return 1
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pki", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, help="the YAML file; built-in defaults without it")
    parser.add_argument("--seal-fd", type=int, help="a pipe that brings the 32-byte seal key")
    parser.add_argument("--parent-fd", type=int, help="a pipe whose end means: stop")
    return parser.parse_args(argv)


def _run(config: PkiConfig, seal_fd: int | None, parent_fd: int | None) -> None:
    harden()
    seal_key = read_seal_key(seal_fd, config.master_key_path)
    prepare_store(config.store_dir, config.uid if os.geteuid() == 0 else os.geteuid())
    prepare_run_dir(config.run_dir)
    with open_listener(config.socket_path) as listener:
        drop_privileges(config.uid)
        roles = Roles(os.geteuid(), config.runner_uid, config.gateway_uid)
        office = Office(config, seal_key, roles, lambda: datetime.now(UTC))
        try:
            asyncio.run(_serve(Service(office), listener, parent_fd))
        finally:
            office.close()
            _remove_socket(config.socket_path)


async def _serve(service: Service, listener: socket.socket, parent_fd: int | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_fd is not None:
        os.set_blocking(parent_fd, False)
        loop.add_reader(parent_fd, _watch_parent, parent_fd, stop.set)
    await service.run(listener, stop, lambda: _say("ready"))


def _watch_parent(descriptor: int, stop: Callable[[], None]) -> None:
    """The pipe never carries bytes; its end means that nobody holds the other side."""
    try:
        is_gone = not os.read(descriptor, 64)
    except BlockingIOError:
        return
    if is_gone:
        asyncio.get_running_loop().remove_reader(descriptor)
        stop()


def _remove_socket(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return  # root made it and we gave root up; the next start replaces it


def _say(text: str) -> None:
    sys.stderr.write(f"pki: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
