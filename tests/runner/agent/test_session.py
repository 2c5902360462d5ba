"""One TLS session over memory BIOs, against OpenSSL's client in the same process."""

import contextlib
import random
import socket
import ssl

import pytest

from runner.agent.identity import build_context
from runner.agent.session import Session
from tests.support.agent import APP_DNS


class Client:
    """The gateway's end of a session, moved by hand."""

    def __init__(self, agent) -> None:
        self.far, near = socket.socketpair()
        near.setblocking(False)
        context = build_context(str(agent.identity / "..data"))
        self.session = Session(near, context, "a peer")
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = agent.gateway.wrap_bio(self.incoming, self.outgoing, server_hostname=APP_DNS)
        for _ in range(3):
            for tls in (self.tls, self.session.tls):
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                self.session.incoming.write(self.outgoing.read())
                self.incoming.write(self.session.outgoing.read())

    def say(self, content: bytes) -> bytes:
        """Sealed bytes for `content`."""
        for start in range(0, len(content), 16384):
            self.tls.write(content[start : start + 16384])
        return self.outgoing.read()


@pytest.fixture
def client(build_agent):
    """A finished handshake."""
    made = Client(build_agent())
    yield made
    made.far.close()
    made.session.sock.close()


def test_the_handshake_is_tls_1_3(client):
    """Nothing older, and the peer's certificate is known."""
    assert client.session.tls.version() == "TLSv1.3"
    assert client.session.tls.getpeercert()


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 65536, 300_000])
def test_what_is_sealed_arrives(client, size):
    """Pieces of every size arrive whole, across as many records as they need."""
    content = random.Random(size).randbytes(size)
    client.incoming.write(client.session.seal(content) if content else b"")
    got = b""
    while len(got) < size:
        got += client.tls.read(65536)
    assert got == content


@pytest.mark.parametrize("step", [1, 7, 5000, 65536])
def test_sealed_bytes_may_come_in_any_pieces(client, step):
    """Records that arrive in parts are opened once they are whole, and none is left behind."""
    content = random.Random(5).randbytes(40_000)
    sealed = client.say(content)
    got = b""
    for start in range(0, len(sealed), step):
        client.session.incoming.write(sealed[start : start + step])
        piece, is_end = client.session.unseal()
        got += piece
        assert not is_end
        assert not client.session.incoming.pending
    assert got == content


def test_bytes_and_end_in_one_piece(client):
    """close_notify behind bytes: the bytes first, then the end."""
    sealed = client.say(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.session.incoming.write(sealed + client.outgoing.read())
    assert client.session.unseal() == (b"last words", True)


def test_our_end_leaves_the_other_direction_open(client):
    """After our close_notify, even in the middle of a record, the other side's bytes still come."""
    sealed = client.say(b"x" * 16384)
    client.session.incoming.write(sealed[:5000])
    assert client.session.unseal() == (b"", False)
    client.incoming.write(client.session.seal_end())
    assert client.tls.read(10) == b""
    client.session.incoming.write(sealed[5000:] + client.say(b"more"))
    assert client.session.unseal() == (b"x" * 16384 + b"more", False)
    client.tls.unwrap()
    client.session.incoming.write(client.outgoing.read())
    assert client.session.unseal() == (b"", True)


def test_a_forged_record_is_an_error(client):
    """A flipped bit never becomes plain bytes."""
    sealed = bytearray(client.say(b"hello"))
    sealed[-1] ^= 1
    client.session.incoming.write(bytes(sealed))
    with pytest.raises(ssl.SSLError):
        client.session.unseal()
