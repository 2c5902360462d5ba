"""Build → sign → validate → return: the one way a certificate comes to be.

Invariants: nothing is returned that `validate` did not accept; a certificate never outlives its
issuer; the clock, the serial and the keys are arguments.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.profiles import BACKDATE, Claim, Profile, build_profile
from pki.validate import check_certificate


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that signs, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Order:
    """One certificate to make: for whom, for which key, from `now` (aware) for `lifetime`."""

    claim: Claim
    public_key: ec.EllipticCurvePublicKey
    serial: int
    now: datetime
    lifetime: timedelta


def issue(order: Order, authority: Authority) -> x509.Certificate:
    """The certificate; raises `IdentityError` (a bad name), `CertificateError` (a bad result)."""
    parent = authority.certificate
    identifier = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    not_before, not_after = _fit(order, parent)
    builder = _start(order, parent.subject, identifier)
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    certificate = builder.sign(authority.key, hashes.SHA256())
    check_certificate(certificate, parent, order.claim, order.public_key, order.now)
    return certificate


def issue_root(order: Order, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A self-signed root for `key`, whose public half the order names; raises as `issue`."""
    subject = _build_name(build_profile(order.claim))
    identifier = x509.SubjectKeyIdentifier.from_public_key(order.public_key)
    start = order.now.replace(microsecond=0) - BACKDATE
    builder = _start(order, subject, identifier)
    builder = builder.not_valid_before(start).not_valid_after(start + BACKDATE + order.lifetime)
    certificate = builder.sign(key, hashes.SHA256())
    check_certificate(certificate, certificate, order.claim, order.public_key, order.now)
    return certificate


def _fit(order: Order, parent: x509.Certificate) -> tuple[datetime, datetime]:
    """Backdated validity, cut to the issuer's."""
    now = order.now.replace(microsecond=0)
    return (
        max(now - BACKDATE, parent.not_valid_before_utc),
        min(now + order.lifetime, parent.not_valid_after_utc),
    )


def _start(
    order: Order, issuer: x509.Name, issuer_key: x509.SubjectKeyIdentifier
) -> x509.CertificateBuilder:
    """Everything but validity and signature."""
    profile = build_profile(order.claim)
    # Key id only: an authority key identifier with issuer and serial would block cross-signing.
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key)
    is_authority = profile.path_length is not None
    builder = (
        x509.CertificateBuilder()
        .serial_number(order.serial)
        .subject_name(_build_name(profile))
        .issuer_name(issuer)
        .public_key(order.public_key)
        .add_extension(x509.BasicConstraints(is_authority, profile.path_length), critical=True)
        .add_extension(_build_key_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(order.public_key), critical=False)
        .add_extension(authority_key, critical=False)
    )
    if profile.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.usages), critical=False)
    if profile.permitted_dns is not None:
        permitted = x509.NameConstraints([x509.DNSName(profile.permitted_dns)], None)
        builder = builder.add_extension(permitted, critical=True)
    return _add_names(builder, profile)


def _add_names(builder: x509.CertificateBuilder, profile: Profile) -> x509.CertificateBuilder:
    names: list[x509.GeneralName] = []
    if profile.uri is not None:
        names.append(x509.UniformResourceIdentifier(profile.uri))
    if profile.dns_name is not None:
        names.append(x509.DNSName(profile.dns_name))
    if not names:
        return builder
    return builder.add_extension(x509.SubjectAlternativeName(names), critical=False)


def _build_name(profile: Profile) -> x509.Name:
    """O, OU, CN in this order, which RFC 4514 writes as `CN=…,OU=…,O=…`."""
    parts = [
        (NameOID.ORGANIZATION_NAME, profile.organization),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, profile.organizational_unit),
        (NameOID.COMMON_NAME, profile.common_name),
    ]
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts if text is not None])


def _build_key_usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
