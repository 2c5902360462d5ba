"""Every rule of validation, broken once: one field per row."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

from pki.errors import CertificateError
from pki.profiles import Claim, Kind
from pki.validate import check_certificate
from tests.support.authorities import (
    DAY,
    NOW,
    TRUST_DOMAIN,
    Authorities,
    make_authorities,
    write_key,
)

AUTHORITIES: Authorities = make_authorities()
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
P384_KEY = ec.generate_private_key(ec.SECP384R1())
SERIAL = 2**150 + 1

Extensions = dict[str, tuple[x509.ExtensionType, bool]]


@dataclass(frozen=True)
class Blueprint:
    """A certificate written by hand, with none of the product's own code."""

    claim: Claim
    subject: list[tuple[x509.ObjectIdentifier, str]]
    extensions: Extensions
    lifetime: timedelta
    issuer: str = "internal"
    issuer_name: x509.Name | None = None
    serial: int = SERIAL
    public_key: ec.EllipticCurvePublicKey = field(default_factory=KEY.public_key)
    requested_key: ec.EllipticCurvePublicKey = field(default_factory=KEY.public_key)
    signing_key: ec.EllipticCurvePrivateKey | None = None
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)
    start: datetime = NOW - timedelta(minutes=2)
    end: datetime | None = None
    now: datetime = NOW

    def check(self) -> None:
        """Make it and validate it."""
        parent = getattr(AUTHORITIES, self.issuer)
        attributes = [x509.NameAttribute(oid, text) for oid, text in self.subject]
        builder = (
            x509.CertificateBuilder()
            .serial_number(self.serial)
            .subject_name(x509.Name(attributes))
            .issuer_name(self.issuer_name or parent.certificate.subject)
            .not_valid_before(self.start)
            .not_valid_after(self.end or NOW + self.lifetime)
            .public_key(self.public_key)
        )
        for extension, is_critical in self.extensions.values():
            builder = builder.add_extension(extension, critical=is_critical)
        certificate = builder.sign(self.signing_key or parent.key, self.digest)
        check_certificate(certificate, parent.certificate, self.claim, self.requested_key, self.now)

    def with_extension(
        self, name: str, extension: x509.ExtensionType | None, critical: bool | None = None
    ) -> "Blueprint":
        """One extension replaced, or left out."""
        extensions = dict(self.extensions)
        if extension is None:
            del extensions[name]
        else:
            default = extensions[name][1] if name in extensions else False
            extensions[name] = (extension, default if critical is None else critical)
        return replace(self, extensions=extensions)


def build_usage(**bits: bool) -> x509.KeyUsage:
    """A key usage with these bits only."""
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    names += ("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{**dict.fromkeys(names, False), **bits})


def build_extensions(issuer: str, usages: list[x509.ObjectIdentifier]) -> Extensions:
    """What all certificates carry."""
    parent = getattr(AUTHORITIES, issuer).certificate
    identifier = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return {
        "basic": (x509.BasicConstraints(False, None), True),
        "usage": (build_usage(digital_signature=True), True),
        "subject_key": (x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), False),
        "authority_key": (
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            False,
        ),
        "extended": (x509.ExtendedKeyUsage(usages), False),
    }


def build_names(*names: str) -> x509.SubjectAlternativeName:
    """URIs and DNS names."""
    return x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(n) if ":" in n else x509.DNSName(n) for n in names]
    )


def build_subject(*texts: str) -> list[tuple[x509.ObjectIdentifier, str]]:
    """O, OU, CN."""
    oids = (
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.COMMON_NAME,
    )
    return list(zip(oids, texts, strict=False))


