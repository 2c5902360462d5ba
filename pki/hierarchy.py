"""The standing authorities: one root, the "internal" and the "visitors" intermediate under it.

Invariants: the root's key is in memory only while an intermediate is made; an intermediate past
half its life is replaced and its old key forgotten, while leaves it signed stay valid; what is
loaded is checked by `validate` as strictly as what is made.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import CertificateError, KeystoreError
from pki.issuer import Authority, Order, issue, issue_root
from pki.keys import make_key, make_serial
from pki.keystore import Keystore
from pki.profiles import ISSUER_LIFETIME, ROOT_LIFETIME, SIGNED_BY, Claim, Kind
from pki.rotation import is_past_half_life
from pki.validate import check_certificate

Recorder = Callable[[Claim, x509.Certificate], None]


class Hierarchy:
    """Authorities by kind; `record` hears of each new certificate before it is stored."""

    def __init__(self, keystore: Keystore, trust_domain: str, record: Recorder) -> None:
        self._keystore = keystore
        self._trust_domain = trust_domain
        self._record = record
        self._root: x509.Certificate | None = None
        self._issuers: dict[Kind, Authority] = {}

    def __repr__(self) -> str:
        kinds = ", ".join(kind.value for kind in self._issuers)
        return f"<Hierarchy {self._trust_domain}: {kinds or 'not open'}>"

    @property
    def roots(self) -> list[x509.Certificate]:
        """What peers must trust."""
        return [] if self._root is None else [self._root]

    @property
    def issuers(self) -> dict[Kind, x509.Certificate]:
        """The intermediates that sign now."""
        return {kind: authority.certificate for kind, authority in self._issuers.items()}

    def open(self, now: datetime) -> None:
        """Load or make every authority; raises `SealError`, `KeystoreError`, `CertificateError`."""
        self._root = self._load_root(now) or self._make_root(now)
        for kind in (Kind.internal, Kind.visitors):
            authority = self._load_issuer(kind, self._root, now)
            self._issuers[kind] = authority or self._make_issuer(kind, now)
        self.refresh(now)

    def refresh(self, now: datetime) -> list[Kind]:
        """Replace the intermediates past half life; returns which. Raises as `open`."""
        due = [
            kind
            for kind, authority in self._issuers.items()
            if is_past_half_life(
                authority.certificate.not_valid_before_utc,
                authority.certificate.not_valid_after_utc,
                now,
            )
        ]
        for kind in due:
            self._issuers[kind] = self._make_issuer(kind, now)
        return due

    def sign(
        self,
        claim: Claim,
        public_key: ec.EllipticCurvePublicKey,
        now: datetime,
        lifetime: timedelta,
    ) -> tuple[x509.Certificate, x509.Certificate]:
        """A leaf for the claim and the intermediate that signed it; raises as `issue`."""
        authority = self._issuers[SIGNED_BY[claim.kind]]
        leaf = issue(Order(claim, public_key, make_serial(), now, lifetime), authority)
        return leaf, authority.certificate

    def _load_root(self, now: datetime) -> x509.Certificate | None:
        stored = self._keystore.load(Kind.root.value)
        if stored is None:
            return None
        claim = Claim(Kind.root, self._trust_domain, _name_key(stored.certificate.public_key()))
        self._check_loaded(stored.certificate, stored.certificate, claim, now)
        return stored.certificate

    def _load_issuer(self, kind: Kind, root: x509.Certificate, now: datetime) -> Authority | None:
        stored = self._keystore.load(kind.value)
        if stored is None or now >= stored.certificate.not_valid_after_utc:
            return None
        key = self._keystore.unseal_key(kind.value, stored)
        self._check_loaded(stored.certificate, root, Claim(kind, self._trust_domain), now)
        return Authority(stored.certificate, key)

    def _check_loaded(
        self, certificate: x509.Certificate, parent: x509.Certificate, claim: Claim, now: datetime
    ) -> None:
        key = certificate.public_key()
        try:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise CertificateError("its key must be P-256")
            check_certificate(certificate, parent, claim, key, now)
        except CertificateError as error:
            raise KeystoreError(
                f"the stored {claim.kind.value} authority of {self._trust_domain} cannot be used "
                f"(was the trust domain changed?): {error}"
            ) from None

    def _make_root(self, now: datetime) -> x509.Certificate:
        key = make_key()
        claim = Claim(Kind.root, self._trust_domain, _name_key(key.public_key()))
        order = Order(claim, key.public_key(), make_serial(), now, ROOT_LIFETIME)
        certificate = issue_root(order, key)
        self._record(claim, certificate)
        self._keystore.save(Kind.root.value, certificate, key)
        return certificate

    def _make_issuer(self, kind: Kind, now: datetime) -> Authority:
        stored = self._keystore.load(Kind.root.value)
        if stored is None or stored.certificate != self._root:
            raise KeystoreError("the root changed on disk while the PKI was running")
        root_key = self._keystore.unseal_key(Kind.root.value, stored)
        parent = Authority(stored.certificate, root_key)
        key, claim = make_key(), Claim(kind, self._trust_domain)
        order = Order(claim, key.public_key(), make_serial(), now, ISSUER_LIFETIME)
        certificate = issue(order, parent)
        self._record(claim, certificate)
        self._keystore.save(kind.value, certificate, key)
        return Authority(certificate, key)


def _name_key(key: object) -> str:
    """Eight hex digits of the key's identifier: tells two installations' roots apart by name."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return ""
    return x509.SubjectKeyIdentifier.from_public_key(key).digest.hex()[:8]
