"""Heads and bodies cut from bytes, at every place where bytes can be cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Refusal
from gateway.heads import Body, Limits, RequestHead
from gateway.messages import (
    ChunkedBody,
    EndlessBody,
    LengthBody,
    RequestReader,
    ResponseReader,
)

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def open_chunked() -> ChunkedBody:
    """The reader of a chunked request body."""
    reader = RequestReader(Limits())
    head = reader.feed(CHUNKED)
    assert head is not None
    body = reader.open_body(head)
    assert isinstance(body, ChunkedBody)
    return body


def feed_all(reader: ChunkedBody | RequestReader, wire: bytes, size: int) -> None:
    """All of `wire` in pieces of `size` bytes."""
    for position in range(0, len(wire), size):
        reader.feed(wire[position : position + size])


def read_request() -> RequestHead:
    """A plain GET."""
    head = RequestReader(Limits()).feed(GET)
    assert head is not None
    return head


def test_length_body_ends_where_it_was_said() -> None:
    """What lies beyond the stated length is handed back."""
    body = LengthBody(5)
    assert (body.feed(b"abc"), body.is_complete) == (b"abc", False)
    assert (body.feed(b"deXY"), body.is_complete, body.leftover) == (b"de", True, b"XY")


def test_length_body_of_nothing_is_complete() -> None:
    """No length, no body."""
    assert LengthBody(0).is_complete


def test_endless_body_takes_everything() -> None:
    """A body without an end is never complete by itself."""
    body = EndlessBody()
    assert (body.feed(b"\r\n\r\n"), body.is_complete) == (b"\r\n\r\n", False)


@settings(deadline=None, max_examples=200)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(min_value=1, max_value=12), min_size=1, max_size=200),
    leftover=st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n\r\n"]),
)
def test_chunked_body_is_the_same_however_it_is_cut(
    chunks: list[bytes], cuts: list[int], leftover: bytes
) -> None:
    """Decoded bytes and what follows do not depend on how the bytes arrive."""
    wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    wire += leftover
    body, decoded, position = open_chunked(), b"", 0
    for size in cuts * (len(wire) // len(cuts) + 1):
        if body.is_complete or position >= len(wire):
            break
        decoded += body.feed(wire[position : position + size])
        position += size
    assert (body.is_complete, decoded) == (True, b"".join(chunks))
    assert body.leftover + wire[position:] == leftover


def test_chunked_body_drops_trailers() -> None:
    """Trailers are read over and what follows them is the next message."""
    body = open_chunked()
    assert body.feed(b"2\r\nhi\r\n0\r\nX-Forwarded-For: 1\r\n\r\nGET") == b"hi"
    assert body.leftover == b"GET"


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"z\r\n", "bad_syntax"),
        (b"2\nhi\n", "bad_syntax"),
        (b"-1\r\n", "bad_syntax"),
        (b"2\r\nhiX\r\n", "bad_syntax"),
        (b"ffffffffffffffffff\r\n", "bad_syntax"),
        (b"0\r\n" + b"A: " + b"b" * 9000 + b"\r\n\r\n", "trailers_too_large"),
        (b"1;" + b"e" * 40000 + b"\r\nx\r\n", "framing_overhead"),
    ],
)
def test_chunked_body_refuses(wire: bytes, reason: str) -> None:
    """Chunk grammar is strict, and framing may not outweigh the body."""
    body = open_chunked()
    with pytest.raises(Refusal) as refused:
        feed_all(body, wire, 1000)
    assert refused.value.reason == reason


def test_small_honest_chunks_are_welcome() -> None:
    """A thousand chunks of one byte are no flood."""
    body = open_chunked()
    assert b"".join(body.feed(b"1\r\nx\r\n") for _ in range(20000)) == b"x" * 20000


def test_request_reader_hands_back_what_follows() -> None:
    """A reader gives one head at a time, and the rest as it came."""
    reader = RequestReader(Limits())
    head = reader.feed(GET + b"rest")
    assert head is not None
    assert (head.target, reader.leftover, reader.is_idle) == (b"/x", b"rest", True)


def test_request_reader_serves_on_after_each_kind_of_message() -> None:
    """A body or an upgrade leaves nothing behind that the next head could trip over."""
    reader = RequestReader(Limits())
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    sized = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    for wire, kind in [(upgrade, Body.none), (sized, Body.length), (CHUNKED, Body.chunked)]:
        head = reader.feed(wire)
        assert head is not None
        assert head.body is kind
        reader.open_body(head)
        again = reader.feed(GET)
        assert again is not None
        assert (again.target, again.websocket) == (b"/x", None)


def test_request_reader_tolerates_one_empty_line() -> None:
    """RFC 9112 section 2.2: a line end before the request is read over."""
    assert RequestReader(Limits()).feed(b"\r\n" + GET) is not None
    reader = RequestReader(Limits())
    heads = [reader.feed(bytes([byte])) for byte in b"\r\n" + GET]
    assert heads[-1] is not None
    with pytest.raises(Refusal):
        RequestReader(Limits()).feed(b"\r\n\r\n" + GET)


def test_proxy_connection_ends_nothing() -> None:
    """A field that llhttp reads as Connection, and we do not, leaves the next request alone."""
    reader = RequestReader(Limits())
    first = reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n")
    assert first is not None
    assert first.keep_alive
    assert reader.feed(GET) is not None


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_request_reader_bounds_a_head_that_never_ends(size: int) -> None:
    """A head is refused when it is too large, not when memory is."""
    reader = RequestReader(Limits(head_bytes=500))
    wire = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 2000
    with pytest.raises(Refusal) as refused:
        feed_all(reader, wire, size)
    assert refused.value.reason == "head_too_large"


def test_response_reader_tells_interim_from_final() -> None:
    """Each 1xx is a head of its own; what follows the final head is the body's."""
    reader = ResponseReader(read_request(), Limits())
    wire = b"HTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    first = reader.feed(wire)
    assert first is not None
    assert (first.status, first.is_interim) == (103, True)
    final = reader.feed(reader.leftover)
    assert final is not None
    body = reader.open_body(final)
    assert (final.status, body.feed(reader.leftover), body.is_complete) == (200, b"hi", True)


def test_response_reader_refuses_another_protocol_at_once() -> None:
    """What is not HTTP is refused before it has filled the window."""
    with pytest.raises(Refusal) as refused:
        ResponseReader(read_request(), Limits()).feed(b"SSH-2.0-x\r\n")
    assert refused.value.reason == "upstream_syntax"


def test_response_reader_knows_whether_anything_came() -> None:
    """A request may be repeated only while the reader is idle."""
    reader = ResponseReader(read_request(), Limits())
    assert reader.is_idle
    reader.feed(b"H")
    assert not reader.is_idle