BOTH = [Usage.SERVER_AUTH, Usage.CLIENT_AUTH]
URI, DNS = "spiffe://lockgate.internal/app/hello/3", "hello.apps.lockgate.internal"
APP = Blueprint(
    Claim(Kind.app, TRUST_DOMAIN, "hello", 3),
    build_subject(TRUST_DOMAIN, "app", "hello"),
    {**build_extensions("internal", BOTH), "names": (build_names(URI, DNS), False)},
    DAY,
)
GATEWAY = Blueprint(
    Claim(Kind.gateway, TRUST_DOMAIN, "main"),
    build_subject(TRUST_DOMAIN, "gateway", "main"),
    {
        **build_extensions("internal", BOTH),
        "names": (
            build_names(
                "spiffe://lockgate.internal/gateway/main", "main.gateway.lockgate.internal"
            ),
            False,
        ),
    },
    DAY,
)
VISITOR = Blueprint(
    Claim(Kind.visitor, TRUST_DOMAIN, "a.example"),
    build_subject(TRUST_DOMAIN, "visitor", "a.example"),
    {
        **build_extensions("visitors", [Usage.SERVER_AUTH]),
        "names": (build_names("a.example"), False),
    },
    DAY,
    issuer="visitors",
)
LONG_HOST = f"{'a' * 60}.example"
LONG = replace(
    VISITOR,
    claim=Claim(Kind.visitor, TRUST_DOMAIN, LONG_HOST),
    subject=build_subject(TRUST_DOMAIN, "visitor"),
    extensions={**VISITOR.extensions, "names": (build_names(LONG_HOST), False)},
)
INTERNAL = Blueprint(
    Claim(Kind.internal, TRUST_DOMAIN),
    build_subject(TRUST_DOMAIN, "authority", "Lockgate internal"),
    {
        **build_extensions("root", BOTH),
        "basic": (x509.BasicConstraints(True, 0), True),
        "usage": (build_usage(key_cert_sign=True, crl_sign=True), True),
        "constraints": (x509.NameConstraints([x509.DNSName(TRUST_DOMAIN)], None), True),
    },
    timedelta(days=90),
    issuer="root",
)
VISITORS = replace(
    INTERNAL,
    claim=Claim(Kind.visitors, TRUST_DOMAIN),
    subject=build_subject(TRUST_DOMAIN, "authority", "Lockgate visitors"),
    extensions={
        name: value
        for name, value in {
            **INTERNAL.extensions,
            "extended": (x509.ExtendedKeyUsage([Usage.SERVER_AUTH]), False),
        }.items()
        if name != "constraints"
    },
)


@pytest.mark.parametrize(
    "blueprint",
    [APP, GATEWAY, VISITOR, LONG, INTERNAL, VISITORS],
    ids=["app", "gateway", "visitor", "long", "internal", "visitors"],
)
def test_the_unbroken_certificate_passes(blueprint: Blueprint) -> None:
    """Each blueprint below is broken in one place only: as it stands it passes."""
    blueprint.check()


def test_the_root_passes() -> None:
    """A self-signed root is its own issuer."""
    root = AUTHORITIES.root.certificate
    claim = Claim(Kind.root, TRUST_DOMAIN, "00c0ffee")
    check_certificate(root, root, claim, root.public_key(), NOW)
    with pytest.raises(CertificateError, match="subject"):
        check_certificate(root, root, replace(claim, name="x"), root.public_key(), NOW)


def _names(*names: str) -> Callable[[], Blueprint]:
    return lambda: APP.with_extension("names", build_names(*names))


