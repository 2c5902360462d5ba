"""The door: accepts, lets nobody in but the gateway, and joins it to the app.

Invariants: no byte reaches the app, not even a connection, before the peer's certificate was
verified and its name admitted; whoever dawdles is shown out; who is refused leaves one log line.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time

from .loop import READ, WRITE
from .peer import find_refusal
from .pipe import Pipe
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .identity import Identity
    from .loop import Loop

HANDSHAKE_S = 10.0

_ACCEPTS_PER_TURN = 16
_RECEIVE_BYTES = 64 * 1024
_PAUSE_S = 0.1
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class Door:
    """Everything between `accept` and the end of a pipe; `pipes` and `guests` are those inside.

    `refuse(peer, reason)` is told of everybody who is sent away.
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        identity: Identity,
        peer_prefix: str,
        app_port: int,
        max_connections: int,
        refuse: Callable[[str, str], None],
    ) -> None:
        self.loop = loop
        self.peer_prefix = peer_prefix
        self.app_address = ("127.0.0.1", app_port)
        self.refuse = refuse
        self.pipes: set[Pipe] = set()
        self.guests: set[Guest] = set()
        self._listener = listener
        self._identity = identity
        self._max_connections = max_connections
        self._on_empty: Callable[[], None] | None = None
        loop.watch(listener.fileno(), READ, self._on_knock)

    def close(self, on_empty: Callable[[], None]) -> None:
        """Let nobody in any more; `on_empty()` once the last pipe has ended."""
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()
        for guest in list(self.guests):
            guest.leave()
        self._on_empty = on_empty
        if not self.pipes:
            on_empty()

    def admit(self, guest: Guest, app: socket.socket) -> None:
        """The guest is the gateway and the app has answered: from now on bytes flow."""
        self.guests.discard(guest)
        pipe = Pipe(self.loop, guest.session, app, self._on_closed)
        self.pipes.add(pipe)
        pipe.start()

    def _on_closed(self, pipe: Pipe) -> None:
        self.pipes.discard(pipe)
        if self._on_empty is not None and not self.pipes:
            self._on_empty()

    def _on_knock(self, _events: int) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self.refuse("a peer", f"cannot accept: {error.strerror}")
                self._pause()
                return
            self._receive(sock, address[0] if isinstance(address, tuple) else "a peer")

    def _pause(self) -> None:
        """Out of files or memory: the listener stays ready, so asking again at once would spin."""
        fd = self._listener.fileno()
        self.loop.change(fd, None)
        self.loop.call_after(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self.loop.change(self._listener.fileno(), READ)

    def _receive(self, sock: socket.socket, peer: str) -> None:
        if len(self.pipes) + len(self.guests) >= self._max_connections:
            self.refuse(peer, f"{self._max_connections} connections are open")
            sock.close()
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in _KEEPALIVE:  # finds peers that are gone and cannot say so
                sock.setsockopt(*option)
        context = self._identity.pick_context(time.monotonic())
        guest = Guest(self, Session(sock, context, peer))
        self.guests.add(guest)
        guest.start()


class Guest:
    """A peer between accept and admission: handshake, name, connection to the app."""

    __slots__ = ("_app", "_door", "_has_spoken", "_timer", "session")

    def __init__(self, door: Door, session: Session) -> None:
        self.session = session
        self._door = door
        self._app: socket.socket | None = None
        self._has_spoken = False
        self._timer = door.loop.call_after(HANDSHAKE_S, self._give_up)

    def start(self) -> None:
        """Wait for the first bytes of the handshake."""
        self._door.loop.watch(self.session.sock.fileno(), READ, self._on_bytes)

    def leave(self) -> None:
        """Close everything; nothing is said."""
        self._timer.cancel()
        self._door.guests.discard(self)
        for sock in (self.session.sock, self._app):
            if sock is not None:
                self._door.loop.unwatch(sock.fileno())
                sock.close()

    def _refuse(self, reason: str) -> None:
        self._door.refuse(self.session.address, reason)
        self.leave()

    def _give_up(self) -> None:
        self._refuse(f"not ready within {HANDSHAKE_S:.0f} s")

    def _on_bytes(self, _events: int) -> None:
        try:
            sealed = self.session.sock.recv(_RECEIVE_BYTES)
            if not sealed:
                if self._has_spoken:
                    self._refuse("left during the handshake")
                self.leave()  # a bare look whether the port is open is nobody refused
                return
            self._has_spoken = True
            self.session.incoming.write(sealed)
            self._shake_hands()
        except BlockingIOError:
            pass
        except OSError as error:
            self._refuse(error.strerror or str(error))

    def _shake_hands(self) -> None:
        session = self.session
        try:
            session.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._answer()
            return
        except ssl.SSLError as error:
            self._answer()  # the alert
            self._refuse(describe_failure(error))
            return
        self._answer()
        refusal = read_refusal(session.tls, self._door.peer_prefix)
        if refusal is not None:
            self._refuse(refusal)
        else:
            self._call_app()

    def _answer(self) -> None:
        """A few KiB at most, into an empty socket: what does not fit is a peer that plays games."""
        flight = self.session.outgoing.read()
        if flight and self.session.sock.send(flight) < len(flight):
            raise OSError("does not read")

    def _call_app(self) -> None:
        self._door.loop.unwatch(self.session.sock.fileno())
        app = self._app = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        app.setblocking(False)
        app.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = app.connect_ex(self._door.app_address)
        if number == errno.EINPROGRESS:
            self._door.loop.watch(app.fileno(), WRITE, self._on_app)
        else:
            self._finish(app, number)

    def _on_app(self, _events: int) -> None:
        app = self._app
        if app is not None:
            self._door.loop.unwatch(app.fileno())
            self._finish(app, app.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _finish(self, app: socket.socket, number: int) -> None:
        if number != 0:
            self.leave()  # the gateway sees a closed connection and tells the visitor
            return
        self._timer.cancel()
        self._door.admit(self, app)


def read_refusal(tls: ssl.SSLObject, peer_prefix: str) -> str | None:
    """`find_refusal` on a finished handshake."""
    try:
        return find_refusal(tls.getpeercert(), peer_prefix)
    except ValueError:  # a name that is not text
        return "certificate cannot be read"


def describe_failure(error: ssl.SSLError) -> str:
    """Why a handshake failed, in OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or str(error)).lower().replace("_", " ")
