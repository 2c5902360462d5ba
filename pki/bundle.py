"""What is handed out beside a leaf: its chain, and the roots to trust.

Invariants: only self-signed roots go into a bundle, for whatever a trust store holds is a root to
somebody; a chain is leaf first and ends before the root (RFC 8446 §4.4.2).
"""

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import CertificateError


def build_bundle(roots: Iterable[x509.Certificate]) -> bytes:
    """The roots as PEM, each once; raises `CertificateError` for a certificate that is none."""
    unique = list(dict.fromkeys(roots))
    for root in unique:
        if root.issuer != root.subject:
            raise CertificateError("only roots go into a trust bundle")
    return b"".join(root.public_bytes(Encoding.PEM) for root in unique)


def build_chain(leaf: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """Leaf and intermediate as PEM, the order a TLS server sends."""
    return leaf.public_bytes(Encoding.PEM) + issuer.public_bytes(Encoding.PEM)
