"""What must hold of certificates, as outside verifiers see them."""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import DNSName
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pki.errors import CertificateError, IdentityError
from pki.issuer import Order, issue, issue_root
from pki.keys import make_key, make_serial
from pki.profiles import Claim, Kind
from tests.support.authorities import (
    DAY,
    NOW,
    TRUST_DOMAIN,
    Authorities,
    make_authorities,
    verify_with_openssl,
    write_key,
    write_pem,
)

APP = Claim(Kind.app, TRUST_DOMAIN, "hello", 3)
GATEWAY = Claim(Kind.gateway, TRUST_DOMAIN, "main")
VISITOR = Claim(Kind.visitor, TRUST_DOMAIN, "hello.localhost")
WILDCARD = Claim(Kind.visitor, TRUST_DOMAIN, "*.example.com")
LEAVES = [
    (APP, "hello.apps.lockgate.internal", True),
    (GATEWAY, "main.gateway.lockgate.internal", True),
    (VISITOR, "hello.localhost", False),
    (WILDCARD, "any.example.com", False),
]
each_leaf = pytest.mark.parametrize(
    ("claim", "name", "is_client"), LEAVES, ids=["app", "gateway", "visitor", "wildcard"]
)


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    """One installation's authorities."""
    return make_authorities()


@each_leaf
def test_openssl_accepts_every_leaf(
    tmp_path: Path, authorities: Authorities, claim: Claim, name: str, is_client: bool
) -> None:
    """`openssl verify -x509_strict` accepts it as a server; as a client only if it is one."""
    leaf, _ = authorities.make_leaf(claim)
    issuer, root = authorities.get_issuer(claim.kind).certificate, authorities.root.certificate
    server = ("-purpose", "sslserver", "-verify_hostname", name)
    assert verify_with_openssl(tmp_path, leaf, issuer, root, *server) == "ok"
    verdict = verify_with_openssl(tmp_path, leaf, issuer, root, "-purpose", "sslclient")
    assert (verdict == "ok") is is_client
    assert is_client or "unsuitable certificate purpose" in verdict


@each_leaf
def test_cryptography_accepts_every_leaf(
    authorities: Authorities, claim: Claim, name: str, is_client: bool
) -> None:
    """An outside implementation with WebPKI's rules agrees with OpenSSL."""
    leaf, _ = authorities.make_leaf(claim)
    issuer = authorities.get_issuer(claim.kind).certificate
    policy = PolicyBuilder().store(Store([authorities.root.certificate])).time(NOW)
    chain = policy.build_server_verifier(DNSName(name)).verify(leaf, [issuer])
    assert chain == [leaf, issuer, authorities.root.certificate]
    with pytest.raises(VerificationError):
        policy.build_server_verifier(DNSName("other.example")).verify(leaf, [issuer])
    if is_client:
        assert policy.build_client_verifier().verify(leaf, [issuer]).chain == chain
    else:
        with pytest.raises(VerificationError):
            policy.build_client_verifier().verify(leaf, [issuer])


@pytest.mark.parametrize(
    ("offset", "complaint"),
    [(-timedelta(minutes=3), "not yet valid"), (DAY + timedelta(seconds=1), "expired")],
)
def test_a_leaf_is_valid_for_its_day_only(
    tmp_path: Path, authorities: Authorities, offset: timedelta, complaint: str
) -> None:
    """Before the two minutes of backdating and after its day nobody accepts it."""
    leaf, _ = authorities.make_leaf(APP, now=NOW + DAY)
    issuer, root = authorities.internal.certificate, authorities.root.certificate
    when = NOW + DAY + offset
    assert complaint in verify_with_openssl(tmp_path, leaf, issuer, root, now=when)


def test_validity_is_backdated_two_minutes(authorities: Authorities) -> None:
    """A peer whose clock is two minutes behind accepts a new leaf."""
    leaf, _ = authorities.make_leaf(APP, now=NOW + DAY)
    assert leaf.not_valid_before_utc == NOW + DAY - timedelta(minutes=2)
    assert leaf.not_valid_after_utc == NOW + DAY + DAY


def test_a_leaf_never_outlives_its_issuer(authorities: Authorities) -> None:
    """Near the end of the issuer's life a leaf is cut short instead."""
    end = authorities.internal.certificate.not_valid_after_utc
    leaf, _ = authorities.make_leaf(APP, now=end - timedelta(hours=1))
    assert leaf.not_valid_after_utc == end
    with pytest.raises(CertificateError, match="valid now"):
        authorities.make_leaf(APP, now=end + timedelta(seconds=1))


def test_the_root_is_accepted_by_strict_verifiers(tmp_path: Path, authorities: Authorities) -> None:
    """The root alone passes the strict check, and its path length allows one intermediate."""
    root = authorities.root.certificate
    assert verify_with_openssl(tmp_path, root, root, root) == "ok"
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (basic.ca, basic.path_length) == (True, 1)


@pytest.mark.parametrize("name", ["www.example.com", "lockgate.internal.example.com"])
def test_internal_cannot_vouch_for_other_names(
    tmp_path: Path, authorities: Authorities, name: str
) -> None:
    """Even the stolen "internal" key makes no certificate for a name outside the trust domain."""
    leaf = _forge(authorities, lambda builder: _with_name(builder, name))
    issuer, root = authorities.internal.certificate, authorities.root.certificate
    assert "permitted subtree violation" in verify_with_openssl(tmp_path, leaf, issuer, root)
    verifier = PolicyBuilder().store(Store([root])).time(NOW).build_server_verifier(DNSName(name))
    with pytest.raises(VerificationError):
        verifier.verify(leaf, [issuer])


