"""Contexts, names and identities, with real handshakes in memory."""

import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

from gateway.tls import (
    CertificateStore,
    PeerIdentityError,
    build_agent_context,
    build_visitor_context,
    check_peer,
    fold_name,
    get_sni,
    load_pair,
    read_names,
)
from tests.support.agent import DAY, Authority
from tests.support.gateway import APP_ID, GATEWAY_ID, SERVER_NAME


def shake(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str | None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory; raises what either end raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    return ends


def build_client(authority: Authority, **changes: object) -> ssl.SSLContext:
    """A visitor's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=authority.root_pem.decode())
    for name, value in changes.items():
        setattr(context, name, value)
    return context


@pytest.fixture
def store(authority: Authority) -> CertificateStore:
    """One exact name, one wildcard, one certificate for strangers."""
    store = CertificateStore(build_visitor_context(*authority.issue(dns="strangers.test")))
    store.swap(
        {
            "a.test": build_visitor_context(*authority.issue(dns="a.test")),
            "*.w.test": build_visitor_context(*authority.issue(dns="*.w.test")),
        }
    )
    return store


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("a.test", "a.test"),
        ("A.TEST", "a.test"),
        ("x.w.test", "*.w.test"),
        ("x.y.w.test", "strangers.test"),
        ("w.test", "strangers.test"),
        ("other.test", "strangers.test"),
        (None, "strangers.test"),
    ],
)
def test_serves_the_certificate_of_the_name(
    store: CertificateStore, authority: Authority, name: str | None, served: str
) -> None:
    """Exact names first, then wildcards of one label, then what strangers get."""
    client, server = shake(build_client(authority), store.base, name)
    assert (client.getpeercert() or {})["subjectAltName"] == (("DNS", served),)
    assert get_sni(server) == (None if name is None else name.lower())


def test_swap_counts_from_the_next_handshake(store: CertificateStore, authority: Authority) -> None:
    """A new set replaces the old one whole."""
    store.swap({"b.test": build_visitor_context(*authority.issue(dns="b.test"))})
    client, _ = shake(build_client(authority), store.base, "b.test")
    assert (client.getpeercert() or {})["subjectAltName"] == (("DNS", "b.test"),)
    client, _ = shake(build_client(authority), store.base, "a.test")
    assert (client.getpeercert() or {})["subjectAltName"] == (("DNS", "strangers.test"),)


@pytest.mark.parametrize(
    "weak",
    [
        {"maximum_version": ssl.TLSVersion.TLSv1_1, "minimum_version": ssl.TLSVersion.TLSv1},
        {"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "AES128-SHA256:AES128-GCM-SHA256"},
        {"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-ECDSA-AES128-SHA256"},
        {"maximum_version": ssl.TLSVersion.TLSv1_2, "ciphers": "DHE-RSA-AES128-GCM-SHA256"},
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_refuses_old_versions_and_weak_suites(
    store: CertificateStore, authority: Authority, weak: dict[str, object]
) -> None:
    """TLS before 1.2, and suites without forward secrecy or AEAD, get no handshake."""
    weak = dict(weak)
    client = build_client(authority)
    client.set_ciphers(str(weak.pop("ciphers", "ALL:@SECLEVEL=0")))
    for name, value in weak.items():
        setattr(client, name, value)
    with pytest.raises(ssl.SSLError):
        shake(client, store.base, "a.test")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_speaks_what_it_should(
    store: CertificateStore, authority: Authority, version: ssl.TLSVersion
) -> None:
    """TLS 1.2 and 1.3 work, with http/1.1 as the protocol, without compression."""
    client = build_client(authority, minimum_version=version, maximum_version=version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    end, _ = shake(client, store.base, "a.test")
    assert (end.selected_alpn_protocol(), end.compression()) == ("http/1.1", None)


def test_a_cut_is_never_an_orderly_end(authority: Authority) -> None:
    """Some Pythons ignore a missing close_notify by default (RFC 8446 section 6.1): ours do not."""
    contexts = (
        build_visitor_context(*authority.issue(dns="a.test")),
        build_agent_context(*authority.issue(GATEWAY_ID), authority.root_pem),
    )
    assert not any(context.options & ssl.OP_IGNORE_UNEXPECTED_EOF for context in contexts)


def test_key_is_never_in_a_file(authority: Authority, tmp_path: Path) -> None:
    """Loading a pair leaves no descriptor and no file behind."""
    before = len(os.listdir("/proc/self/fd"))
    load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *authority.issue(dns="a.test"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_pair_that_does_not_fit_is_refused(authority: Authority) -> None:
    """A chain under another key is an error."""
    chain, _ = authority.issue(dns="a.test")
    _, key = authority.issue(dns="a.test")
    with pytest.raises(ssl.SSLError):
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), chain, key)


def build_server(authority: Authority, *uris: str) -> ssl.SSLContext:
    """An agent's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_pair(context, *authority.issue(*uris, dns=SERVER_NAME))
    return context


def build_agent_client(authority: Authority) -> ssl.SSLContext:
    """The gateway's context towards agents."""
    return build_agent_context(*authority.issue(GATEWAY_ID), authority.root_pem)


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (APP_ID + "0",),
        (APP_ID[:-1],),
        (APP_ID, APP_ID),
        (APP_ID + "/",),
        (APP_ID.replace("spiffe", "SPIFFE"),),
        (APP_ID + "?x",),
    ],
)
def test_peer_must_be_exactly_the_upstream(authority: Authority, uris: tuple[str, ...]) -> None:
    """One URI SAN, equal byte for byte, or the peer is refused."""
    client, _ = shake(build_agent_client(authority), build_server(authority, *uris), SERVER_NAME)
    with pytest.raises(PeerIdentityError):
        check_peer(client, APP_ID)


