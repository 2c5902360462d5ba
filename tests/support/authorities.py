"""Certificate authorities for tests: a root, both intermediates and leaves by the real issuer.

Invariants: time stands still at `NOW` unless a test says otherwise.
"""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from pki.issuer import Authority, Order, issue, issue_root
from pki.keys import make_key, make_serial
from pki.profiles import ISSUER_LIFETIME, ROOT_LIFETIME, SIGNED_BY, Claim, Kind

NOW = datetime(2030, 6, 1, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TRUST_DOMAIN = "lockgate.internal"


@dataclass(frozen=True, slots=True)
class Authorities:
    """The three authorities of one installation."""

    root: Authority
    internal: Authority
    visitors: Authority

    def get_issuer(self, kind: Kind) -> Authority:
        """Who signs this kind."""
        return {
            Kind.root: self.root,
            Kind.internal: self.internal,
            Kind.visitors: self.visitors,
        }[SIGNED_BY[kind]]

    def make_leaf(
        self, claim: Claim, now: datetime = NOW, lifetime: timedelta = DAY
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A leaf and its key."""
        key = make_key()
        order = Order(claim, key.public_key(), make_serial(), now, lifetime)
        return issue(order, self.get_issuer(claim.kind)), key


def make_authorities(now: datetime = NOW, trust_domain: str = TRUST_DOMAIN) -> Authorities:
    """A fresh installation's authorities, made at `now`."""
    key = make_key()
    claim = Claim(Kind.root, trust_domain, "00c0ffee")
    order = Order(claim, key.public_key(), make_serial(), now, ROOT_LIFETIME)
    root = Authority(issue_root(order, key), key)
    issuers = []
    for kind in (Kind.internal, Kind.visitors):
        key = make_key()
        order = Order(
            Claim(kind, trust_domain), key.public_key(), make_serial(), now, ISSUER_LIFETIME
        )
        issuers.append(Authority(issue(order, root), key))
    return Authorities(root, *issuers)


def write_pem(path: Path, *certificates: x509.Certificate) -> Path:
    """The certificates as one PEM file."""
    path.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
    return path


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    """The key as PEM."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    return path


def verify_with_openssl(
    folder: Path,
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    root: x509.Certificate,
    *options: str,
    now: datetime = NOW,
) -> str:
    """What `openssl verify -x509_strict` says: "ok" or its complaint."""
    argv = ["openssl", "verify", "-x509_strict", "-attime", str(int(now.timestamp()))]
    argv += ["-CAfile", str(write_pem(folder / "root.pem", root))]
    argv += ["-untrusted", str(write_pem(folder / "issuer.pem", issuer))]
    argv += [*options, str(write_pem(folder / "leaf.pem", leaf))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    return "ok" if done.returncode == 0 else done.stdout + done.stderr
