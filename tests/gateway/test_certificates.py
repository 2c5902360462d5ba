"""Certificates: issued, read from files, renewed, and what happens when that fails."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.certificates import (
    CertificateKeeper,
    FileCertificates,
    IssuedCertificates,
    OwnLeaf,
)
from gateway.config import CertificateFiles
from gateway.tls import CertificateStore, build_visitor_context
from pki import ConfigError, IssuedLeaf, PkiClient, PkiError
from pki.csr import parse_csr
from pki.issuer import Order, issue
from pki.keys import make_serial
from pki.profiles import Claim, Kind
from tests.support.agent import DAY, Authority
from tests.support.authorities import make_authorities
from tests.support.gateway import GatewayLab, echo, get

NOW = datetime.now(UTC)
DOMAIN = "lockgate.internal"


class Issuer(PkiClient):
    """The PKI without its process: signs by the real issuer, and is away when told to be."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"))
        self.authorities = make_authorities(NOW - timedelta(hours=1), DOMAIN)
        self.asked: list[str] = []
        self.keys: set[bytes] = set()
        self.is_away = False

    async def issue_visitor(self, host: str, csr_pem: bytes) -> IssuedLeaf:
        return self._sign(Claim(Kind.visitor, DOMAIN, host), csr_pem)

    async def issue_gateway(self, csr_pem: bytes) -> IssuedLeaf:
        return self._sign(Claim(Kind.gateway, DOMAIN, "main"), csr_pem)

    async def fetch_bundle(self) -> bytes:
        return self.authorities.root.certificate.public_bytes(Encoding.PEM)

    def _sign(self, claim: Claim, csr_pem: bytes) -> IssuedLeaf:
        if self.is_away:
            raise PkiError("away", reason="unreachable")
        issuer = self.authorities.get_issuer(claim.kind)
        key = parse_csr(csr_pem)
        leaf = issue(Order(claim, key, make_serial(), NOW, timedelta(hours=24)), issuer)
        self.asked.append(claim.name)
        self.keys.add(csr_pem)
        chain = leaf.public_bytes(Encoding.PEM) + issuer.certificate.public_bytes(Encoding.PEM)
        return IssuedLeaf(chain, "00", leaf.not_valid_before_utc, leaf.not_valid_after_utc)


@pytest.fixture
def store(authority: Authority) -> CertificateStore:
    """A store that serves strangers only."""
    return CertificateStore(build_visitor_context(*authority.issue(dns="strangers.test")))


def draw() -> float:
    """No jitter."""
    return 0.0


async def test_issues_for_each_host_once(store: CertificateStore) -> None:
    """Only what is missing is asked for, each with a key of its own; what left is dropped."""
    issuer = Issuer()
    visitors = IssuedCertificates(issuer, store, draw)
    await visitors.cover(["a.test", "b.test"])
    await visitors.cover(["b.test", "c.test"])
    assert sorted(issuer.asked) == ["a.test", "b.test", "c.test"]
    assert len(issuer.keys) == 3
    strangers = store.pick(None)
    assert [store.pick(f"{name}.test") is strangers for name in "abc"] == [True, False, False]


async def test_failed_cover_changes_nothing(store: CertificateStore) -> None:
    """When the PKI is away, what is served stays served."""
    issuer = Issuer()
    visitors = IssuedCertificates(issuer, store, draw)
    await visitors.cover(["a.test"])
    served = store.pick("a.test")
    issuer.is_away = True
    with pytest.raises(PkiError):
        await visitors.cover(["b.test"])
    assert store.pick("a.test") is served


async def test_renews_at_half_life(store: CertificateStore) -> None:
    """Before half of a leaf's life nothing is asked for, after it a new leaf is served."""
    issuer = Issuer()
    visitors = IssuedCertificates(issuer, store, draw)
    await visitors.cover(["a.test"])
    served = store.pick("a.test")
    await visitors.renew((NOW + timedelta(hours=11)).timestamp())
    assert store.pick("a.test") is served
    await visitors.renew((NOW + timedelta(hours=13)).timestamp())
    assert store.pick("a.test") is not served
    assert len(issuer.keys) == 2


