"""The agent's leaf: loaded, renewed, never replaced by a bad one."""

import socket
import ssl
import time

import pytest

from runner.agent.identity import CHECK_EVERY_S, Identity, build_context
from tests.support.agent import APP, APP_DNS, wait_until


def read_serial(agent) -> str:
    """The serial of the leaf that the agent shows."""
    with agent.connect() as tls:
        return tls.getpeercert()["serialNumber"]


def test_context_is_strict(build_agent):
    """TLS 1.3 only, no tickets, a client certificate demanded, strict checks, our roots alone."""
    context = build_context(str(build_agent().identity / "..data"))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert not context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert [root["subject"][0][0][1] for root in context.get_ca_certs()] == ["root"]


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key", "ca.crt"])
def test_a_missing_file_is_an_error(build_agent, missing):
    """Without any one of the three there is no context."""
    agent = build_agent()
    (agent.identity / "..data" / missing).unlink()
    with pytest.raises(OSError, match="No such file"):
        build_context(str(agent.identity / "..data"))


def test_looks_at_the_folder_once_a_second_at_most(build_agent):
    """Within a second the old context is given, after it the new one."""
    agent = build_agent()
    identity = Identity(str(agent.identity), lambda _: None)
    first = identity.pick_context(100.0)
    agent.write_identity(*agent.authority.issue(APP, dns=APP_DNS))
    assert identity.pick_context(100.0 + CHECK_EVERY_S / 2) is first
    assert identity.pick_context(100.0 + CHECK_EVERY_S) is not first


def test_a_folder_without_a_link_works(build_agent):
    """Plain files are an identity too; they are not renewed."""
    agent = build_agent()
    identity = Identity(str((agent.identity / "..data").resolve()), lambda _: None)
    assert identity.pick_context(1.0) is identity.pick_context(10.0)


def test_a_bad_pair_keeps_the_old_and_is_told_once(build_agent):
    """A key that does not fit is reported once, and a good pair after it is taken."""
    agent = build_agent()
    told: list[str] = []
    identity = Identity(str(agent.identity), told.append)
    first = identity.pick_context(0.0)
    chain, _ = agent.authority.issue(APP)
    agent.write_identity(chain, agent.authority.issue(APP)[1])
    assert identity.pick_context(10.0) is first
    assert identity.pick_context(20.0) is first
    assert len(told) == 1
    assert told[0].startswith("new certificate not loaded, the old one stays: ")
    agent.write_identity(*agent.authority.issue(APP))
    assert identity.pick_context(30.0) is not first


def test_a_vanished_folder_keeps_the_old(build_agent):
    """Nothing to read is no reason to stop."""
    agent = build_agent()
    told: list[str] = []
    identity = Identity(str(agent.identity), told.append)
    first = identity.pick_context(0.0)
    (agent.identity / "..data").unlink()
    (agent.identity / "..data").symlink_to("nowhere")
    assert identity.pick_context(10.0) is first
    assert len(told) == 1


def test_renewal_cuts_no_connection(agent):
    """New connections see the new leaf, open ones live on."""
    before = read_serial(agent)
    with agent.connect() as old:
        old.sendall(b"echo\nbefore")
        assert old.recv(100) == b"before"
        agent.write_identity(*agent.authority.issue(APP, dns=APP_DNS))
        wait_until(lambda: read_serial(agent) != before)
        old.sendall(b"after")
        assert old.recv(100) == b"after"


def test_renewal_happens_at_the_first_handshake_after_a_quiet_time(agent):
    """No request is needed to make the agent look: the first one is already served anew."""
    before = read_serial(agent)
    agent.write_identity(*agent.authority.issue(APP, dns=APP_DNS))
    time.sleep(CHECK_EVERY_S + 0.1)
    assert read_serial(agent) != before


def test_renewal_replaces_the_roots(agent, tmp_path):
    """After a new bundle the old authority's peers stay outside."""
    other = type(agent.authority)()
    agent.authority = other
    agent.write_identity(*other.issue(APP, dns=APP_DNS))
    time.sleep(CHECK_EVERY_S + 0.1)
    with pytest.raises(OSError, match=r"CERTIFICATE_VERIFY_FAILED"):
        agent.connect()
    sock = socket.create_connection(("127.0.0.1", agent.port), 10)
    loose = ssl._create_unverified_context()
    loose.load_cert_chain(next(tmp_path.glob("client-*.pem")))
    with loose.wrap_socket(sock) as tls:
        tls.sendall(b"echo\nx")
        with pytest.raises(OSError, match=r"alert|reset"):
            tls.recv(1)
