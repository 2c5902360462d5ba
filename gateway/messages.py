"""Bytes of HTTP/1.1 messages, cut into heads and bodies with llhttp.

Invariants: no sockets and no clock here; a parser is fed one message and never a byte beyond it,
so what follows a message is handed back untouched; a head is bounded before it is parsed.
"""

import re
from typing import Protocol

import httptools

from gateway.errors import Refusal
from gateway.framing import check_request_line, decide_request, decide_response
from gateway.heads import Body, Limits, RequestHead, ResponseHead

_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")


class _Sink:
    """What the parser calls: everything it finds, in the order it finds it."""

    __slots__ = ("body", "chunks", "fields", "is_complete", "phrase", "url")

    def __init__(self) -> None:
        self.url = b""
        self.phrase = b""
        self.chunks = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_status(self, phrase: bytes) -> None:
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_chunk_header(self) -> None:
        self.chunks += 1

    def on_message_complete(self) -> None:
        self.is_complete = True


class BodyReader(Protocol):
    """Takes bytes of a message's body and says where it ends."""

    is_complete: bool
    leftover: bytes

    def feed(self, received: bytes) -> bytes:
        """Returns the body bytes in `received`; raises Refusal."""
        ...


class LengthBody:
    """A body whose length was stated (RFC 9112 section 6.2)."""

    __slots__ = ("is_complete", "leftover", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.is_complete = length == 0
        self.leftover = b""

    def feed(self, received: bytes) -> bytes:
        """Returns the body bytes in `received`; what lies beyond is in `leftover`."""
        size = len(received)
        if size < self.remaining:
            self.remaining -= size
            return received
        self.is_complete = True
        if size > self.remaining:
            self.leftover = received[self.remaining :]
            received = received[: self.remaining]
        self.remaining = 0
        return received


class EndlessBody:
    """A body that ends with its connection (RFC 9112 section 6.3, last case)."""

    __slots__ = ("is_complete", "leftover")

    def __init__(self) -> None:
        self.is_complete = False
        self.leftover = b""

    def feed(self, received: bytes) -> bytes:
        """Returns `received`: all of it is body."""
        return received


class ChunkedBody:
    """A chunked body (RFC 9112 section 7.1); trailers are counted and dropped.

    The message can end only right after CR LF CR LF, so the parser is fed in pieces that end
    there and is never given a byte of what follows. `syntax` is the reason for a refusal;
    without `limits` framing is not held against the sender.
    """

    __slots__ = (
        "_limits",
        "_parser",
        "_sink",
        "_spare",
        "_syntax",
        "_tail",
        "_trailer",
        "is_complete",
        "leftover",
    )

    def __init__(
        self,
        parser: httptools.HttpRequestParser | httptools.HttpResponseParser,
        sink: _Sink,
        syntax: str,
        limits: Limits | None = None,
    ) -> None:
        self._parser = parser
        self._sink = sink
        self._syntax = syntax
        self._limits = limits
        self._spare = limits.overhead_bytes if limits else 0
        self._trailer = 0
        self._tail = b""
        self.is_complete = False
        self.leftover = b""
        sink.fields = []

    def feed(self, received: bytes) -> bytes:
        """Returns the decoded body bytes in `received`; raises Refusal."""
        sink = self._sink
        sink.body, sink.chunks = [], 0
        start, size = 0, len(received)
        while start < size and not sink.is_complete:
            end = self._find_end(received, start)
            try:
                self._parser.feed_data(received if end - start == size else received[start:end])
            except httptools.HttpParserError as error:
                raise Refusal.of(self._syntax) from error
            start = end
        if sink.is_complete:
            self.is_complete = True
            self.leftover = received[start:]
        self._tail = received[-3:] if size >= 3 else (self._tail + received)[-3:]
        body = sink.body[0] if len(sink.body) == 1 else b"".join(sink.body)
        if self._limits is not None:
            self._measure(self._limits, start - len(body), len(body))
        sink.fields = []
        return body

    def _find_end(self, received: bytes, start: int) -> int:
        if start == 0 and self._tail:
            across = (self._tail + received[:3]).find(_END)
            if across >= 0:
                return across + len(_END) - len(self._tail)
        found = received.find(_END, start)
        return len(received) if found < 0 else found + len(_END)

    def _measure(self, limits: Limits, overhead_bytes: int, body_bytes: int) -> None:
        """Chunk extensions are free up to 16 bytes per chunk and twice the body, as in Go."""
        self._trailer += sum(len(name) + len(value) + 4 for name, value in self._sink.fields)
        if self._trailer > limits.trailer_bytes:
            raise Refusal.of("trailers_too_large")
        self._spare += 16 * self._sink.chunks + 2 * body_bytes - overhead_bytes
        if self._spare < 0:
            raise Refusal.of("framing_overhead")


class RequestReader:
    """Reads one request head after another from a visitor's bytes.

    After `feed` returned a head, `leftover` holds what came behind it, and `open_body` gives
    the reader for the body; then `restart` makes ready for the next request.
    """

    __slots__ = (
        "_buffer",
        "_has_skipped",
        "_is_line_checked",
        "_limits",
        "_parser",
        "_sink",
        "leftover",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sink = _Sink()
        self._parser = httptools.HttpRequestParser(self._sink)
        self._buffer: bytes | bytearray = b""
        self._is_line_checked = False
        self._has_skipped = False
        self.leftover = b""

    @property
    def is_idle(self) -> bool:
        """Whether no byte of the next request has come."""
        return not self._buffer

    def feed(self, received: bytes) -> RequestHead | None:
        """Returns the head once it is whole; raises Refusal."""
        if self._buffer:
            scanned = max(0, len(self._buffer) - 3)
            buffer = bytearray(self._buffer) if type(self._buffer) is bytes else self._buffer
            buffer += received
        else:
            scanned, buffer = 0, received
        if not self._is_line_checked:
            if buffer.startswith(b"\r\n") and not self._has_skipped:
                self._has_skipped, scanned, buffer = True, 0, buffer[2:]
            self._check_line(buffer)
        end = buffer.find(_END, scanned)
        if end < 0:
            if len(buffer) > self._limits.head_bytes:
                raise Refusal.of("head_too_large")
            if _BARE_LF.search(buffer, max(0, scanned)):
                raise Refusal.of("bad_syntax")
            self._buffer = buffer
            return None
        if end > self._limits.head_bytes:
            raise Refusal.of("head_too_large")
        end += len(_END)
        self._buffer = b""
        self.leftover = bytes(buffer[end:])
        return self._parse(bytes(buffer[:end]))

    def open_body(self, head: RequestHead) -> BodyReader:
        """The reader for the body that `head` announces."""
        if head.body is Body.chunked:
            return ChunkedBody(self._parser, self._sink, "bad_syntax", self._limits)
        return LengthBody(head.length or 0)

    def _check_line(self, buffer: bytes | bytearray) -> None:
        end = buffer.find(b"\n")
        if end < 0:
            if len(buffer) > self._limits.url_bytes + 64:
                raise Refusal.of("url_too_long")
            return
        if end == 0 or buffer[end - 1] != 0x0D:
            raise Refusal.of("bad_request_line")
        check_request_line(bytes(buffer[: end - 1]), self._limits)
        self._is_line_checked = True

    def _parse(self, head: bytes) -> RequestHead:
        """A parser is used once: what it remembers of a message could refuse the next one."""
        self._is_line_checked = self._has_skipped = False
        sink = self._sink = _Sink()
        parser = self._parser = httptools.HttpRequestParser(sink)
        is_upgrade = False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            is_upgrade = True
        except httptools.HttpParserError as error:
            raise Refusal.of("bad_syntax") from error
        return decide_request(
            parser.get_method(),
            sink.url,
            parser.get_http_version(),
            sink.fields,
            is_upgrade,
            self._limits,
        )


class ResponseReader:
    """Reads the heads of one exchange from an app's bytes: any number of 1xx, then the answer."""

    __slots__ = ("_buffer", "_interim", "_limits", "_parser", "_request", "_sink", "leftover")

    def __init__(self, request: RequestHead, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self._sink = _Sink()
        self._parser = httptools.HttpResponseParser(self._sink)
        self._buffer = b""
        self._interim = 0
        self.leftover = b""

    @property
    def is_idle(self) -> bool:
        """Whether no byte of an answer has come."""
        return not self._buffer and not self._interim

    def feed(self, received: bytes) -> ResponseHead | None:
        """Returns a head once it is whole, the rest being in `leftover`; raises Refusal."""
        buffer = self._buffer + received if self._buffer else received
        end = buffer.find(_END)
        if max(end, 0) > self._limits.response_head_bytes or (
            end < 0 and len(buffer) > self._limits.response_head_bytes
        ):
            raise Refusal.of("upstream_head_too_large")
        if end < 0:
            if not buffer.startswith(b"HTTP/1."[: len(buffer)]):
                raise Refusal.of("upstream_syntax")
            self._buffer = buffer
            return None
        end += len(_END)
        self._buffer = b""
        self.leftover = buffer[end:]
        head = self._parse(buffer[:end])
        if head.is_interim:
            self._interim += 1
            if self._interim > self._limits.interim_responses:
                raise Refusal.of("upstream_interim")
        return head

    def open_body(self, head: ResponseHead) -> BodyReader:
        """The reader for the body that `head` announces."""
        if head.body is Body.chunked:
            return ChunkedBody(self._parser, self._sink, "upstream_syntax")
        if head.body is Body.until_close:
            return EndlessBody()
        return LengthBody(head.length or 0 if head.body is Body.length else 0)

    def _parse(self, head: bytes) -> ResponseHead:
        sink, parser = self._sink, self._parser
        if self._interim:
            parser = self._parser = httptools.HttpResponseParser(sink)
        sink.fields, sink.phrase, sink.is_complete = [], b"", False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # whether it was asked for is decided below
        except httptools.HttpParserError as error:
            raise Refusal.of("upstream_syntax") from error
        return decide_response(
            self._request,
            parser.get_status_code(),
            parser.get_http_version(),
            sink.fields,
            sink.phrase,
            self._limits,
        )


def is_event_stream(head: ResponseHead) -> bool:
    """Whether an answer is server-sent events, which may be silent for long."""
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in head.headers
    )
