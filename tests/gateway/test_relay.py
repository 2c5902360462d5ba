"""The app's connection by itself: what it tells its asker, as a conversation of bytes."""

import asyncio
from typing import Any

import pytest

from gateway.heads import Body, Limits, RequestHead, ResponseHead
from gateway.relay import AppConnection

ID = "spiffe://lockgate.internal/app/hello/1"
GET = RequestHead(b"GET", b"/", "a", b"a", b"1.1", (), Body.none, None, True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


class Peer:
    """Stands for the TLS session: the identity that the handshake proved."""

    def __init__(self, *uris: str) -> None:
        self.uris = uris

    def getpeercert(self) -> dict[str, Any]:
        return {"subjectAltName": tuple(("URI", uri) for uri in self.uris)}


class Wire(asyncio.Transport):
    """Notes what is done to it."""

    def __init__(self, *uris: str) -> None:
        super().__init__({"ssl_object": Peer(*uris)})
        self.calls: list[object] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.calls.append(bytes(data))

    def abort(self) -> None:
        self.calls.append("abort")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class Asker:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def response_interim(self, head: ResponseHead) -> None:
        self.heard.append(("interim", head.status))

    def response_started(self, head: ResponseHead) -> None:
        self.heard.append(("head", head.status))

    def response_body(self, body: bytes) -> None:
        self.heard.append(body)

    def response_flush(self) -> None:
        self.heard.append("flush")

    def response_ended(self) -> None:
        self.heard.append("ended")

    def response_upgraded(self, head: ResponseHead, leading: bytes) -> None:
        self.heard.append(("upgraded", leading))

    def response_failed(self, reason: str, is_untouched: bool) -> None:
        self.heard.append((reason, is_untouched))

    def request_paused(self, is_paused: bool) -> None:
        self.heard.append(("paused", is_paused))


class Conversation:
    """A connection, its wire, one exchange on it, and what became of the connection."""

    def __init__(self, request: RequestHead = GET) -> None:
        self.over: list[bool] = []
        self.connection = AppConnection(
            "hello/1", ID, Limits(), 1024, lambda _, reusable: self.over.append(reusable)
        )
        self.wire = Wire(ID)
        self.connection.connection_made(self.wire)
        self.asker = Asker()
        self.connection.start(self.asker, request, b"head")
        self.connection.end_request()

    def say(self, *pieces: bytes) -> list[object]:
        """The app says these; returns all that the asker has heard."""
        for piece in pieces:
            self.connection.data_received(piece)
        return self.asker.heard


def test_whole_answer_in_one_packet() -> None:
    """Head, body and end come in order, and the connection may serve on."""
    talk = Conversation()
    assert talk.say(OK + b"ok") == [("head", 200), b"ok", "ended"]
    assert (talk.over, talk.wire.calls) == ([True], [b"head"])


def test_answer_byte_by_byte() -> None:
    """However the bytes are cut, it is the same answer."""
    talk = Conversation()
    heard = talk.say(*(bytes([byte]) for byte in OK + b"ok"))
    assert [entry for entry in heard if entry != "flush"] == [("head", 200), b"o", b"k", "ended"]


def test_surplus_ends_the_connection() -> None:
    """Bytes after the answer, at once or later, are believed by nobody."""
    talk = Conversation()
    assert talk.say(OK + b"okX")[-1] == "ended"
    assert (talk.over, talk.wire.calls[-1]) == ([False], "abort")
    talk = Conversation()
    talk.say(OK + b"ok", b"X")
    assert (talk.over, talk.wire.calls[-1]) == ([True, False], "abort")


def test_answer_before_the_request_is_sent_ends_the_connection() -> None:
    """A connection on which half a request lies is never used again."""
    talk = Conversation()
    talk.connection._is_sent = False
    assert talk.say(OK + b"ok")[-1] == "ended"
    assert talk.over == [False]


@pytest.mark.parametrize(
    ("said", "reason", "is_untouched"),
    [
        (b"", "upstream_closed", True),
        (b"HTT", "upstream_closed", False),
        (b"HTTP/1.1 103 E\r\n\r\n", "upstream_closed", False),
        (OK + b"o", "upstream_closed", False),
        (b"HTTP/1.0 200 OK\r\n\r\nx", "upstream_closed", False),
    ],
)
def test_end_in_between_is_a_failure(said: bytes, reason: str, is_untouched: bool) -> None:
    """An answer that is not whole fails once, and says whether a byte had come."""
    talk = Conversation()
    if said:
        talk.say(said)
    talk.connection.connection_lost(None)
    talk.connection.connection_lost(None)
    failures = [entry for entry in talk.asker.heard if entry == (reason, is_untouched)]
    assert (len(failures), talk.over) == (1, [False])


def test_goodbye_ends_a_body_without_length() -> None:
    """Only an end that was announced ends such a body."""
    talk = Conversation()
    talk.say(b"HTTP/1.0 200 OK\r\n\r\nx")
    talk.connection.eof_received()
    talk.connection.connection_lost(None)
    assert (talk.asker.heard[-1], talk.over) == ("ended", [False])


def test_stranger_is_told_nothing() -> None:
    """A peer with another identity is cut before a byte is written."""
    connection = AppConnection("hello/1", ID, Limits(), 1024, lambda *_: None)
    wire = Wire(ID + "0")
    connection.connection_made(wire)
    connection.start(Asker(), GET, b"secret")
    assert wire.calls == ["abort"]
    assert (connection.fault is not None, connection.is_closed) == (True, True)


def test_abandoned_exchange_is_silent() -> None:
    """After its asker left, nothing is told to it and the connection is closed."""
    talk = Conversation()
    talk.connection.abandon()
    talk.say(OK)
    talk.connection.connection_lost(None)
    assert (talk.asker.heard, talk.over) == ([], [False])


def test_pauses_both_ways() -> None:
    """Back-pressure goes through in both directions, and to nobody when idle."""
    talk = Conversation()
    talk.connection.pause(True)
    talk.connection.pause(False)
    talk.connection.pause_writing()
    talk.connection.resume_writing()
    assert talk.wire.calls[1:] == ["pause", "resume"]
    assert talk.asker.heard == [("paused", True), ("paused", False)]
    talk.say(OK + b"ok")
    talk.connection.pause_writing()
    assert talk.asker.heard[-1] == "ended"


def test_repr_tells_its_state() -> None:
    """Busy, idle and closed can be told apart."""
    talk = Conversation()
    assert "busy" in repr(talk.connection)
    talk.say(OK + b"ok")
    assert "idle" in repr(talk.connection)
    talk.connection.close()
    assert "closed" in repr(talk.connection)
