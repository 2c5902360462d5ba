"""Certificate signing requests (RFC 2986): only the public key and its proof are read.

Invariants: a request's names and extensions are never looked at; a key that is returned is P-256
and its holder has proven possession.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import CsrError

_MAX_CSR_BYTES = 8192


def build_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A PEM request for the key with an empty subject: whoever signs decides the names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def parse_csr(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The proven P-256 public key of one PEM request of at most 8 KiB; raises `CsrError`."""
    if len(csr_pem) > _MAX_CSR_BYTES:
        raise CsrError(f"the request is larger than {_MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key = request.public_key()
        is_proven = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise CsrError("the request cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CsrError("the key of the request is not P-256")
    if not is_proven:
        raise CsrError("the request is not signed by the key it asks for")
    return key
