"""What is handed out beside a leaf."""

import pytest
from cryptography import x509

from pki.bundle import build_bundle, build_chain
from pki.errors import CertificateError
from pki.profiles import Claim, Kind
from tests.support.authorities import TRUST_DOMAIN, Authorities, make_authorities


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    """One installation's authorities."""
    return make_authorities()


def test_a_bundle_holds_each_root_once(authorities: Authorities) -> None:
    """Two roots are two certificates, the same root twice is one."""
    other = make_authorities().root.certificate
    root = authorities.root.certificate
    assert x509.load_pem_x509_certificates(build_bundle([root, other, root])) == [root, other]


def test_an_intermediate_is_never_trusted(authorities: Authorities) -> None:
    """An intermediate in a trust store would be a root: it is refused."""
    with pytest.raises(CertificateError, match="only roots"):
        build_bundle([authorities.root.certificate, authorities.internal.certificate])


def test_a_chain_is_leaf_first_without_the_root(authorities: Authorities) -> None:
    """The order that TLS wants."""
    leaf, _ = authorities.make_leaf(Claim(Kind.gateway, TRUST_DOMAIN, "main"))
    issuer = authorities.internal.certificate
    assert x509.load_pem_x509_certificates(build_chain(leaf, issuer)) == [leaf, issuer]
