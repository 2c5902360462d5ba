"""Envelope encryption on bytes: AES-256-GCM under a key that serves one purpose.

Invariants: what is sealed for one key and one associated text opens with no other; every seal has
a fresh 96-bit nonce (fewer than 2**32 seals per key: NIST SP 800-38D §8.3).
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pki.errors import SealError

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16


def derive_key(master: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256, RFC 5869); raises `SealError` for a short master."""
    _check_key(master)
    info = b"lockgate/v1/" + purpose.encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(master)


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """version ‖ nonce ‖ ciphertext ‖ tag; `associated` says what this is and must not repeat."""
    _check_key(key)
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, _VERSION + associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The plaintext; raises `SealError` for another key, another associated text or any change."""
    _check_key(key)
    if len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES or sealed[:1] != _VERSION:
        raise SealError("these are not sealed bytes of a version known here")
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, _VERSION + associated)
    except InvalidTag:
        raise SealError("the sealed bytes do not open: another key, name or content") from None


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise SealError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
