"""`python -m gateway`: the visitors' door as a process of its own.

Invariants: it lives on when its parent dies; SIGTERM and SIGINT drain; what it cannot start with
is said in one line; privileges are dropped before the first byte of a peer is read.
"""

import argparse
import asyncio
import encodings.idna  # noqa: F401 - else loaded after privileges, and perhaps the files, are gone
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway.access_log import AccessLog
from gateway.config import GatewayConfig, parse_listen
from gateway.process import (
    StartError,
    drop_privileges,
    harden,
    open_control_socket,
    remove_socket,
)
from gateway.serve import Ground, serve
from gateway.sockets import adopt, bind
from pki import ConfigError, load_section


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 0 stopped, 1 failed, 2 bad configuration."""
    arguments = _parse_arguments(argv)
    try:
        uid = os.geteuid()
        defaults = {"uid": 64052 if uid == 0 else uid, "runner_uid": uid}
        config = load_section(arguments.config, "gateway", GatewayConfig, defaults=defaults)
        _run(config, arguments.listen_fd_https, arguments.listen_fd_http)
    except ConfigError as error:
        _say(str(error))
        return 2
    except (StartError, OSError) as error:
        _say(str(error))
        return 1
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gateway", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=Path, help="the YAML file; built-in defaults without it")
    parser.add_argument("--listen-fd-https", type=int, help="a bound TCP socket for TLS")
    parser.add_argument("--listen-fd-http", type=int, help="a bound TCP socket for redirects")
    return parser.parse_args(argv)


def _run(config: GatewayConfig, https_fd: int | None, http_fd: int | None) -> None:
    harden()
    https = _open_listener(config.https, https_fd)
    http = None if config.http is None else _open_listener(config.http, http_fd)
    control = open_control_socket(config.socket_path)
    try:
        log = AccessLog.open(config.access_log)
        drop_privileges(config.uid)
        ground = Ground(https, http, control, log, time.time, _draw_jitter, _say)
        uvloop.run(_serve(config, ground))
    finally:
        remove_socket(config.socket_path)


def _open_listener(address: str, descriptor: int | None) -> socket.socket:
    try:
        return bind(*parse_listen(address)) if descriptor is None else adopt(descriptor)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error


async def _serve(config: GatewayConfig, ground: Ground) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(_report_fault)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(config, ground, stop)


def _draw_jitter() -> float:
    return random.uniform(-1, 1)  # noqa: S311 - spreads renewals, guards nothing


def _report_fault(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of ours: where it happened, without the values that were involved."""
    error = context.get("exception")
    where = ""
    if isinstance(error, BaseException):
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" at {Path(f.filename).name}:{f.lineno} in {f.name}" for f in last)
        where = f": {type(error).__name__}{where}"
    _say(f"fault: {context.get('message', 'unknown')}{where}")


def _say(text: str) -> None:
    sys.stderr.write(f"gateway: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
