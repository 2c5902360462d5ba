"""What must hold of private keys."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pki.csr import parse_csr
from pki.keys import make_key_and_csr, make_serial


def test_key_and_request_belong_together() -> None:
    """The request proves the very key that is returned: P-256, PKCS#8."""
    made = make_key_and_csr()
    key = load_pem_private_key(made.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert made.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert parse_csr(made.csr_pem) == key.public_key()


def test_every_call_makes_a_new_key() -> None:
    """A renewal never reuses a key."""
    assert make_key_and_csr().key_pem != make_key_and_csr().key_pem


def test_a_key_is_not_shown() -> None:
    """A value in a log or a traceback does not print its key."""
    assert "PRIVATE" not in repr(make_key_and_csr())


def test_serials_are_random_positive_and_fit() -> None:
    """Serials fit into 20 octets and do not repeat."""
    serials = {make_serial() for _ in range(100)}
    assert len(serials) == 100
    assert all(0 < serial < 2**159 for serial in serials)