AUTHORITY_KEY = APP.extensions["authority_key"][0]
ROWS: list[tuple[str, Callable[[], Blueprint], str]] = [
    ("serial small", lambda: replace(APP, serial=12345), "serial must be random"),
    ("sha384", lambda: replace(APP, digest=hashes.SHA384()), "ECDSA and SHA-256"),
    ("other key", lambda: replace(APP, requested_key=OTHER_KEY.public_key()), "the requested one"),
    (
        "p384",
        lambda: replace(APP, public_key=P384_KEY.public_key(), requested_key=P384_KEY.public_key()),
        "must be P-256",
    ),
    (
        "issuer's key",
        lambda: replace(
            APP,
            public_key=AUTHORITIES.internal.key.public_key(),
            requested_key=AUTHORITIES.internal.key.public_key(),
        ),
        "must not be its issuer's",
    ),
    ("future", lambda: replace(APP, start=NOW + timedelta(seconds=1)), "valid now"),
    ("expired", lambda: replace(APP, end=NOW), "valid now"),
    ("too long", lambda: replace(APP, lifetime=timedelta(days=8)), "live too long"),
    ("too early", lambda: replace(APP, start=NOW - timedelta(minutes=3)), "begin before"),
    ("ca too long", lambda: replace(INTERNAL, lifetime=timedelta(days=91)), "live too long"),
    ("no O", lambda: replace(APP, subject=APP.subject[1:]), "subject"),
    ("no CN", lambda: replace(APP, subject=APP.subject[:2]), "subject"),
    ("order", lambda: replace(APP, subject=APP.subject[::-1]), "subject"),
    ("other O", lambda: replace(APP, subject=build_subject("x", "app", "hello")), "subject"),
    (
        "role",
        lambda: replace(APP, subject=build_subject(TRUST_DOMAIN, "gateway", "hello")),
        "subject",
    ),
    (
        "other CN",
        lambda: replace(APP, subject=build_subject(TRUST_DOMAIN, "app", "other")),
        "subject",
    ),
    ("two CN", lambda: replace(APP, subject=[*APP.subject, APP.subject[2]]), "subject"),
    *(
        (f"no {name}", (lambda name=name: APP.with_extension(name, None)), "criticality")
        for name in APP.extensions
    ),
    *(
        (
            f"criticality of {name}",
            (
                lambda name=name, value=value: APP.with_extension(
                    name, value[0], critical=not value[1]
                )
            ),
            "criticality",
        )
        for name, value in APP.extensions.items()
    ),
    ("extra", lambda: APP.with_extension("more", x509.OCSPNoCheck()), "criticality"),
    (
        "leaf with constraints",
        lambda: APP.with_extension(
            "more", x509.NameConstraints([x509.DNSName("x")], None), critical=True
        ),
        "criticality",
    ),
    ("no constraints", lambda: INTERNAL.with_extension("constraints", None), "criticality"),
    (
        "constraints of visitors",
        lambda: VISITORS.with_extension(
            "constraints", INTERNAL.extensions["constraints"][0], critical=True
        ),
        "criticality",
    ),
    ("ca", lambda: APP.with_extension("basic", x509.BasicConstraints(True, None)), "authority"),
    ("ca 0", lambda: APP.with_extension("basic", x509.BasicConstraints(True, 0)), "authority"),
    (
        "no ca",
        lambda: INTERNAL.with_extension("basic", x509.BasicConstraints(False, None)),
        "authority",
    ),
    (
        "path length 1",
        lambda: INTERNAL.with_extension("basic", x509.BasicConstraints(True, 1)),
        "path length",
    ),
    (
        "path length none",
        lambda: VISITORS.with_extension("basic", x509.BasicConstraints(True, None)),
        "path length",
    ),
    (
        "constraint elsewhere",
        lambda: INTERNAL.with_extension(
            "constraints", x509.NameConstraints([x509.DNSName("x.y")], None)
        ),
        "constrained",
    ),
    (
        "two constraints",
        lambda: INTERNAL.with_extension(
            "constraints",
            x509.NameConstraints([x509.DNSName(TRUST_DOMAIN), x509.DNSName("x.y")], None),
        ),
        "constrained",
    ),
    (
        "excluded",
        lambda: INTERNAL.with_extension(
            "constraints",
            x509.NameConstraints([x509.DNSName(TRUST_DOMAIN)], [x509.DNSName("x.y")]),
        ),
        "constrained",
    ),
    *(
        (
            f"usage {bit}",
            (
                lambda bit=bit: APP.with_extension(
                    "usage", build_usage(**{"digital_signature": True, bit: True})
                )
            ),
            "key usage",
        )
        for bit in (
            *("content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign"),
        )
    ),
    (
        "usage none",
        lambda: APP.with_extension("usage", build_usage(crl_sign=True)),
        "key usage",
    ),
    (
        "ca signs data",
        lambda: INTERNAL.with_extension(
            "usage", build_usage(key_cert_sign=True, crl_sign=True, digital_signature=True)
        ),
        "key usage",
    ),
    (
        "server only",
        lambda: APP.with_extension("extended", x509.ExtendedKeyUsage([Usage.SERVER_AUTH])),
        "extended key usage",
    ),
    (
        "client only",
        lambda: APP.with_extension("extended", x509.ExtendedKeyUsage([Usage.CLIENT_AUTH])),
        "extended key usage",
    ),
    (
        "any usage",
        lambda: APP.with_extension(
            "extended", x509.ExtendedKeyUsage([*BOTH, Usage.ANY_EXTENDED_KEY_USAGE])
        ),
        "extended key usage",
    ),
    (
        "visitor as client",
        lambda: VISITOR.with_extension("extended", x509.ExtendedKeyUsage(BOTH)),
        "extended key usage",
    ),
    (
        "visitors for clients",
        lambda: VISITORS.with_extension("extended", x509.ExtendedKeyUsage(BOTH)),
        "extended key usage",
    ),
    ("no URI", _names(DNS), "URI"),
    ("two URIs", _names(URI, f"{URI}4", DNS), "URI"),
    ("same URI twice", _names(URI, URI, DNS), "URI"),
    ("other app", _names("spiffe://lockgate.internal/app/other/3", DNS), "URI"),
    ("other generation", _names("spiffe://lockgate.internal/app/hello/2", DNS), "URI"),
    ("other role", _names("spiffe://lockgate.internal/gateway/hello", DNS), "URI"),
    ("other domain", _names("spiffe://other.internal/app/hello/3", DNS), "URI"),
    ("dots", _names("spiffe://lockgate.internal/app/../app/hello/3", DNS), "URI"),
    ("nul", _names("spiffe://lockgate.internal/app/hello/3\x00", DNS), "URI"),
    ("no DNS name", _names(URI), "DNS name"),
    ("other DNS name", _names(URI, "other.apps.lockgate.internal"), "DNS name"),
    ("two DNS names", _names(URI, DNS, "x.apps.lockgate.internal"), "DNS name"),
    (
        "visitor with identity",
        lambda: VISITOR.with_extension("names", build_names(URI, "a.example")),
        "URI",
    ),
    (
        "other host",
        lambda: VISITOR.with_extension("names", build_names("b.example")),
        "DNS name",
    ),
    (
        "mail address",
        lambda: APP.with_extension(
            "names",
            x509.SubjectAlternativeName([*build_names(URI, DNS), x509.RFC822Name("a@b.c")]),
        ),
        "no other names",
    ),
    (
        "claim with bad identity",
        lambda: replace(
            APP,
            claim=replace(APP.claim, name="a b"),
            subject=build_subject(TRUST_DOMAIN, "app", "a b"),
        ).with_extension(
            "names",
            build_names("spiffe://lockgate.internal/app/a b/3", "a b.apps.lockgate.internal"),
        ),
        "not a SPIFFE path segment",
    ),
    (
        "claim with a path in its trust domain",
        lambda: replace(
            APP,
            claim=replace(APP.claim, trust_domain=f"{TRUST_DOMAIN}/x"),
            subject=build_subject(f"{TRUST_DOMAIN}/x", "app", "hello"),
        ).with_extension(
            "names",
            build_names(f"spiffe://{TRUST_DOMAIN}/x/app/hello/3", f"hello.apps.{TRUST_DOMAIN}/x"),
        ),
        "in the trust domain",
    ),
    (
        "subject key id",
        lambda: APP.with_extension(
            "subject_key", x509.SubjectKeyIdentifier.from_public_key(OTHER_KEY.public_key())
        ),
        "subject key identifier",
    ),
    (
        "authority key id",
        lambda: APP.with_extension(
            "authority_key",
            x509.AuthorityKeyIdentifier.from_issuer_public_key(OTHER_KEY.public_key()),
        ),
        "authority key identifier must be its issuer's",
    ),
    (
        "authority key id with serial",
        lambda: APP.with_extension(
            "authority_key",
            x509.AuthorityKeyIdentifier(
                AUTHORITY_KEY.key_identifier,
                [x509.DirectoryName(AUTHORITIES.root.certificate.subject)],
                AUTHORITIES.internal.certificate.serial_number,
            ),
        ),
        "key id only",
    ),
    ("signed by another", lambda: replace(APP, signing_key=OTHER_KEY), "signed by its issuer"),
    (
        "issuer's name",
        lambda: replace(APP, issuer_name=AUTHORITIES.root.certificate.subject),
        "signed by its issuer",
    ),
]


@pytest.mark.parametrize(
    ("change", "rule"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_one_broken_field_is_refused(change: Callable[[], Blueprint], rule: str) -> None:
    """The certificate is refused, for the reason that was broken and no other."""
    with pytest.raises(CertificateError, match=rule):
        change().check()


def test_outliving_the_issuer_is_refused() -> None:
    """A certificate that ends after its issuer is not let out."""
    late = AUTHORITIES.internal.certificate.not_valid_after_utc - timedelta(hours=1)
    blueprint = replace(APP, start=late, end=late + DAY, now=late)
    with pytest.raises(CertificateError, match="outlive its issuer"):
        blueprint.check()


def test_a_certificate_of_version_1_is_refused(tmp_path: Path) -> None:
    """OpenSSL makes one of version 1 when no extension is asked for: it is refused for that."""
    key = write_key(tmp_path / "key.pem", KEY)
    name = ["-subj", "/O=lockgate.internal/OU=app/CN=hello"]
    request = ["openssl", "req", "-new", "-key", str(key), *name]
    pem = subprocess.run(request, capture_output=True, check=True, timeout=20).stdout
    sign = ["openssl", "x509", "-req", "-key", str(key), "-days", "1"]
    made = subprocess.run(sign, input=pem, capture_output=True, check=True, timeout=20).stdout
    certificate = x509.load_pem_x509_certificate(made)
    assert certificate.version is x509.Version.v1
    with pytest.raises(CertificateError, match="version must be 3"):
        check_certificate(certificate, certificate, APP.claim, KEY.public_key(), NOW)
