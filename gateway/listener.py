"""Takes connections in: caps, TLS handshakes with a deadline, then the visitor's protocol.

Invariants: a connection over a cap is closed before a byte of TLS is computed for it; a failed
handshake costs nobody else anything; when descriptors run out, accepting pauses instead of
spinning; every handshake is an owned task.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

from gateway.http1 import Visitor
from gateway.redirect import Redirect
from gateway.site import Site
from gateway.sockets import describe
from gateway.tasks import Tasks
from gateway.tls import CertificateStore

_BATCH = 64
_PAUSE_S = 0.5
_TRANSIENT = (BlockingIOError, InterruptedError, ConnectionAbortedError)


class Listener:
    """One listening socket; `https` ones shake hands, others only redirect."""

    def __init__(
        self, site: Site, sock: socket.socket, store: CertificateStore | None, tasks: Tasks
    ) -> None:
        self._site = site
        self._sock = sock
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        self._per_ip: Counter[str] = Counter()
        self._open = 0
        self._is_stopped = False
        self.address = describe(sock)
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Listener {self.address} open={self._open} refused={self.refused}>"

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; what is open lives on."""
        if not self._is_stopped:
            self._is_stopped = True
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                sock, peer = self._sock.accept()
            except _TRANSIENT:
                return
            except OSError:
                self._pause()
                return
            self._take(sock, peer[0])

    def _pause(self) -> None:
        """Out of descriptors or memory: others need a moment to finish."""
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if not self._is_stopped:
            self.start()

    def _take(self, sock: socket.socket, peer_ip: str) -> None:
        limits = self._site.limits
        if self._open >= limits.connections or self._per_ip[peer_ip] >= limits.connections_per_ip:
            self.refused += 1
            sock.close()
            return
        self._open += 1
        self._per_ip[peer_ip] += 1
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tasks.start(self._shake_hands, sock, peer_ip)

    async def _shake_hands(self, sock: socket.socket, peer_ip: str) -> None:
        leave = self._build_leave(peer_ip)
        is_made = False

        def build() -> asyncio.Protocol:
            if self._store is None:
                return Redirect(self._site, leave)
            return Visitor(self._site, peer_ip, leave)

        try:
            if self._store is None:
                await self._loop.connect_accepted_socket(build, sock)
            else:
                await self._loop.connect_accepted_socket(
                    build,
                    sock,
                    ssl=self._store.base,
                    ssl_handshake_timeout=self._site.limits.tls_handshake,
                )
            is_made = True
        except OSError:
            pass  # not TLS, no common version or suite, too slow, or gone: the peer's affair
        finally:
            if not is_made:
                sock.close()
                leave()

    def _build_leave(self, peer_ip: str) -> Callable[[], None]:
        has_left = False

        def leave() -> None:
            nonlocal has_left
            if has_left:
                return
            has_left = True
            self._open -= 1
            self._per_ip[peer_ip] -= 1
            if not self._per_ip[peer_ip]:
                del self._per_ip[peer_ip]

        return leave
