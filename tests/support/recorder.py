"""An app that keeps what it gets: the witness in attacks on the gateway.

Invariants: every byte is kept; a request is answered only once it is whole; it reads as plainly
as a small app would, so that whoever fooled it would have fooled an app.
"""

import asyncio
import re


class Recorder:
    """An app that keeps every byte it gets and answers whole requests, each with `answer`."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.closes = False
        self.received: list[bytes] = []
        self.whole: list[bytes] = []
        self.ended = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        index = len(self.received)
        self.received.append(b"")
        pending = b""
        try:
            while piece := await reader.read(65536):
                self.received[index] += piece
                pending += piece
                while end := find_end(pending):
                    self.whole.append(pending[:end])
                    pending = pending[end:]
                    writer.write(self.answer)
                    await writer.drain()
                    if self.closes:
                        return
        finally:
            self.ended += 1

    @property
    def targets(self) -> list[bytes]:
        """Of the requests that were whole."""
        return [request.split(b" ")[1] for request in self.whole]


def find_end(pending: bytes) -> int:
    """Where the first request ends, as plainly as a small app would read it; 0 = not yet."""
    head, separator, body = pending.partition(b"\r\n\r\n")
    if not separator:
        return 0
    start = len(head) + 4
    if b"\r\ntransfer-encoding: chunked" in head:
        size = 0
        while match := re.match(rb"([0-9a-f]+)\r\n", body[size:]):
            size += match.end() + int(match[1], 16) + 2
            if size > len(body):
                return 0
            if int(match[1], 16) == 0:
                return start + size
        return 0
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    end = start + int(length[1] if length else 0)
    return end if len(pending) >= end else 0
