"""The agent's own leaf and the roots it trusts, read from its folder and read anew when renewed.

Invariants: TLS 1.3 only, no session tickets (a resumed session is not verified again), a client
certificate is demanded and verified strictly against the folder's roots alone; a pair that does not
load never replaces one that did.
"""

from __future__ import annotations

import os
import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHECK_EVERY_S = 1.0


def build_context(folder: str) -> ssl.SSLContext:
    """A server's context from tls.crt, tls.key and ca.crt; raises `OSError` (`ssl.SSLError`)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    # Pythons before 3.11.3 take a cut for an orderly end unless told otherwise (RFC 8446, 6.1).
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cafile=os.path.join(folder, "ca.crt"))
    context.load_cert_chain(os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key"))
    return context


class Identity:
    """The context for the next handshake. `folder` is swapped by its `..data` link.

    Raises `OSError` if the first pair does not load.
    """

    def __init__(self, folder: str, report: Callable[[str], None]) -> None:
        self._folder = folder
        self._report = report
        self._link = self._read_link()
        self._next_check = 0.0
        self._context = build_context(os.path.join(folder, self._link))

    def pick_context(self, now: float) -> ssl.SSLContext:
        """The newest context; `now` is monotonic. Looks at the folder once a second at most."""
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            self._renew()
        return self._context

    def _renew(self) -> None:
        """A pair that fails is looked at again only when the link changes once more."""
        try:
            link = self._read_link()
            if link == self._link:
                return
            self._link = link
            self._context = build_context(os.path.join(self._folder, link))
        except OSError as error:
            self._report(f"new certificate not loaded, the old one stays: {error}")

    def _read_link(self) -> str:
        """Where `..data` points, so that one load sees one pair; the folder itself without it."""
        try:
            return os.readlink(os.path.join(self._folder, "..data"))
        except FileNotFoundError:
            return ""
