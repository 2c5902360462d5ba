"""The rules a certificate must keep before it is let out, written apart from the builder.

Invariants: nothing here is shared with `profiles` or `issuer` but the words of a `Claim`; the rules
are stated as literals, so a slip in the builder cannot slip through here as well; RFC 5280 and the
X509-SVID specification are named where a rule comes from them.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import CertificateError, IdentityError
from pki.identity import parse_spiffe_id
from pki.profiles import Claim, Kind

_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_SERVER, _CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
_BASIC, _KEY_USAGE, _EXTENDED = "2.5.29.19", "2.5.29.15", "2.5.29.37"
_SUBJECT_KEY, _AUTHORITY_KEY = "2.5.29.14", "2.5.29.35"
_NAMES, _CONSTRAINTS = "2.5.29.17", "2.5.29.30"
_O, _OU, _CN = "2.5.4.10", "2.5.4.11", "2.5.4.3"
_MARGIN = timedelta(minutes=5)

_MAX_LIFETIME = {
    Kind.root: timedelta(days=3650),
    Kind.internal: timedelta(days=90),
    Kind.visitors: timedelta(days=90),
    Kind.app: timedelta(days=7),
    Kind.gateway: timedelta(days=7),
    Kind.visitor: timedelta(days=7),
}
_PATH_LENGTH = {Kind.root: 1, Kind.internal: 0, Kind.visitors: 0}
_USAGES = {
    Kind.root: [],
    Kind.internal: [_SERVER, _CLIENT],
    Kind.visitors: [_SERVER],
    Kind.app: [_SERVER, _CLIENT],
    Kind.gateway: [_SERVER, _CLIENT],
    Kind.visitor: [_SERVER],
}


def check_certificate(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    claim: Claim,
    public_key: ec.EllipticCurvePublicKey,
    now: datetime,
) -> None:
    """Every rule in turn; raises `CertificateError` that names the first one broken.

    `issuer` is the certificate itself for a root.
    """
    _check_form(certificate)
    _check_key(certificate, issuer, claim, public_key)
    _check_validity(certificate, issuer, claim, now)
    _check_subject(certificate, claim)
    _check_extension_set(certificate, claim)
    _check_constraints(certificate, claim)
    _check_usages(certificate, claim)
    _check_names(certificate, claim)
    _check_key_identifiers(certificate, issuer, public_key)
    _check_signature(certificate, issuer)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise CertificateError(f"a certificate was not let out: {rule}")


def _check_form(certificate: x509.Certificate) -> None:
    _require(certificate.version is x509.Version.v3, "its version must be 3")
    bits = certificate.serial_number.bit_length()
    # RFC 5280 §4.1.2.2: positive, at most 20 octets; random, so that none repeats.
    _require(64 <= bits <= 159, "its serial must be random and at most 20 octets")
    algorithm = certificate.signature_algorithm_oid.dotted_string
    _require(algorithm == _ECDSA_SHA256, "it must be signed with ECDSA and SHA-256")


def _check_key(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    claim: Claim,
    public_key: ec.EllipticCurvePublicKey,
) -> None:
    key = certificate.public_key()
    _require(key == public_key, "its key must be the requested one")
    _require(
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1),
        "its key must be P-256",
    )
    if claim.kind is not Kind.root:
        _require(key != issuer.public_key(), "its key must not be its issuer's")


def _check_validity(
    certificate: x509.Certificate, issuer: x509.Certificate, claim: Claim, now: datetime
) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _require(start <= now < end, "it must be valid now")
    _require(end - start <= _MAX_LIFETIME[claim.kind] + _MARGIN, "it must not live too long")
    _require(start >= issuer.not_valid_before_utc, "it must not begin before its issuer")
    _require(end <= issuer.not_valid_after_utc, "it must not outlive its issuer")


def _check_subject(certificate: x509.Certificate, claim: Claim) -> None:
    subject = [
        (part.oid.dotted_string, part.value) for rdn in certificate.subject.rdns for part in rdn
    ]
    authority = [(_O, claim.trust_domain), (_OU, "authority")]
    expected = {
        Kind.root: [*authority, (_CN, f"Lockgate root {claim.name}")],
        Kind.internal: [*authority, (_CN, "Lockgate internal")],
        Kind.visitors: [*authority, (_CN, "Lockgate visitors")],
    }.get(claim.kind, [(_O, claim.trust_domain), (_OU, claim.kind.value), (_CN, claim.name)])
    if claim.kind is Kind.visitor and len(claim.name) > 64:
        expected.pop()
    _require(subject == expected, "its subject must be O, OU, CN of whom it is for")


def _check_extension_set(certificate: x509.Certificate, claim: Claim) -> None:
    expected = {_BASIC: True, _KEY_USAGE: True, _SUBJECT_KEY: False, _AUTHORITY_KEY: False}
    if claim.kind is not Kind.root:
        expected[_EXTENDED] = False
    if claim.kind not in _PATH_LENGTH:
        expected[_NAMES] = False
    if claim.kind is Kind.internal:
        expected[_CONSTRAINTS] = True
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension):
        raise CertificateError("a certificate was not let out: malformed extensions") from None
    found = {extension.oid.dotted_string: extension.critical for extension in extensions}
    _require(found == expected, "its extensions and their criticality must be the profile's")


def _check_constraints(certificate: x509.Certificate, claim: Claim) -> None:
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    is_authority = claim.kind in _PATH_LENGTH
    _require(basic.ca is is_authority, "it must be an authority only if it is meant to be one")
    _require(basic.path_length == _PATH_LENGTH.get(claim.kind), "its path length is wrong")
    if claim.kind is Kind.internal:
        names = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        permitted = [x509.DNSName(claim.trust_domain)]
        _require(
            names.permitted_subtrees == permitted and not names.excluded_subtrees,
            "it must be constrained to DNS names of the trust domain",
        )


def _check_usages(certificate: x509.Certificate, claim: Claim) -> None:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    allowed = {
        "digital_signature": claim.kind not in _PATH_LENGTH,
        "key_cert_sign": claim.kind in _PATH_LENGTH,
        "crl_sign": claim.kind in _PATH_LENGTH,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
    }
    found = {name: bool(getattr(usage, name)) for name in allowed}
    _require(found == allowed, "its key usage must be the profile's")
    if _USAGES[claim.kind]:
        extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        oids = sorted(oid.dotted_string for oid in extended)
        _require(oids == _USAGES[claim.kind], "its extended key usage must be the profile's")


def _check_names(certificate: x509.Certificate, claim: Claim) -> None:
    expected = _EXPECTED_NAMES.get(claim.kind)
    if expected is None:
        return
    uris, dns_names = expected(claim)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    # X509-SVID §2: exactly one URI, a SPIFFE ID with a path.
    _require(found == uris, "its URI must be the one identity it is for")
    _require(
        names.get_values_for_type(x509.DNSName) == dns_names,
        "its DNS name must be the one it is for",
    )
    _require(len(list(names)) == len(uris) + len(dns_names), "it must carry no other names")
    try:
        identities = [parse_spiffe_id(uri) for uri in uris]
    except IdentityError as error:
        raise CertificateError(f"a certificate was not let out: {error}") from None
    _require(
        all(identity.trust_domain == claim.trust_domain for identity in identities),
        "its identity must be in the trust domain",
    )


def _expect_app(claim: Claim) -> tuple[list[str], list[str]]:
    domain, name = claim.trust_domain, claim.name
    return [f"spiffe://{domain}/app/{name}/{claim.generation}"], [f"{name}.apps.{domain}"]


def _expect_gateway(claim: Claim) -> tuple[list[str], list[str]]:
    domain, name = claim.trust_domain, claim.name
    return [f"spiffe://{domain}/gateway/{name}"], [f"{name}.gateway.{domain}"]


def _expect_visitor(claim: Claim) -> tuple[list[str], list[str]]:
    return [], [claim.name]


_EXPECTED_NAMES: dict[Kind, Callable[[Claim], tuple[list[str], list[str]]]] = {
    Kind.app: _expect_app,
    Kind.gateway: _expect_gateway,
    Kind.visitor: _expect_visitor,
}


def _check_key_identifiers(
    certificate: x509.Certificate, issuer: x509.Certificate, public_key: ec.EllipticCurvePublicKey
) -> None:
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    _require(
        own == x509.SubjectKeyIdentifier.from_public_key(public_key),
        "its subject key identifier must be its key's",
    )
    parent = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    issuers = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    _require(
        parent.key_identifier == issuers.digest, "its authority key identifier must be its issuer's"
    )
    _require(
        parent.authority_cert_issuer is None and parent.authority_cert_serial_number is None,
        "its authority key identifier must be a key id only",
    )


def _check_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise CertificateError(
            "a certificate was not let out: it must be signed by its issuer, under its name"
        ) from None
