"""What each kind of certificate must say."""

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

from pki.errors import IdentityError
from pki.profiles import SIGNED_BY, Claim, Kind, Profile, build_profile

TD = "lockgate.internal"
BOTH = (Usage.SERVER_AUTH, Usage.CLIENT_AUTH)


@pytest.mark.parametrize(
    ("claim", "profile"),
    [
        (
            Claim(Kind.root, TD, "00c0ffee"),
            Profile("authority", "Lockgate root 00c0ffee", TD, path_length=1),
        ),
        (
            Claim(Kind.internal, TD),
            Profile("authority", "Lockgate internal", TD, BOTH, path_length=0, permitted_dns=TD),
        ),
        (
            Claim(Kind.visitors, TD),
            Profile("authority", "Lockgate visitors", TD, (Usage.SERVER_AUTH,), path_length=0),
        ),
        (
            Claim(Kind.app, TD, "hello", 3),
            Profile(
                "app",
                "hello",
                TD,
                BOTH,
                uri="spiffe://lockgate.internal/app/hello/3",
                dns_name="hello.apps.lockgate.internal",
            ),
        ),
        (
            Claim(Kind.gateway, TD, "main"),
            Profile(
                "gateway",
                "main",
                TD,
                BOTH,
                uri="spiffe://lockgate.internal/gateway/main",
                dns_name="main.gateway.lockgate.internal",
            ),
        ),
        (
            Claim(Kind.visitor, TD, "*.example.com"),
            Profile("visitor", "*.example.com", TD, (Usage.SERVER_AUTH,), dns_name="*.example.com"),
        ),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Claim) else "",
)
def test_profiles(claim: Claim, profile: Profile) -> None:
    """Every kind says what the design says, and no more."""
    assert build_profile(claim) == profile


def test_a_long_host_has_no_common_name() -> None:
    """X.520 allows 64 characters; the host is in the alternative names anyway."""
    host = f"{'a' * 60}.example"
    assert build_profile(Claim(Kind.visitor, TD, host)).common_name is None
    assert build_profile(Claim(Kind.visitor, TD, host)).dns_name == host


@pytest.mark.parametrize(
    "claim",
    [
        Claim(Kind.app, TD, "Hello", 3),
        Claim(Kind.app, TD, "hello"),
        Claim(Kind.app, TD, "hello", 0),
        Claim(Kind.app, "not a domain", "hello", 3),
        Claim(Kind.gateway, TD, "../main"),
        Claim(Kind.visitor, TD, "10.0.0.1"),
        Claim(Kind.internal, "A"),
    ],
)
def test_bad_names_have_no_profile(claim: Claim) -> None:
    """A name outside its grammar stops here, whoever let it in."""
    with pytest.raises(IdentityError):
        build_profile(claim)


def test_every_kind_has_an_issuer_that_is_an_authority() -> None:
    """Leaves are signed by intermediates, intermediates and the root by the root."""
    assert set(SIGNED_BY) == set(Kind)
    assert set(SIGNED_BY.values()) == {Kind.root, Kind.internal, Kind.visitors}
