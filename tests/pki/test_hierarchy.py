"""What must hold of the standing authorities."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import KeystoreError, SealError
from pki.hierarchy import Hierarchy
from pki.keys import make_key
from pki.keystore import Keystore
from pki.profiles import Claim, Kind
from tests.support.authorities import DAY, NOW, TRUST_DOMAIN, verify_with_openssl

KEY = bytes(range(32))
APP = Claim(Kind.app, TRUST_DOMAIN, "hello", 3)


class Site:
    """An installation's directory and what was recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorded: list[tuple[Kind, x509.Certificate]] = []

    def start(self, now=NOW, key: bytes = KEY, trust_domain: str = TRUST_DOMAIN) -> Hierarchy:
        """A process that opens the authorities."""
        hierarchy = Hierarchy(Keystore(self.folder, key), trust_domain, self._record)
        hierarchy.open(now)
        return hierarchy

    def _record(self, claim: Claim, certificate: x509.Certificate) -> None:
        assert claim.kind is Kind.root or self.recorded
        stored = self.folder / f"{claim.kind.value}.json"
        text = certificate.public_bytes(Encoding.PEM).decode()
        assert not stored.exists() or text.splitlines()[1] not in stored.read_text()
        self.recorded.append((claim.kind, certificate))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty installation."""
    return Site(tmp_path)


def test_the_first_start_makes_one_of_each(site: Site) -> None:
    """A root and two intermediates under it, each recorded before it is stored."""
    hierarchy = site.start()
    assert [kind for kind, _ in site.recorded] == [Kind.root, Kind.internal, Kind.visitors]
    assert hierarchy.roots == [site.recorded[0][1]]
    assert set(hierarchy.issuers) == {Kind.internal, Kind.visitors}


def test_a_restart_makes_nothing(site: Site) -> None:
    """The same authorities are there after a restart, and sign."""
    first, second = site.start(), site.start()
    assert len(site.recorded) == 3
    assert (first.roots, first.issuers) == (second.roots, second.issuers)
    leaf, issuer = second.sign(APP, make_key().public_key(), NOW, DAY)
    assert issuer == first.issuers[Kind.internal]
    leaf.verify_directly_issued_by(issuer)


def test_each_leaf_has_its_issuer(site: Site) -> None:
    """Visitors' leaves come from "visitors", the others from "internal"."""
    hierarchy = site.start()
    for kind, name, issuer in (
        (Kind.gateway, "main", Kind.internal),
        (Kind.visitor, "a.example", Kind.visitors),
    ):
        claim = Claim(kind, TRUST_DOMAIN, name)
        assert (
            hierarchy.sign(claim, make_key().public_key(), NOW, DAY)[1]
            == (hierarchy.issuers[issuer])
        )


@pytest.mark.parametrize(("days", "is_replaced"), [(44, False), (46, True), (89, True)])
def test_intermediates_are_replaced_at_half_life(site: Site, days: int, is_replaced: bool) -> None:
    """From day 45 on a start or an hourly look makes new ones, under the same root."""
    running = site.start()
    before = running.issuers
    later = NOW + timedelta(days=days)
    assert running.refresh(later) == ([Kind.internal, Kind.visitors] if is_replaced else [])
    assert (running.issuers != before) is is_replaced
    assert running.refresh(later) == []
    restarted = site.start(later)
    assert restarted.issuers == running.issuers
    assert restarted.roots == running.roots


def test_leaves_of_a_replaced_intermediate_stay_valid(site: Site, tmp_path: Path) -> None:
    """A leaf and its chain from before the replacement still verify afterwards."""
    hierarchy = site.start()
    almost = NOW + timedelta(days=44, hours=23)
    leaf, issuer = hierarchy.sign(APP, make_key().public_key(), almost, DAY)
    later = almost + timedelta(hours=2)
    hierarchy.refresh(later)
    assert hierarchy.issuers[Kind.internal] != issuer
    assert verify_with_openssl(tmp_path, leaf, issuer, hierarchy.roots[0], now=later) == "ok"


def test_an_expired_intermediate_is_replaced_at_start(site: Site) -> None:
    """A machine that was off for months comes back by itself, its root still trusted."""
    before = site.start()
    after = site.start(NOW + timedelta(days=400))
    assert after.roots == before.roots
    after.sign(APP, make_key().public_key(), NOW + timedelta(days=400), DAY)


def test_the_roots_key_is_not_kept(site: Site) -> None:
    """Leaves are signed without the root's key: its file may be away."""
    hierarchy = site.start()
    (site.folder / "root.json").unlink()
    hierarchy.sign(APP, make_key().public_key(), NOW, DAY)
    with pytest.raises(KeystoreError, match="root changed on disk"):
        hierarchy.refresh(NOW + timedelta(days=50))


def test_a_root_swapped_while_running_signs_nothing(site: Site, tmp_path: Path) -> None:
    """Another root of the same trust domain and seal key does not take the first one's place."""
    hierarchy = site.start()
    other = Site(tmp_path / "other")
    other.folder.mkdir()
    other.start()
    (other.folder / "root.json").rename(site.folder / "root.json")
    with pytest.raises(KeystoreError, match="root changed on disk"):
        hierarchy.refresh(NOW + timedelta(days=50))


def test_another_seal_key_does_not_open(site: Site) -> None:
    """With another key nothing starts, and nothing is made anew."""
    site.start()
    with pytest.raises(SealError):
        site.start(key=KEY[::-1])
    assert len(site.recorded) == 3


def test_another_trust_domain_does_not_start(site: Site) -> None:
    """An installation cannot be renamed by accident: its authorities are of its trust domain."""
    site.start()
    with pytest.raises(KeystoreError, match="was the trust domain changed"):
        site.start(trust_domain="other.internal")


def test_a_foreign_intermediate_is_refused(site: Site, tmp_path: Path) -> None:
    """A file of another installation under the same seal key is not used."""
    site.start()
    other = Site(tmp_path / "other")
    other.folder.mkdir()
    other.start()
    (other.folder / "internal.json").rename(site.folder / "internal.json")
    with pytest.raises(KeystoreError, match=r"internal authority .* cannot be used"):
        site.start()


def test_a_clock_before_the_root_does_not_start(site: Site) -> None:
    """A clock that is years behind makes an error, not certificates that nobody accepts."""
    site.start()
    with pytest.raises(KeystoreError, match="valid now"):
        site.start(NOW - timedelta(days=300))
