"""One TLS session as server: sealed bytes in and out on a socket, plain bytes on the inside.

Invariants: non-blocking; after each `unseal()` no whole record is left in the incoming BIO.

Theory: TLS runs over two memory BIOs, not over the socket, because OpenSSL's second SSL_shutdown
reads: over a socket it meets bytes that are still on their way and fails for good, so that only one
side could end at a time.
"""

from __future__ import annotations

import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

RECORD_BYTES = 16 * 1024  # RFC 8446 §5.1: no record holds more, so one read empties one


class Session:
    """`sock` is non-blocking and connected; `address` is for people."""

    __slots__ = ("address", "incoming", "outgoing", "sock", "tls")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, address: str) -> None:
        self.sock = sock
        self.address = address
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def unseal(self) -> tuple[bytes, bool]:
        """All that has arrived, and whether close_notify was in it; raises `ssl.SSLError`."""
        incoming, read = self.incoming, self.tls.read
        pieces = []
        is_end = False
        try:
            while True:
                piece = read(RECORD_BYTES)
                if not piece:  # so CPython tells a close_notify when none was sent yet
                    is_end = True
                    break
                pieces.append(piece)
                if not incoming.pending:  # spares the usual request an exception
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            is_end = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), is_end

    def seal(self, piece: bytes) -> bytes:
        """Records for `piece`, with what TLS itself had to say before; raises `ssl.SSLError`."""
        write = self.tls.write
        sealed = write(piece)
        if sealed < len(piece):  # one record per call
            view = memoryview(piece)
            while sealed < len(piece):
                sealed += write(view[sealed:])
        return self.outgoing.read()

    def seal_end(self) -> bytes:
        """close_notify; the other side may still send (RFC 8446 §6.1). Raises `ssl.SSLError`."""
        try:  # noqa: SIM105 - contextlib would be the only import of its kind
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # it waits for the other side's, which comes when it comes
        return self.outgoing.read()