def test_internal_cannot_make_another_authority(tmp_path: Path, authorities: Authorities) -> None:
    """Path length 0: what an intermediate signs signs nothing."""
    key = make_key()
    below = _forge(authorities, _as_authority, key.public_key())
    builder = _start_forgery(below.subject, make_key().public_key())
    leaf = _with_name(builder, "x.lockgate.internal").sign(key, hashes.SHA256())
    issuers = write_pem(tmp_path / "more.pem", authorities.internal.certificate)
    verdict = verify_with_openssl(
        tmp_path, leaf, below, authorities.root.certificate, "-untrusted", str(issuers)
    )
    assert "path length constraint exceeded" in verdict


def test_openssl_refuses_visitors_for_agents(tmp_path: Path, authorities: Authorities) -> None:
    """A visitors' leaf is no client: the intermediate's own usage forbids it, whatever it says."""
    leaf = _forge(authorities, lambda builder: _with_name(builder, "x.example"), issuer="visitors")
    issuer, root = authorities.visitors.certificate, authorities.root.certificate
    verdict = verify_with_openssl(tmp_path, leaf, issuer, root, "-purpose", "sslclient")
    assert "purpose" in verdict


def test_python_shakes_hands_with_strict_flags(tmp_path: Path) -> None:
    """Mutual TLS 1.3 between gateway and agent completes with VERIFY_X509_STRICT on both sides."""
    now = _read_clock()
    authorities = make_authorities(now)
    server = _build_context(tmp_path, authorities, APP, ssl.PROTOCOL_TLS_SERVER)
    client = _build_context(tmp_path, authorities, GATEWAY, ssl.PROTOCOL_TLS_CLIENT)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    agent = server.wrap_bio(to_server, to_client, server_side=True)
    gateway = client.wrap_bio(to_client, to_server, server_hostname="hello.apps.lockgate.internal")
    for _ in range(3):
        for side in (gateway, agent):
            _advance(side)
    names = agent.getpeercert()["subjectAltName"]
    assert ("URI", "spiffe://lockgate.internal/gateway/main") in names
    names = gateway.getpeercert()["subjectAltName"]
    assert [v for kind, v in names if kind == "URI"] == ["spiffe://lockgate.internal/app/hello/3"]


def test_a_bad_name_is_refused_before_signing(authorities: Authorities) -> None:
    """A claim outside the grammar never reaches the key."""
    with pytest.raises(IdentityError):
        authorities.make_leaf(Claim(Kind.app, TRUST_DOMAIN, "a/../b", 1))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"lifetime": timedelta(days=30)}, "must not live too long"),
        ({"lifetime": timedelta(minutes=-1)}, "valid now"),
        ({"serial": 7}, "serial must be random"),
    ],
)
def test_a_bad_order_makes_no_certificate(
    authorities: Authorities, change: dict[str, object], rule: str
) -> None:
    """What validation refuses is not returned."""
    order = {"claim": APP, "public_key": make_key().public_key(), "serial": make_serial()}
    order |= {"now": NOW + DAY, "lifetime": DAY}
    with pytest.raises((CertificateError, ValueError), match=rule):
        issue(Order(**{**order, **change}), authorities.internal)


def test_an_authority_signs_only_its_own_kind(authorities: Authorities) -> None:
    """A wrong issuer is noticed: its constraints and name are not those of the kind."""
    key = make_key()
    order = Order(Claim(Kind.root, TRUST_DOMAIN, "x"), key.public_key(), make_serial(), NOW, DAY)
    with pytest.raises(CertificateError):
        issue_root(order, make_key())


def _read_clock() -> datetime:
    return datetime.now(UTC)


def _advance(side: ssl.SSLObject) -> None:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return


def _build_context(
    folder: Path, authorities: Authorities, claim: Claim, protocol: int
) -> ssl.SSLContext:
    leaf, key = authorities.make_leaf(claim, now=_read_clock())
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(write_pem(folder / "roots.pem", authorities.root.certificate))
    chain = write_pem(folder / "chain.pem", leaf, authorities.internal.certificate)
    context.load_cert_chain(chain, write_key(folder / "key.pem", key))
    return context


def _start_forgery(issuer: x509.Name, key: object) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .serial_number(make_serial())
        .issuer_name(issuer)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .public_key(key)
    )


def _forge(
    authorities: Authorities,
    change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder],
    key: object = None,
    issuer: str = "internal",
) -> x509.Certificate:
    """What a thief of an intermediate's key would sign."""
    authority = getattr(authorities, issuer)
    public_key = key or make_key().public_key()
    builder = _start_forgery(authority.certificate.subject, public_key)
    identifier = authority.certificate.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    return change(builder).sign(authority.key, hashes.SHA256())


def _with_name(builder: x509.CertificateBuilder, name: str) -> x509.CertificateBuilder:
    usages = [x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        builder.subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([DNSName(name)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
    )


def _as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "below")])
    return builder.subject_name(name).add_extension(x509.BasicConstraints(True, 0), critical=True)
