"""Who may come in: the rule about the name in a peer's certificate.

Invariants: pure; it is asked only about certificates whose chain has been verified already.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz")
_INNER = _FIRST | frozenset("0123456789-")
_MAX_NAME = 40


def is_name(text: str) -> bool:
    """1 to 40 of `a-z 0-9 -`, first a letter, last no hyphen."""
    return (
        0 < len(text) <= _MAX_NAME
        and text[0] in _FIRST
        and text[-1] != "-"
        and all(char in _INNER for char in text)
    )


def find_refusal(certificate: Mapping[str, object] | None, prefix: str) -> str | None:
    """Why the peer of this certificate (`ssl.SSLObject.getpeercert()`) must go, or None.

    It must carry exactly one URI name (X.509-SVID §2): `prefix` and one name after it.
    """
    if not certificate:
        return "no certificate"
    names = certificate.get("subjectAltName", ())
    uris = [str(value) for kind, value in names if kind == "URI"]  # type: ignore[attr-defined]
    if len(uris) != 1:
        return f"certificate has {len(uris)} URI names, not one"
    if not uris[0].startswith(prefix) or not is_name(uris[0][len(prefix) :]):
        return f"{uris[0][:120]!a} is no gateway"
    return None
