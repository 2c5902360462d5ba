"""What each kind of certificate says, from who it is for.

Invariants: a profile is built from a `Claim` of the registry alone, never from a request; the
subject is never empty, so the alternative names need not be critical (RFC 5280 §4.2.1.6).
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from pki.identity import (
    build_app_dns_name,
    build_app_id,
    build_gateway_dns_name,
    build_gateway_id,
    parse_host,
    parse_trust_domain,
)

BACKDATE = timedelta(minutes=2)  # clocks of peers may be behind ours
ROOT_LIFETIME = timedelta(days=3650)
ISSUER_LIFETIME = timedelta(days=90)
_MAX_CN_CHARS = 64  # X.520 ub-common-name
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


class Kind(Enum):
    """Three authorities and three leaves; an authority signs what `SIGNED_BY` says."""

    root = "root"
    internal = "internal"
    visitors = "visitors"
    app = "app"
    gateway = "gateway"
    visitor = "visitor"


SIGNED_BY = {
    Kind.root: Kind.root,
    Kind.internal: Kind.root,
    Kind.visitors: Kind.root,
    Kind.app: Kind.internal,
    Kind.gateway: Kind.internal,
    Kind.visitor: Kind.visitors,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a certificate is for: `name` is the app, the gateway, the host, or a root's key id."""

    kind: Kind
    trust_domain: str
    name: str = ""
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """What the certificate will say; `path_length` None means a leaf."""

    organizational_unit: str
    common_name: str | None
    organization: str
    usages: tuple[ObjectIdentifier, ...] = ()
    uri: str | None = None
    dns_name: str | None = None
    path_length: int | None = None
    permitted_dns: str | None = None


def build_profile(claim: Claim) -> Profile:
    """The profile of the claim; raises `IdentityError` for a name outside its grammar."""
    parse_trust_domain(claim.trust_domain)
    return _BUILDERS[claim.kind](claim)


def _build_root(claim: Claim) -> Profile:
    name = f"Lockgate root {claim.name}"
    return Profile("authority", name, claim.trust_domain, path_length=1)


def _build_internal(claim: Claim) -> Profile:
    return Profile(
        "authority",
        "Lockgate internal",
        claim.trust_domain,
        (_SERVER, _CLIENT),
        path_length=0,
        # No URI constraint: verifiers differ on it, so the trust domain is checked in code.
        permitted_dns=claim.trust_domain,
    )


def _build_visitors(claim: Claim) -> Profile:
    return Profile("authority", "Lockgate visitors", claim.trust_domain, (_SERVER,), path_length=0)


def _build_app(claim: Claim) -> Profile:
    return Profile(
        "app",
        claim.name,
        claim.trust_domain,
        (_SERVER, _CLIENT),
        uri=str(build_app_id(claim.trust_domain, claim.name, claim.generation or 0)),
        dns_name=build_app_dns_name(claim.name, claim.trust_domain),
    )


def _build_gateway(claim: Claim) -> Profile:
    return Profile(
        "gateway",
        claim.name,
        claim.trust_domain,
        (_SERVER, _CLIENT),
        uri=str(build_gateway_id(claim.trust_domain, claim.name)),
        dns_name=build_gateway_dns_name(claim.name, claim.trust_domain),
    )


def _build_visitor(claim: Claim) -> Profile:
    host = parse_host(claim.name)
    common_name = host if len(host) <= _MAX_CN_CHARS else None
    return Profile("visitor", common_name, claim.trust_domain, (_SERVER,), dns_name=host)


_BUILDERS = {
    Kind.root: _build_root,
    Kind.internal: _build_internal,
    Kind.visitors: _build_visitors,
    Kind.app: _build_app,
    Kind.gateway: _build_gateway,
    Kind.visitor: _build_visitor,
}
