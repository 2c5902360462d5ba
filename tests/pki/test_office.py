"""What the issuing office must do, and what it must journal."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from pki.config import PkiConfig
from pki.errors import (
    CsrError,
    DeniedError,
    IdentityError,
    JournalError,
    NameTakenError,
    PkiError,
    UnknownNameError,
)
from pki.journal import verify_journal
from pki.keys import make_key_and_csr
from pki.office import Office, Peer
from pki.roles import Roles
from tests.support.authorities import DAY, NOW, TRUST_DOMAIN

KEY = bytes(range(32))
OWNER, RUNNER, GATEWAY, STRANGER = (Peer(uid, 7) for uid in (10, 20, 30, 40))
CSR = make_key_and_csr().csr_pem


class Desk:
    """An installation whose clock the test moves and whose process it restarts."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.folder = folder / "pki"
        self.folder.mkdir()
        self._config = PkiConfig(
            trust_domain=TRUST_DOMAIN,
            state_dir=folder,
            run_dir=folder,
            uid=10,
            runner_uid=20,
            gateway_uid=30,
            leaf_lifetime="24h",
        )
        self.office = self._open()

    def restart(self) -> Office:
        """The process ends and another starts."""
        self.office.close()
        self.office = self._open()
        return self.office

    def read(self, event: str | None = None) -> list[dict[str, Any]]:
        """The journal's lines, after a check of the chain."""
        verify_journal(self.folder / "journal.jsonl")
        lines = (self.folder / "journal.jsonl").read_text().splitlines()
        return [e for e in map(json.loads, lines) if event in (None, e["event"])]

    def _open(self) -> Office:
        return Office(self._config, KEY, Roles(10, 20, 30), self._read_clock)

    def _read_clock(self) -> datetime:
        return self.now


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An open office with one registered app."""
    desk = Desk(tmp_path)
    desk.office.register(RUNNER, "hello", 3, ["hello.localhost", "*.example.com"])
    yield desk
    desk.office.close()


def read_leaf(chain_pem: bytes) -> x509.Certificate:
    """The first certificate of a chain."""
    return x509.load_pem_x509_certificates(chain_pem)[0]


def test_an_apps_leaf_says_what_the_registry_says(desk: Desk) -> None:
    """The leaf is for the registered generation and the key of the request, valid for a day."""
    issued = desk.office.issue_app(RUNNER, "hello", 3, CSR)
    leaf = read_leaf(issued.chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://lockgate.internal/app/hello/3"
    ]
    assert leaf.public_key() == x509.load_pem_x509_csr(CSR).public_key()
    assert (int(issued.serial, 16), issued.not_after) == (leaf.serial_number, NOW + DAY)
    assert issued.not_before == NOW - timedelta(minutes=2)
    assert len(x509.load_pem_x509_certificates(issued.chain_pem)) == 2


@pytest.mark.parametrize("host", ["hello.localhost", "*.example.com"])
def test_a_visitors_leaf_is_for_one_registered_host(desk: Desk, host: str) -> None:
    """Exactly the host, as it was registered, and nothing about the app."""
    leaf = read_leaf(desk.office.issue_visitor(GATEWAY, host, CSR).chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(host)]
    assert "hello" not in leaf.subject.rfc4514_string().replace("hello.localhost", "")


def test_every_issue_is_journalled(desk: Desk) -> None:
    """Authorities, registration and leaves: who asked, for whom, which serial, until when."""
    app = desk.office.issue_app(RUNNER, "hello", 3, CSR)
    gateway = desk.office.issue_gateway(GATEWAY, CSR)
    visitor = desk.office.issue_visitor(GATEWAY, "hello.localhost", CSR)
    assert [e["kind"] for e in desk.read("authority")] == ["root", "internal", "visitors"]
    assert [(e["kind"], e["name"], e["serial"], e["uid"]) for e in desk.read("issued")] == [
        ("app", "hello", app.serial, 20),
        ("gateway", "main", gateway.serial, 30),
        ("visitor", "hello.localhost", visitor.serial, 30),
    ]
    registered = desk.read("registered")[0]
    assert (registered["app"], registered["generation"]) == ("hello", 3)
    assert registered["hosts"] == ["*.example.com", "hello.localhost"]


ASKING = [
    ("register", lambda o, p: o.register(p, "other", 1, []), RUNNER),
    ("forget", lambda o, p: o.forget(p, "hello", None), RUNNER),
    ("issue_app", lambda o, p: o.issue_app(p, "hello", 3, CSR), RUNNER),
    ("issue_gateway", lambda o, p: o.issue_gateway(p, CSR), GATEWAY),
    ("issue_visitor", lambda o, p: o.issue_visitor(p, "hello.localhost", CSR), GATEWAY),
]


@pytest.mark.parametrize(
    ("action", "ask", "rightful"), ASKING, ids=[action for action, _, _ in ASKING]
)
def test_each_may_ask_only_for_its_part(desk: Desk, action: str, ask: Any, rightful: Peer) -> None:
    """Runner, gateway and strangers are refused what is not theirs, and that is journalled."""
    refused = [peer for peer in (RUNNER, GATEWAY, STRANGER) if peer is not rightful]
    for peer in refused:
        with pytest.raises(DeniedError, match=f"uid {peer.uid} may not"):
            ask(desk.office, peer)
    assert [(e["uid"], e["action"], e["reason"]) for e in desk.read("refused")] == [
        (peer.uid, action, "denied") for peer in refused
    ]
    assert desk.read("issued") == desk.read("forgotten") == []
    ask(desk.office, rightful)
    ask(desk.office, OWNER)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda o: o.issue_app(RUNNER, "hello", 2, CSR), UnknownNameError),
        (lambda o: o.issue_app(RUNNER, "other", 3, CSR), UnknownNameError),
        (lambda o: o.issue_app(RUNNER, "hello", 3, b"junk"), CsrError),
        (lambda o: o.issue_visitor(GATEWAY, "x.example.com", CSR), UnknownNameError),
        (lambda o: o.issue_visitor(GATEWAY, "hello.apps.lockgate.internal", CSR), UnknownNameError),
        (lambda o: o.issue_gateway(GATEWAY, b""), CsrError),
        (lambda o: o.register(RUNNER, "Bad", 1, []), IdentityError),
        (lambda o: o.register(RUNNER, "other", 1, ["hello.localhost"]), NameTakenError),
    ],
)
def test_refusals_are_journalled(desk: Desk, ask: Any, error: type[PkiError]) -> None:
    """Whatever is not signed leaves a line with its reason, and no leaf."""
    with pytest.raises(error):
        ask(desk.office)
    assert [e["reason"] for e in desk.read("refused")] == [error.reason]
    assert desk.read("issued") == []


def test_a_stranger_cannot_fill_the_journal(desk: Desk) -> None:
    """One line a minute for each uid without a role; others are journalled every time."""
    for _ in range(50):
        with pytest.raises(DeniedError):
            desk.office.read_status(STRANGER)
    assert len(desk.read("refused")) == 1
    desk.now += timedelta(seconds=61)
    with pytest.raises(DeniedError):
        desk.office.read_status(STRANGER)
    with pytest.raises(DeniedError):
        desk.office.read_status(Peer(41, 1))
    assert [e["uid"] for e in desk.read("refused")] == [40, 40, 41]
    for _ in range(3):
        with pytest.raises(DeniedError):
            desk.office.issue_gateway(RUNNER, CSR)
    assert len(desk.read("refused")) == 6


def test_forgetting_returns_what_must_no_longer_be_accepted(desk: Desk) -> None:
    """The generation's serials; with the last holder of a host, its visitors' serials too."""
    office = desk.office
    office.register(RUNNER, "hello", 4, ["hello.localhost"])
    old = office.issue_app(RUNNER, "hello", 3, CSR).serial
    new = [office.issue_app(RUNNER, "hello", 4, CSR).serial for _ in range(2)]
    host = office.issue_visitor(GATEWAY, "hello.localhost", CSR).serial
    wild = office.issue_visitor(GATEWAY, "*.example.com", CSR).serial
    office.issue_gateway(GATEWAY, CSR)
    assert office.forget(RUNNER, "hello", 3) == [old, wild]
    with pytest.raises(UnknownNameError):
        office.issue_app(RUNNER, "hello", 3, CSR)
    assert office.forget(RUNNER, "hello", None) == [*new, host]
    assert office.forget(RUNNER, "hello", None) == office.forget(RUNNER, "never", None) == []
    with pytest.raises(UnknownNameError):
        office.issue_visitor(GATEWAY, "hello.localhost", CSR)
    assert [e["serials"] for e in desk.read("forgotten")] == [[old, wild], [*new, host]]
    assert office.read_status(RUNNER)["leaves"] == 1


def test_a_restart_forgets_nothing(desk: Desk) -> None:
    """Authorities, registrations and the serials of valid leaves come back from disk."""
    before = desk.office.read_bundle(STRANGER)
    first = desk.office.issue_app(RUNNER, "hello", 3, CSR).serial
    desk.now += timedelta(hours=13)
    second = desk.office.issue_app(RUNNER, "hello", 3, CSR).serial
    office = desk.restart()
    assert office.read_bundle(STRANGER) == before
    assert office.read_status(RUNNER)["leaves"] == 2
    desk.now += timedelta(hours=12)
    assert desk.restart().forget(RUNNER, "hello", None) == [second]
    assert first != second
    assert desk.restart().read_status(RUNNER)["leaves"] == 0


def test_an_equal_registration_is_no_news(desk: Desk) -> None:
    """The runner may repeat itself: nothing is journalled or written."""
    before = len(desk.read())
    desk.office.register(RUNNER, "hello", 3, ["*.example.com", "hello.localhost"])
    assert len(desk.read()) == before


def test_nothing_leaves_without_its_journal_line(desk: Desk) -> None:
    """If the journal cannot be written, no leaf is handed out and none is counted."""
    desk.office._journal.close()
    with pytest.raises(JournalError):
        desk.office.issue_app(RUNNER, "hello", 3, CSR)
    assert len(desk.office._issued) == 0


def test_a_torn_journal_is_noted(desk: Desk) -> None:
    """After a crash in the middle of a line the journal says how much was cut."""
    path = desk.folder / "journal.jsonl"
    with path.open("ab") as stream:
        stream.write(b'{"seq":99,"tor')
    desk.restart()
    assert [e["torn_bytes"] for e in desk.read("recovered")] == [14]


def test_intermediates_are_replaced_hourly_when_due(desk: Desk) -> None:
    """A refresh past half life makes new intermediates; before, it makes none."""
    assert desk.office.refresh() == []
    desk.now += timedelta(days=46)
    assert desk.office.refresh() == ["internal", "visitors"]
    assert len(desk.read("authority")) == 5


def test_status_says_what_an_operator_asks(desk: Desk) -> None:
    """Authorities with their validity, registrations, counts and the journal's head."""
    desk.office.issue_gateway(GATEWAY, CSR)
    status = desk.office.read_status(RUNNER)
    assert json.loads(json.dumps(status)) == status
    assert status["trust_domain"] == TRUST_DOMAIN
    assert status["apps"] == {"hello": {"3": ["*.example.com", "hello.localhost"]}}
    assert set(status["issuers"]) == {"internal", "visitors"}
    assert status["leaves"] == 1
    head = verify_journal(desk.folder / "journal.jsonl")
    assert status["journal"] == {"seq": head.seq, "digest": head.digest}


def test_no_secret_is_on_disk(desk: Desk) -> None:
    """No file of the PKI holds a private key in the clear."""
    desk.office.issue_gateway(GATEWAY, CSR)
    for path in desk.folder.iterdir():
        assert b"PRIVATE" not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
