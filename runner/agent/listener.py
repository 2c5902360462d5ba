"""The socket that the door stands in, bound before anything else of this container runs.

Invariant: it is closed in the app's process.
"""

from __future__ import annotations

import os
import socket

_BACKLOG = 512


def open_listener(listen: str) -> socket.socket:
    """A non-blocking listener on `host:port` or `unix:/path`; raises `OSError`.

    Anybody may knock at a Unix socket: the door asks for a certificate, not for a uid.
    """
    kind, _, rest = listen.rpartition(":")
    if kind == "unix":
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if os.path.lexists(rest):
            os.unlink(rest)
        listener.bind(rest)
        os.chmod(rest, 0o666)  # noqa: S103 - see above
    else:
        host = kind.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(rest)))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
