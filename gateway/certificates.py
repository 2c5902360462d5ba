"""Which certificates visitors are shown, and the gateway's own leaf towards the apps.

Invariants: a new set is built aside and swapped in whole; when anything fails, what was in force
stays in force; private keys of issued leaves are never in a file.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.config import CertificateFiles
from gateway.dial import Dialer
from gateway.tls import CertificateStore, build_agent_context, build_visitor_context, read_names
from pki import (
    ConfigError,
    IssuedLeaf,
    PkiClient,
    PkiError,
    make_key_and_csr,
    pick_renewal_time,
)

Say = Callable[[str], None]
Jitter = Callable[[], float]
"""Draws from [-1, 1]."""

_PARALLEL = 8


@dataclass(frozen=True, slots=True)
class Held:
    """A context and the Unix time at which its leaf is to be replaced."""

    context: ssl.SSLContext
    renew_at: float


def _pick_time(leaf: IssuedLeaf, jitter: float) -> float:
    return pick_renewal_time(leaf.not_before, leaf.not_after, jitter).timestamp()


class OwnLeaf:
    """The gateway's identity: what agents are shown, and strangers whose name nobody knows."""

    def __init__(self, pki: PkiClient, dialer: Dialer, jitter: Jitter) -> None:
        self._pki = pki
        self._dialer = dialer
        self._jitter = jitter
        self.renew_at = 0.0

    def __repr__(self) -> str:
        return f"<OwnLeaf renew_at={datetime.fromtimestamp(self.renew_at, UTC):%FT%TZ}>"

    async def renew(self) -> ssl.SSLContext:
        """Fetch a leaf for a new key, use it from the next connection on; raises PkiError.

        Returns a server context with it, for visitors whom no other certificate fits.
        """
        pair = make_key_and_csr()
        leaf = await self._pki.issue_gateway(pair.csr_pem)
        roots = await self._pki.fetch_bundle()
        self._dialer.swap_context(build_agent_context(leaf.chain_pem, pair.key_pem, roots))
        self.renew_at = _pick_time(leaf, self._jitter())
        return build_visitor_context(leaf.chain_pem, pair.key_pem)


class IssuedCertificates:
    """Certificates from our own PKI, one for each host of the table."""

    def __init__(self, pki: PkiClient, store: CertificateStore, jitter: Jitter) -> None:
        self._pki = pki
        self._store = store
        self._jitter = jitter
        self._held: dict[str, Held] = {}

    def __repr__(self) -> str:
        return f"<IssuedCertificates {len(self._held)} hosts>"

    async def cover(self, hosts: Collection[str]) -> None:
        """Have a certificate for exactly these hosts; raises PkiError and changes nothing."""
        missing = [host for host in hosts if host not in self._held]
        issued = await self._issue(missing)
        self._swap({host: self._held.get(host) or issued[host] for host in hosts})

    async def renew(self, now: float) -> None:
        """Replace what is due at the Unix time `now`; raises PkiError."""
        due = [host for host, held in self._held.items() if held.renew_at <= now]
        issued = await self._issue(due)
        self._swap({**self._held, **{k: v for k, v in issued.items() if k in self._held}})

    async def _issue(self, hosts: list[str]) -> Mapping[str, Held]:
        gate = asyncio.Semaphore(_PARALLEL)
        issued = await asyncio.gather(*(self._issue_one(host, gate) for host in hosts))
        return dict(zip(hosts, issued, strict=True))

    async def _issue_one(self, host: str, gate: asyncio.Semaphore) -> Held:
        async with gate:
            pair = make_key_and_csr()
            leaf = await self._pki.issue_visitor(host, pair.csr_pem)
            context = build_visitor_context(leaf.chain_pem, pair.key_pem)
            return Held(context, _pick_time(leaf, self._jitter()))

    def _swap(self, held: Mapping[str, Held]) -> None:
        self._held = dict(held)
        self._store.swap({host: entry.context for host, entry in held.items()})


class FileCertificates:
    """Certificates from the operator's files, matched by the names that are in them."""

    def __init__(self, files: tuple[CertificateFiles, ...], say: Say) -> None:
        self._files = files
        self._say = say
        self._stamps = self._read_stamps()
        self._contexts, self.default = self._load()
        self._store: CertificateStore | None = None

    def __repr__(self) -> str:
        return f"<FileCertificates {sorted(self._contexts)}>"

    def serve(self, store: CertificateStore) -> None:
        """Put them into `store`, now and whenever they change."""
        self._store = store
        store.swap_default(self.default)
        store.swap(self._contexts)

    async def cover(self, hosts: Collection[str]) -> None:
        """Say which hosts no certificate is for; visitors will be warned by their browsers."""
        for host in hosts:
            wildcard = "*." + host.partition(".")[2]
            if host not in self._contexts and wildcard not in self._contexts:
                self._say(f"no certificate file is for {host}")

    async def renew(self, now: float) -> None:  # noqa: ARG002 - files change when they change
        """Read the files again if they changed; what cannot be read leaves the old in force."""
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._contexts, self.default = self._load()
        except ConfigError as error:
            self._say(f"certificates stay as they were: {error}")
            return
        if self._store is not None:
            self.serve(self._store)
        self._say("certificates were read again")

    def _read_stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for entry in self._files for path in (entry.cert, entry.key)]

    def _load(self) -> tuple[dict[str, ssl.SSLContext], ssl.SSLContext]:
        contexts: dict[str, ssl.SSLContext] = {}
        default: ssl.SSLContext | None = None
        for entry in self._files:
            context, names = _load_files(entry)
            default = default or context
            for name in names:
                contexts.setdefault(name, context)
        if default is None:
            raise ValueError("there is no certificate file to serve")
        return contexts, default


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _load_files(entry: CertificateFiles) -> tuple[ssl.SSLContext, tuple[str, ...]]:
    chain_pem, key_pem = _read(entry.cert), _read(entry.key)
    try:
        context = build_visitor_context(chain_pem, key_pem)
        names = read_names(context, chain_pem)
    except (ssl.SSLError, ValueError) as error:
        problem = getattr(error, "verify_message", None) or getattr(error, "reason", None)
        raise ConfigError(
            os.fspath(entry.cert), None, "gateway.certificates", str(problem or error)
        ) from error
    if not names:
        raise ConfigError(
            os.fspath(entry.cert), None, "gateway.certificates", "it names no DNS name (SAN)"
        )
    return context, names


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            os.fspath(path), None, "gateway.certificates", error.strerror or str(error)
        ) from error


class CertificateKeeper:
    """Keeps the own leaf and the visitors' certificates fresh."""

    def __init__(
        self,
        leaf: OwnLeaf,
        visitors: IssuedCertificates | FileCertificates,
        store: CertificateStore,
        wall: Callable[[], float],
        say: Say,
    ) -> None:
        self._leaf = leaf
        self._visitors = visitors
        self._store = store
        self._wall = wall
        self._say = say

    def __repr__(self) -> str:
        return f"<CertificateKeeper {self._leaf!r} {self._visitors!r}>"

    async def keep(self, period_s: float) -> None:
        """Look every `period_s` seconds, for ever; a PKI that fails is asked again."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.look()
            except (PkiError, ssl.SSLError) as error:
                self._say(f"certificates could not be renewed, trying again: {error}")

    async def look(self) -> None:
        """Renew what is due; raises PkiError."""
        now = self._wall()
        if self._leaf.renew_at <= now:
            context = await self._leaf.renew()
            if isinstance(self._visitors, IssuedCertificates):
                self._store.swap_default(context)
        await self._visitors.renew(now)