async def test_own_leaf_is_used_from_the_next_connection(lab: GatewayLab) -> None:
    """A renewal closes idle connections to apps and leaves those in use alone."""
    app = await lab.serve(echo)
    visit = await lab.connect()
    await visit.send(get())
    await visit.read()
    leaf = OwnLeaf(Issuer(), lab.site.dialer, draw)
    await leaf.renew()
    await lab.settle(lambda: app.open == 0)
    assert abs(leaf.renew_at - (NOW + timedelta(hours=12)).timestamp()) < 200
    visit.abort()


async def test_keeper_asks_again_after_a_failure(lab: GatewayLab, store: CertificateStore) -> None:
    """A PKI that is away is said once per look, and asked again until it answers."""
    issuer, said = Issuer(), list[str]()
    leaf = OwnLeaf(issuer, lab.site.dialer, draw)
    visitors = IssuedCertificates(issuer, store, draw)
    keeper = CertificateKeeper(leaf, visitors, store, lambda: NOW.timestamp(), said.append)
    issuer.is_away = True
    keeping = asyncio.ensure_future(keeper.keep(0.01))
    await lab.settle(lambda: len(said) > 2)
    assert "trying again: away" in said[0]
    issuer.is_away = False
    await lab.settle(lambda: leaf.renew_at > 0)
    keeping.cancel()


def write_pair(folder: Path, name: str, pair: tuple[bytes, bytes]) -> CertificateFiles:
    """Chain and key as the operator has them."""
    (folder / f"{name}.crt").write_bytes(pair[0])
    (folder / f"{name}.key").write_bytes(pair[1])
    return CertificateFiles(cert=folder / f"{name}.crt", key=folder / f"{name}.key")


async def test_files_are_matched_by_their_names(
    authority: Authority, store: CertificateStore, tmp_path: Path
) -> None:
    """Each pair serves the names in it, the first one strangers, and gaps are said."""
    said = list[str]()
    entries = (
        write_pair(tmp_path, "a", authority.issue(dns="a.test")),
        write_pair(tmp_path, "w", authority.issue(dns="*.w.test")),
    )
    files = FileCertificates(entries, said.append)
    files.serve(store)
    assert store.pick("x.w.test") is not store.pick("a.test")
    assert store.pick("other.test") is store.pick("a.test")
    await files.cover(["a.test", "x.w.test", "b.test"])
    assert said == ["no certificate file is for b.test"]


async def test_files_are_read_again_when_they_change(
    authority: Authority, store: CertificateStore, tmp_path: Path
) -> None:
    """A new pair is served; a broken one is said and the old one stays."""
    said = list[str]()
    files = FileCertificates(
        (write_pair(tmp_path, "a", authority.issue(dns="a.test")),), said.append
    )
    files.serve(store)
    first = store.pick("a.test")
    await files.renew(0)
    assert store.pick("a.test") is first
    write_pair(tmp_path, "a", (b"garbage", b"garbage"))
    await files.renew(0)
    assert store.pick("a.test") is first
    write_pair(tmp_path, "a", authority.issue(dns="b.test"))
    await files.renew(0)
    assert store.pick("b.test") is not first
    assert ["stay as they were" in said[0], said[1:]] == [True, ["certificates were read again"]]


@pytest.mark.parametrize("broken", ["missing", "garbage", "no key", "expired"])
def test_broken_file_is_named(authority: Authority, tmp_path: Path, broken: str) -> None:
    """What cannot be served is an error with the file's name."""
    dates = {"start": -2 * DAY, "end": -DAY} if broken == "expired" else {}
    entry = write_pair(tmp_path, "a", authority.issue(dns="a.test", **dates))
    if broken == "missing":
        entry.cert.unlink()
    elif broken == "garbage":
        entry.cert.write_text("garbage")
    elif broken == "no key":
        entry.key.write_text("")
    with pytest.raises(ConfigError) as refused:
        FileCertificates((entry,), [].append)
    assert refused.value.file == os.fspath(entry.cert)
    assert refused.value.key == "gateway.certificates"
