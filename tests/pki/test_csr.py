"""Which requests are read, and what of them."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from pki.csr import build_csr, parse_csr
from pki.errors import CsrError
from pki.keys import make_key


def test_a_request_yields_its_key() -> None:
    """What is read of a request is the key that made it."""
    key = make_key()
    assert parse_csr(build_csr(key)) == key.public_key()


def test_a_request_names_nobody() -> None:
    """The requests made here carry neither subject nor extensions."""
    request = x509.load_pem_x509_csr(build_csr(make_key()))
    assert len(request.subject) == len(request.extensions) == 0


def test_names_in_a_request_are_ignored() -> None:
    """A request that asks for a name and for authority is read as its key alone."""
    key = make_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")]))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("x.y")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    assert parse_csr(request.public_bytes(Encoding.PEM)) == key.public_key()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p384", "secp256k1", "ed25519", "rsa"],
)
def test_other_keys_are_refused(key: object) -> None:
    """Only P-256 is signed."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, algorithm).public_bytes(Encoding.PEM)
    with pytest.raises(CsrError, match="not P-256"):
        parse_csr(request)


def test_a_request_for_somebody_elses_key_is_refused() -> None:
    """The proof of possession is checked: a key swapped into a signed request does not pass."""
    mine = x509.load_pem_x509_csr(build_csr(make_key())).public_bytes(Encoding.DER)
    theirs = make_key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    own = (
        x509.load_der_x509_csr(mine)
        .public_key()
        .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    )
    forged = mine.replace(own, theirs)
    assert forged != mine
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n"
    with pytest.raises(CsrError, match="not signed by the key"):
        parse_csr(pem % base64.encodebytes(forged))


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN CERTIFICATE REQUEST-----\n"])
def test_what_is_no_request_is_refused(content: bytes) -> None:
    """Junk is an error for the peer, not for us."""
    with pytest.raises(CsrError, match="cannot be read"):
        parse_csr(content)


def test_a_huge_request_is_refused_unread() -> None:
    """A request has at most 8 KiB."""
    with pytest.raises(CsrError, match="larger"):
        parse_csr(build_csr(make_key()) + b"\n" * 8192)


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_damaged_requests_are_refused(position: int, junk: bytes) -> None:
    """A request with damaged bytes inside never yields a key that did not sign it."""
    key = make_key()
    der = bytearray(x509.load_pem_x509_csr(build_csr(key)).public_bytes(Encoding.DER))
    position %= len(der)
    der[position : position + len(junk)] = junk
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n"
    try:
        found = parse_csr(pem % base64.encodebytes(bytes(der)))
    except CsrError:
        return
    assert found == key.public_key()


def test_an_unknown_version_is_refused() -> None:
    """RFC 2986 section 4.1 knows version 0 alone; the parser has an error of its own for others."""
    der = x509.load_pem_x509_csr(build_csr(make_key())).public_bytes(Encoding.DER)
    body = base64.encodebytes(der.replace(b"\x02\x01\x00", b"\x02\x01\x5b", 1))
    pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%s-----END CERTIFICATE REQUEST-----\n" % body
    with pytest.raises(CsrError, match="cannot be read"):
        parse_csr(pem)
