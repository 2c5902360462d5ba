"""The issuing office: checks who asks, knows whom a leaf may be for, and journals every answer.

Invariants: a leaf leaves only after its journal line is on disk; names come from the registry,
keys from the request; nothing here awaits, so a request is answered as a whole or not at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki.bundle import build_bundle, build_chain
from pki.config import PkiConfig
from pki.csr import parse_csr
from pki.errors import DeniedError, JournalError, PkiError
from pki.hierarchy import Hierarchy
from pki.identity import GATEWAY_NAME
from pki.issued import IssuedSet
from pki.journal import Journal
from pki.keystore import Keystore
from pki.profiles import Claim, Kind
from pki.registry import Registry
from pki.roles import Action, Roles
from pki.wire import IssuedLeaf

_LONGEST_LEAF = timedelta(days=8)
_STRANGERS_PAUSE = timedelta(minutes=1)
T = TypeVar("T")
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as the kernel names it (SO_PEERCRED, unix(7))."""

    uid: int
    pid: int


class Office:
    """Everything the PKI does, asked by a peer; open one per state directory."""

    def __init__(self, config: PkiConfig, seal_key: bytes, roles: Roles, clock: Clock) -> None:
        """Load or make the authorities; raises `PkiError` (keys, journal, registry), OSError."""
        self._config = config
        self._roles = roles
        self._clock = clock
        self._last_stranger: dict[int, datetime] = {}
        self._journal = Journal(config.store_dir / "journal.jsonl")
        try:
            self._open(seal_key)
        except BaseException:
            self._journal.close()
            raise

    def __repr__(self) -> str:
        return f"<Office {self._config.trust_domain} {self._journal!r}>"

    def _open(self, seal_key: bytes) -> None:
        directory, trust_domain = self._config.store_dir, self._config.trust_domain
        now = self._clock()
        if self._journal.torn_bytes:
            self._journal.append("recovered", now, torn_bytes=self._journal.torn_bytes)
        self._registry = Registry(directory / "registry.json", trust_domain)
        self._issued = IssuedSet()
        self._issued.replay(self._journal.read_since(now - _LONGEST_LEAF), now)
        keystore = Keystore(directory, seal_key)
        self._hierarchy = Hierarchy(keystore, trust_domain, self._record_authority)
        self._hierarchy.open(now)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.close()

    def refresh(self) -> list[str]:
        """Replace intermediates that are due, drop what expired; returns the kinds replaced."""
        now = self._clock()
        self._issued.prune(now)
        return [kind.value for kind in self._hierarchy.refresh(now)]

    def register(self, peer: Peer, app: str, generation: int, hosts: Sequence[str]) -> None:
        """Make a generation known; raises `DeniedError`, `IdentityError`, `NameTakenError`."""

        def act() -> None:
            checked = self._registry.check(app, generation, hosts)
            if checked is not None:
                self._note("registered", peer, app=app, generation=generation, hosts=checked)
                self._registry.register(app, generation, checked)

        self._answer(peer, Action.register, act)

    def forget(self, peer: Peer, app: str, generation: int | None) -> list[str]:
        """Serials of the app's leaves, and of its visitors' leaves if their hosts go with it."""

        def act() -> list[str]:
            hosts = self._registry.forget(app, generation)
            serials = self._issued.find_app(app, generation) + self._issued.find_hosts(hosts)
            if serials or hosts:
                self._note(
                    "forgotten", peer, app=app, generation=generation, hosts=hosts, serials=serials
                )
                self._issued.drop(serials)
            return serials

        return self._answer(peer, Action.forget, act)

    def issue_app(self, peer: Peer, app: str, generation: int, csr_pem: bytes) -> IssuedLeaf:
        """A leaf for an agent; raises `DeniedError`, `UnknownNameError`, `CsrError`."""

        def act() -> IssuedLeaf:
            self._registry.require_generation(app, generation)
            return self._issue(peer, self._claim(Kind.app, app, generation), csr_pem)

        return self._answer(peer, Action.issue_app, act)

    def issue_gateway(self, peer: Peer, csr_pem: bytes) -> IssuedLeaf:
        """A leaf for the gateway; raises `DeniedError`, `CsrError`."""
        claim = self._claim(Kind.gateway, GATEWAY_NAME)
        return self._answer(peer, Action.issue_gateway, lambda: self._issue(peer, claim, csr_pem))

    def issue_visitor(self, peer: Peer, host: str, csr_pem: bytes) -> IssuedLeaf:
        """A server's leaf for a host; raises `DeniedError`, `UnknownNameError`, `CsrError`."""

        def act() -> IssuedLeaf:
            self._registry.require_host(host)
            return self._issue(peer, self._claim(Kind.visitor, host), csr_pem)

        return self._answer(peer, Action.issue_visitor, act)

    def read_bundle(self, peer: Peer) -> bytes:
        """The roots as PEM; for anybody."""
        return self._answer(peer, Action.read_bundle, lambda: build_bundle(self._hierarchy.roots))

    def read_status(self, peer: Peer) -> dict[str, Any]:
        """Plain values for an operator; raises `DeniedError`."""
        return self._answer(peer, Action.read_status, self._build_status)

    def _answer(self, peer: Peer, action: Action, act: Callable[[], T]) -> T:
        """Do it if the peer may; a refusal is journalled and raised."""
        try:
            if action not in self._roles.list_allowed(peer.uid):
                raise DeniedError(f"uid {peer.uid} may not {action.value.replace('_', ' ')}")
            return act()
        except JournalError:
            raise
        except PkiError as error:
            self._note_refusal(peer, action, error)
            raise

    def _claim(self, kind: Kind, name: str, generation: int | None = None) -> Claim:
        return Claim(kind, self._config.trust_domain, name, generation)

    def _issue(self, peer: Peer, claim: Claim, csr_pem: bytes) -> IssuedLeaf:
        lifetime = timedelta(seconds=self._config.leaf_lifetime)
        key = parse_csr(csr_pem)
        leaf, issuer = self._hierarchy.sign(claim, key, self._clock(), lifetime)
        self._note("issued", peer, **_describe(claim, leaf))
        serial = _format_serial(leaf)
        self._issued.add(serial, claim, leaf.not_valid_after_utc)
        return IssuedLeaf(
            build_chain(leaf, issuer), serial, leaf.not_valid_before_utc, leaf.not_valid_after_utc
        )

    def _record_authority(self, claim: Claim, certificate: x509.Certificate) -> None:
        self._journal.append("authority", self._clock(), **_describe(claim, certificate))

    def _note(self, event: str, peer: Peer, **fields: object) -> None:
        self._journal.append(event, self._clock(), uid=peer.uid, pid=peer.pid, **fields)

    def _note_refusal(self, peer: Peer, action: Action, error: PkiError) -> None:
        """A line per refusal; a stranger gets one a minute, lest he fill the disk."""
        now = self._clock()
        if self._roles.is_stranger(peer.uid):
            last = self._last_stranger.get(peer.uid)
            if last is not None and now - last < _STRANGERS_PAUSE:
                return
            self._last_stranger[peer.uid] = now
        self._note(
            "refused", peer, action=action.value, reason=error.reason, message=str(error)[:500]
        )

    def _build_status(self) -> dict[str, Any]:
        return {
            "trust_domain": self._config.trust_domain,
            "roots": [_describe_authority(root) for root in self._hierarchy.roots],
            "issuers": {
                kind.value: _describe_authority(certificate)
                for kind, certificate in self._hierarchy.issuers.items()
            },
            "apps": {
                app: {str(generation): list(hosts) for generation, hosts in generations.items()}
                for app, generations in self._registry.apps.items()
            },
            "leaves": len(self._issued),
            "journal": {"seq": self._journal.head.seq, "digest": self._journal.head.digest},
        }


def _format_serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:040x}"


def _describe(claim: Claim, certificate: x509.Certificate) -> dict[str, object]:
    return {
        "kind": claim.kind.value,
        "name": claim.name,
        "generation": claim.generation,
        "serial": _format_serial(certificate),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _describe_authority(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "serial": _format_serial(certificate),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }
