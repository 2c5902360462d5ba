"""Names: trust domain, app, host and SPIFFE ID, each parsed once and never trusted before.

Invariants: a `SpiffeId` that exists is inside the grammar of the SPIFFE ID specification §2 (no
`.`/`..` segments, no percent signs, no query, at most 2048 bytes); nothing here repairs a name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pki.errors import IdentityError

GATEWAY_NAME = "main"

_MAX_ID_BYTES = 2048
_MAX_DNS_CHARS = 253
_MAX_TRUST_DOMAIN_CHARS = 64  # it is also the O of every subject: X.520 ub-organization-name
_MAX_GENERATION = 2**31 - 1
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_APP = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
_SPIFFE_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_GENERATION = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`spiffe://<trust_domain>/<segment>/…`; raises `IdentityError` outside the grammar."""

    trust_domain: str
    segments: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _SPIFFE_TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise IdentityError(f"not a SPIFFE trust domain: {_show(self.trust_domain)}")
        if not self.segments:
            raise IdentityError("a SPIFFE ID of a workload has a path")
        for segment in self.segments:
            if segment in (".", "..") or not _SEGMENT.fullmatch(segment):
                raise IdentityError(f"not a SPIFFE path segment: {_show(segment)}")
        if len(str(self)) > _MAX_ID_BYTES:
            raise IdentityError(f"a SPIFFE ID has at most {_MAX_ID_BYTES} bytes")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{'/'.join(self.segments)}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """Any workload's SPIFFE ID, exactly as written; raises `IdentityError`."""
    scheme, separator, rest = text.partition("://")
    if scheme != "spiffe" or not separator:
        raise IdentityError(f"not a SPIFFE ID: {_show(text)}")
    trust_domain, *segments = rest.split("/")
    return SpiffeId(trust_domain, tuple(segments))


def build_app_id(trust_domain: str, app: str, generation: int) -> SpiffeId:
    """`spiffe://<td>/app/<app>/<generation>`; raises `IdentityError`."""
    segments = ("app", parse_app_name(app), str(check_generation(generation)))
    return SpiffeId(parse_trust_domain(trust_domain), segments)


def build_gateway_id(trust_domain: str, name: str = GATEWAY_NAME) -> SpiffeId:
    """`spiffe://<td>/gateway/<name>`; raises `IdentityError`."""
    return SpiffeId(parse_trust_domain(trust_domain), ("gateway", parse_app_name(name)))


def build_app_dns_name(app: str, trust_domain: str) -> str:
    """`<app>.apps.<td>`, the name the gateway expects of an agent; raises `IdentityError`."""
    return f"{parse_app_name(app)}.apps.{parse_trust_domain(trust_domain)}"


def build_gateway_dns_name(name: str, trust_domain: str) -> str:
    """`<name>.gateway.<td>`; raises `IdentityError`."""
    return f"{parse_app_name(name)}.gateway.{parse_trust_domain(trust_domain)}"


def parse_trust_domain(text: str) -> str:
    """A lower-case DNS name of at most 64 characters; raises `IdentityError`."""
    if len(text) > _MAX_TRUST_DOMAIN_CHARS or not _is_dns_name(text):
        raise IdentityError(
            f"not a trust domain: {_show(text)}: a lower-case DNS name of at most "
            f"{_MAX_TRUST_DOMAIN_CHARS} characters is expected, such as lockgate.internal"
        )
    return text


def parse_app_name(text: str) -> str:
    """1 to 40 of `a-z 0-9 -`, first a letter, last no hyphen; raises `IdentityError`."""
    if not _APP.fullmatch(text):
        raise IdentityError(
            f"not an app name: {_show(text)}: 1 to 40 lower-case letters, digits and hyphens are "
            "expected, starting with a letter and not ending with a hyphen"
        )
    return text


def parse_host(text: str) -> str:
    """A visitor's host: a lower-case DNS name, or `*.` and one; raises `IdentityError`.

    A last label of digits only would be read as an IPv4 address by browsers (WHATWG URL §3.5).
    """
    name = text.removeprefix("*.")
    if not _is_dns_name(name) or name.rpartition(".")[2].isdigit() or len(text) > _MAX_DNS_CHARS:
        raise IdentityError(
            f"not a host: {_show(text)}: a lower-case DNS name is expected, such as "
            "hello.example.com or *.example.com"
        )
    return text


def check_hosts(hosts: Iterable[str], trust_domain: str) -> tuple[str, ...]:
    """The hosts of an app, sorted, without the names that Lockgate itself goes by inside.

    Raises `IdentityError`: a visitors' certificate must never carry an app's or gateway's name.
    """
    checked = sorted({parse_host(host) for host in hosts})
    for host in checked:
        for inside in (f"apps.{trust_domain}", f"gateway.{trust_domain}"):
            if host == inside or host.endswith(f".{inside}"):
                raise IdentityError(f"{host} is reserved: Lockgate uses {inside} inside")
    return tuple(checked)


def check_generation(generation: int) -> int:
    """A positive 31-bit number; raises `IdentityError`."""
    if not 1 <= generation <= _MAX_GENERATION:
        raise IdentityError(f"not a generation: {generation}")
    return generation


def parse_generation(text: str) -> int:
    """The same from decimal digits without a leading zero; raises `IdentityError`."""
    if not _GENERATION.fullmatch(text):
        raise IdentityError(f"not a generation: {_show(text)}")
    return check_generation(int(text))


def _is_dns_name(text: str) -> bool:
    return len(text) <= _MAX_DNS_CHARS and all(_LABEL.fullmatch(label) for label in text.split("."))


def _show(text: str) -> str:
    """The text for a message: escaped and short, since it may come from a stranger."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")
