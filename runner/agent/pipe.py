"""One connection: bytes from the gateway's TLS to the app's socket and back.

Invariants: at most one piece (64 KiB) is kept per direction, and while it waits that direction does
not read; an end is passed on as an end (close_notify, FIN) and a cut as a cut (no close_notify,
RST); it never looks into the bytes.
"""

from __future__ import annotations

import socket

from .loop import GONE, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .loop import Loop, Timer
    from .session import Session

PIECE_BYTES = 64 * 1024
HALF_OPEN_IDLE_S = 300.0
LINGER_S = 5.0

_RESET_ON_CLOSE = b"\1\0\0\0\0\0\0\0"  # struct linger: on, 0 s


class Pipe:
    """Owns both sockets from `start()` on; `on_closed(pipe)` is called once, at its end."""

    __slots__ = (
        *("_app", "_has_moved", "_is_app_deaf", "_is_app_ended", "_is_closed", "_is_cut"),
        *("_is_end_sent", "_is_gateway_ended", "_loop", "_on_closed", "_session", "_timer"),
        *("_to_app", "_to_gateway"),
    )

    def __init__(
        self,
        loop: Loop,
        session: Session,
        app: socket.socket,
        on_closed: Callable[[Pipe], None],
    ) -> None:
        self._loop = loop
        self._session = session
        self._app = app
        self._on_closed = on_closed
        self._to_app: memoryview | None = None  # plain
        self._to_gateway: memoryview | None = None  # sealed
        self._is_gateway_ended = False  # its close_notify was read
        self._is_app_ended = False  # its FIN or RST was read
        self._is_app_deaf = False  # it takes no more, so the gateway's bytes are thrown away
        self._is_cut = False  # the app ended by RST
        self._is_end_sent = False  # the app's end was passed on
        self._is_closed = False
        self._has_moved = False
        self._timer: Timer | None = None

    def start(self) -> None:
        """Pipe from now on; the first request may have come with the handshake."""
        self._loop.watch(self._session.sock.fileno(), READ, self._on_gateway)
        self._loop.watch(self._app.fileno(), READ, self._on_app)
        if self._session.incoming.pending:
            try:
                self._take()
            except OSError:
                self.cut()

    def cut(self) -> None:
        """End at once; both sides see that it was no orderly end."""
        if not self._is_closed:
            if not self._is_app_ended:
                self._app.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._close()

    # --- gateway → app ---------------------------------------------------------------------------

    def _on_gateway(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush_to_gateway()
            if events & READ:
                self._read_gateway()
            elif events & GONE:
                self.cut()
        except OSError:  # ssl.SSLError is one
            self.cut()

    def _read_gateway(self) -> None:
        try:
            sealed = self._session.sock.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        if not sealed:  # TCP ended without close_notify: cut off (RFC 8446 §6.1)
            self.cut()
            return
        self._session.incoming.write(sealed)
        self._take()

    def _take(self) -> None:
        piece, is_end = self._session.unseal()
        if self._session.outgoing.pending and self._to_gateway is None:
            self._send_gateway(self._session.outgoing.read())  # an answer to a key update
        self._has_moved = True
        if piece and not self._is_app_deaf:
            self._send_app(piece)
        if is_end:
            self._is_gateway_ended = True
            self._pass_end_to_app()

    def _send_app(self, piece: bytes) -> None:
        try:
            sent = self._app.send(piece)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._turn_deaf()
            return
        if sent < len(piece):
            self._to_app = memoryview(piece)[sent:]
            self._set_masks()

    def _flush_to_app(self) -> None:
        waiting = self._to_app
        if waiting is None:
            return
        try:
            sent = self._app.send(waiting)
        except BlockingIOError:
            return
        except OSError:
            self._turn_deaf()
            return
        self._has_moved = True
        self._to_app = waiting[sent:] if sent < len(waiting) else None
        if self._to_app is None:
            if self._is_gateway_ended:
                self._pass_end_to_app()
            else:
                self._set_masks()

    def _pass_end_to_app(self) -> None:
        if self._to_app is None and not self._is_app_deaf:
            try:
                self._app.shutdown(socket.SHUT_WR)
            except OSError:
                self._is_app_deaf = True  # it has gone already
        self._settle()

    def _turn_deaf(self) -> None:
        """The app takes no more. What it said before is still delivered: an early answer to an
        upload arrives just so."""
        self._is_app_deaf = True
        self._to_app = None
        self._settle()

    # --- app → gateway ---------------------------------------------------------------------------

    def _on_app(self, events: int) -> None:
        try:
            if self._to_app is not None and events & (WRITE | GONE):
                self._flush_to_app()
            if events & READ:
                self._read_app()
            elif events & GONE:
                self._turn_deaf()
        except OSError:
            self.cut()

    def _read_app(self) -> None:
        try:
            piece = self._app.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._end_app(is_cut=True)
            return
        if piece:
            self._has_moved = True
            self._send_gateway(self._session.seal(piece))
        else:  # the reset that a failed send has consumed reads as an end
            self._end_app(is_cut=self._is_app_deaf)

    def _send_gateway(self, sealed: bytes) -> None:
        try:
            sent = self._session.sock.send(sealed)
        except BlockingIOError:
            sent = 0
        if sent < len(sealed):
            self._to_gateway = memoryview(sealed)[sent:]
            self._set_masks()

    def _flush_to_gateway(self) -> None:
        waiting = self._to_gateway
        if waiting is None:
            return
        try:
            sent = self._session.sock.send(waiting)
        except BlockingIOError:
            return
        self._has_moved = True
        self._to_gateway = waiting[sent:] if sent < len(waiting) else None
        if self._to_gateway is None:
            if self._session.outgoing.pending:
                self._send_gateway(self._session.outgoing.read())
            self._settle()

    def _end_app(self, is_cut: bool) -> None:
        self._is_app_ended = True
        self._is_cut = is_cut
        self._settle()

    def _pass_end_to_gateway(self) -> None:
        self._is_end_sent = True
        if self._is_cut:
            self._session.sock.shutdown(socket.SHUT_WR)
        else:
            self._send_gateway(self._session.seal_end())

    # --- ends ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After a change of state: pass on an end that is due, close when all is said."""
        if self._is_closed:
            return
        if self._is_app_ended and not self._is_end_sent and self._to_gateway is None:
            self._pass_end_to_gateway()
        is_all_said = self._is_end_sent and self._to_gateway is None
        is_all_heard = self._is_gateway_ended and self._to_app is None
        if is_all_said and is_all_heard:
            self._close()
        else:
            self._set_masks()
            self._set_timer()

    def _set_masks(self) -> None:
        """Ask only for what can be used: the others would wake us for nothing, again and again."""
        gateway = app = 0
        if self._to_app is None:
            gateway |= 0 if self._is_gateway_ended else READ
        else:
            app |= WRITE
        if self._to_gateway is None:
            app |= 0 if self._is_app_ended else READ
        else:
            gateway |= WRITE
        is_app_watched = app or (self._is_app_ended and not self._is_app_deaf)
        is_app_watched = is_app_watched and not (self._is_gateway_ended and not app)
        is_gateway_watched = gateway or self._is_gateway_ended
        self._loop.change(self._session.sock.fileno(), gateway if is_gateway_watched else None)
        self._loop.change(self._app.fileno(), app if is_app_watched else None)

    def _set_timer(self) -> None:
        """A connection with one end closed does not stay for ever."""
        if self._is_app_deaf and self._is_end_sent:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_after(LINGER_S, self.cut)
        elif self._timer is None and (self._is_app_ended or self._is_gateway_ended):
            self._has_moved = False
            self._timer = self._loop.call_after(HALF_OPEN_IDLE_S, self._check_idle)

    def _check_idle(self) -> None:
        if self._has_moved:
            self._timer = None
            self._set_timer()
        else:
            self.cut()

    def _close(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for sock in (self._session.sock, self._app):
            self._loop.unwatch(sock.fileno())
            sock.close()
        self._on_closed(self)