def test_peer_that_is_the_upstream_passes(authority: Authority) -> None:
    """The right peer is let through."""
    client, _ = shake(build_agent_client(authority), build_server(authority, APP_ID), SERVER_NAME)
    check_peer(client, APP_ID)
    assert client.version() == "TLSv1.3"


def test_agent_context_checks_name_root_and_version(authority: Authority) -> None:
    """Another DNS name, another root or TLS 1.2 end the handshake."""
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(build_agent_client(authority), build_server(authority, APP_ID), "x.apps.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(build_agent_client(Authority()), build_server(authority, APP_ID), SERVER_NAME)
    old = build_server(authority, APP_ID)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake(build_agent_client(authority), old, SERVER_NAME)


def test_reads_the_names_it_can_serve(authority: Authority) -> None:
    """Names come out of the leaf; one that is not in force is an error that says so."""
    chain, key = authority.issue(dns="A.test")
    assert read_names(build_visitor_context(chain, key), chain) == ("a.test",)
    chain, key = authority.issue(dns="a.test", start=-2 * DAY, end=-DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        read_names(build_visitor_context(chain, key), chain)


def test_folds_names() -> None:
    """Case and a final dot do not make another name."""
    assert fold_name("Hello.LocalHost.") == "hello.localhost"


def test_renegotiation_is_refused(authority: Authority) -> None:
    """A TLS 1.2 visitor cannot make the gateway shake hands again."""
    context = build_visitor_context(*authority.issue(dns="a.test"))
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_store_works_on_real_sockets(store: CertificateStore, authority: Authority) -> None:
    """The callback works where the standard library wraps a socket, too."""
    ours, theirs = socket.socketpair()
    served: list[ssl.SSLSocket] = []
    thread = threading.Thread(
        target=lambda: served.append(store.base.wrap_socket(ours, server_side=True))
    )
    thread.start()
    with build_client(authority).wrap_socket(theirs, server_hostname="a.test") as client:
        thread.join(5)
        assert (client.getpeercert() or {})["subjectAltName"] == (("DNS", "a.test"),)
    for sock in served:
        sock.close()
