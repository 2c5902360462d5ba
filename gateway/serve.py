"""The gateway put together: from bound sockets to an orderly stop.

Invariants: `ready` is said only when visitors and the runner can both be answered; a stop lets
what is under way finish, within its time, and then ends everything; nothing outlives `serve`.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from gateway.access_log import AccessLog
from gateway.certificates import (
    CertificateKeeper,
    FileCertificates,
    IssuedCertificates,
    Jitter,
    OwnLeaf,
    Say,
)
from gateway.config import GatewayConfig
from gateway.control import Control, build_uids
from gateway.dial import Dialer
from gateway.listener import Listener
from gateway.process import StartError
from gateway.site import Site, build_limits
from gateway.sockets import describe
from gateway.table import StatusReport
from gateway.tasks import Tasks
from gateway.tls import CertificateStore
from pki import PkiClient, PkiError

_PKI_PATIENCE_S = 60.0
_PKI_PAUSE_S = 0.25
_SWEEP_S = 1.0
_LOOK_S = 15.0
_DRAIN_STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class Ground:
    """What wiring brings: sockets that listen, the log, clocks and dice, and where to speak."""

    https: socket.socket
    http: socket.socket | None
    control: socket.socket
    log: AccessLog
    wall: Callable[[], float]
    jitter: Jitter
    say: Say


async def serve(config: GatewayConfig, ground: Ground, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; raises ConfigError and StartError before `ready`."""
    pki = PkiClient(config.pki_socket_path)
    try:
        async with Tasks() as tasks:
            await _serve(config, ground, stop, tasks, pki)
    finally:
        await pki.close()
        ground.log.close()


async def _serve(
    config: GatewayConfig, ground: Ground, stop: asyncio.Event, tasks: Tasks, pki: PkiClient
) -> None:
    dialer = Dialer(config.limits, build_limits(config), tasks)
    site = Site(config, dialer, ground.log, ground.wall)
    leaf = OwnLeaf(pki, dialer, ground.jitter)
    files = None
    if not isinstance(config.certificates, str):
        files = FileCertificates(config.certificates, ground.say)
    default = await _await_leaf(leaf, stop, ground.say)
    if default is None:
        return
    store = CertificateStore(default)
    visitors = files or IssuedCertificates(pki, store, ground.jitter)
    if files is not None:
        files.serve(store)
    listeners = [Listener(site, ground.https, store, tasks)]
    if ground.http is not None:
        listeners.append(Listener(site, ground.http, None, tasks))
    site.https_port = ground.https.getsockname()[1]
    status = _build_status(config, site, ground)
    control = Control(site, visitors, status, build_uids(config.runner_uid))
    await control.start(ground.control)
    for listener in listeners:
        listener.start()
    keeper = CertificateKeeper(leaf, visitors, store, ground.wall, ground.say)
    tasks.start(keeper.keep, _LOOK_S)
    tasks.start(_sweep, site)
    ground.say("ready")
    await stop.wait()
    await _drain(site, listeners, config.limits.drain)
    await control.close()
    dialer.close()


async def _await_leaf(leaf: OwnLeaf, stop: asyncio.Event, say: Say) -> ssl.SSLContext | None:
    """The context for strangers once the PKI has answered; None when told to stop before."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PKI_PATIENCE_S
    said = ""
    while not stop.is_set():
        try:
            return await leaf.renew()
        except PkiError as error:
            if loop.time() >= deadline:
                raise StartError(f"no certificate of its own: {error}") from error
            if str(error) != said:
                said = str(error)
                say(f"waiting for a certificate of its own: {error}")
        try:
            await asyncio.wait_for(stop.wait(), _PKI_PAUSE_S)
        except TimeoutError:
            continue
    return None


def _build_status(config: GatewayConfig, site: Site, ground: Ground) -> Callable[[], StatusReport]:
    own_version, config_hash = read_version(), config.build_hash()
    https = (describe(ground.https),)
    http = () if ground.http is None else (describe(ground.http),)

    def build() -> StatusReport:
        return StatusReport(
            pid=os.getpid(),
            version=own_version,
            config_hash=config_hash,
            table_version=site.table_version,
            https=https,
            http=http,
        )

    return build


async def _sweep(site: Site) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP_S)
        try:
            site.sweep(loop.time())
        except Exception as error:
            loop.call_exception_handler({"message": "a sweep failed", "exception": error})


async def _drain(site: Site, listeners: list[Listener], patience_s: float) -> None:
    """Accept no more, let answers finish for at most `patience_s`, then cut what is left."""
    for listener in listeners:
        listener.stop()
    site.is_draining = True
    for waiting in list(site.waiting):
        waiting.drain()
    deadline = site.now() + patience_s
    while site.now() < deadline and any(entry.is_busy for entry in site.waiting):  # noqa: ASYNC110 - a stop is rare, an event for it would be kept by every connection
        await asyncio.sleep(_DRAIN_STEP_S)
    site.cut()
    for waiting in list(site.waiting):
        waiting.drain()
    await asyncio.sleep(_DRAIN_STEP_S)


def read_version() -> str:
    """The version of the installed package, or "0" in a bare checkout."""
    try:
        return version("lockgate")
    except PackageNotFoundError:
        return "0"
