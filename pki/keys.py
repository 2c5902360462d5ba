"""Private keys: made and written as PKCS#8 (RFC 5958), P-256 only.

Invariants: a key is used for one certificate; no key is logged, compared or shown.
"""

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.csr import build_csr


@dataclass(frozen=True, slots=True)
class KeyAndCsr:
    """A fresh key as PEM PKCS#8 (not encrypted) and the request that proves it."""

    key_pem: bytes = field(repr=False)
    csr_pem: bytes


def make_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_key_and_csr() -> KeyAndCsr:
    """What a holder needs to ask for a leaf; the request names nobody."""
    key = make_key()
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return KeyAndCsr(key_pem, build_csr(key))


def make_serial() -> int:
    """A random serial of 159 bits (RFC 5280 §4.1.2.2: positive, at most 20 octets)."""
    return x509.random_serial_number()
