"""TLS on both doors: who is served which certificate, and who is believed to be an app.

Invariants: visitors get TLS 1.2 or 1.3 with forward secrecy and AEAD, never renegotiation or
compression; apps get TLS 1.3, our roots only and one exact identity; a private key is in memory
only; a store is replaced whole, never edited, and open connections keep what they have.
"""

import os
import ssl
from collections.abc import Mapping
from typing import Any

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SNI = "lockgate_sni"


class PeerIdentityError(Exception):
    """The peer proved to be somebody, but not whom the upstream must be."""


def load_pair(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    """Give `context` a chain and key without a file on any disk; raises ssl.SSLError.

    The standard library loads from paths only, so the PEM passes through an anonymous memory
    file that is gone before this returns.
    """
    memory = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(key_pem.rstrip(b"\n") + b"\n" + chain_pem)
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def build_visitor_context(chain_pem: bytes, key_pem: bytes) -> ssl.SSLContext:
    """A server context for visitors with this certificate; raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_SINGLE_ECDH_USE
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(["http/1.1"])
    load_pair(context, chain_pem, key_pem)
    return context


def build_agent_context(chain_pem: bytes, key_pem: bytes, roots_pem: bytes) -> ssl.SSLContext:
    """A client context for agents: mutual TLS 1.3 under `roots_pem` alone; raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_COMPRESSION
    # Pythons before 3.11.3 take a cut for an orderly end unless told otherwise (RFC 8446, 6.1).
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_verify_locations(cadata=roots_pem.decode("ascii"))
    load_pair(context, chain_pem, key_pem)
    return context


def check_peer(tls: ssl.SSLObject, spiffe_id: str) -> None:
    """Raises PeerIdentityError unless the peer's one URI SAN is `spiffe_id`, byte for byte."""
    certificate: Mapping[str, Any] = tls.getpeercert() or {}
    found = [name[1] for name in certificate.get("subjectAltName", ()) if name[0] == "URI"]
    if found != [spiffe_id]:
        said = ", ".join(found) or "nobody"
        raise PeerIdentityError(f"expected {spiffe_id}, the peer is {said}")


def read_names(context: ssl.SSLContext, chain_pem: bytes) -> tuple[str, ...]:
    """The DNS names of a server context's leaf; raises ssl.SSLError when it cannot be served.

    A handshake in memory proves in one go that key and chain belong together, that the leaf is
    in force and may be a server's, and what it is for.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=chain_pem.decode("ascii", "replace"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        context.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
            if not end.server_side:
                certificate: Mapping[str, Any] = end.getpeercert() or {}
    names = certificate.get("subjectAltName", ())
    return tuple(fold_name(name[1]) for name in names if name[0] == "DNS")


def fold_name(name: str) -> str:
    """A host name as it is compared: lower case, without a final dot."""
    return name.lower().removesuffix(".")


def get_sni(tls: ssl.SSLObject) -> str | None:
    """The folded name the visitor asked for in the handshake; None when it asked for none."""
    name = vars(tls).get(_SNI)
    return name if isinstance(name, str) else None


class CertificateStore:
    """Which context serves which name: exact, then wildcard, then the one for strangers.

    `base` is what listeners use; it holds the policy, and the callback puts the named
    certificate under it during the handshake.
    """

    def __init__(self, default: ssl.SSLContext) -> None:
        self._contexts: Mapping[str, ssl.SSLContext] = {}
        self._default = default
        self.base = default
        self.base.sni_callback = self._choose

    def __repr__(self) -> str:
        return f"<CertificateStore {len(self._contexts)} names>"

    def swap(self, contexts: Mapping[str, ssl.SSLContext]) -> None:
        """Serve `contexts` (folded name or `*.name` → context) from the next handshake on."""
        self._contexts = dict(contexts)

    def swap_default(self, default: ssl.SSLContext) -> None:
        """Serve `default` to visitors whose name is unknown from the next handshake on."""
        self._default = default

    def pick(self, name: str | None) -> ssl.SSLContext:
        """The context for a folded name, or for a visitor who named none."""
        if name is None:
            return self._default
        contexts = self._contexts
        found = contexts.get(name)
        if found is None:
            found = contexts.get("*." + name.partition(".")[2])
        return self._default if found is None else found

    def _choose(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        folded = None if name is None else fold_name(name)
        vars(tls)[_SNI] = folded
        tls.context = self.pick(folded)
