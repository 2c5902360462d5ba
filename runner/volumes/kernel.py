"""The kernel's file encryption by ioctl: keys and policies of `linux/fscrypt.h`, version 2.

Invariants: keys are raw bytes in and never out; contents are AES-256-XTS, names AES-256-CTS padded
to 32 bytes; every function takes a path on the file system in question and blocks only briefly.
"""

import contextlib
import errno
import fcntl
import hashlib
import hmac
import os
import struct
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from runner.volumes import VolumeError

_SET_POLICY = 0x800C6613
_GET_POLICY_EX = 0xC0096616
_ADD_KEY = 0xC0506617
_REMOVE_KEY_ALL_USERS = 0xC0406619
_GET_KEY_STATUS = 0xC080661A
_VERSION, _XTS, _CTS, _PAD_32 = 2, 1, 4, 3
_SPEC_IDENTIFIER = 2
_NO_SUPPORT = {
    errno.ENOTTY: "this file system has no encryption",
    errno.EOPNOTSUPP: "this kernel's ext4 has no encryption",
}


class KeyStatus(Enum):
    """What the kernel says of a key; `incompletely_removed`: files that were open still are."""

    absent = 1
    present = 2
    incompletely_removed = 3


def derive_identifier(key: bytes) -> bytes:
    """The 16 bytes by which the kernel names a raw key: HKDF-SHA512 as fscrypt defines it."""
    extracted = hmac.digest(bytes(hashlib.sha512().digest_size), key, "sha512")
    return hmac.digest(extracted, b"fscrypt\0\x01\x01", "sha512")[:16]


def add_key(path: Path, key: bytes) -> bytes:
    """Give a file system a key; return its identifier."""
    argument = bytearray(struct.pack("II32xII32x", _SPEC_IDENTIFIER, 0, len(key), 0) + key)
    with _open(path) as opened, _explained(path, "add a key"):
        try:
            fcntl.ioctl(opened, _ADD_KEY, argument, True)
            return bytes(argument[8:24])
        finally:
            argument[:] = bytes(len(argument))


def remove_key(path: Path, identifier: bytes) -> KeyStatus:
    """Take a key away from a file system, whoever added it; a key not there is no error."""
    argument = bytearray(struct.pack("II16s16xI20x", _SPEC_IDENTIFIER, 0, identifier, 0))
    with _open(path) as opened, _explained(path, "remove a key"):
        try:
            fcntl.ioctl(opened, _REMOVE_KEY_ALL_USERS, argument, True)
        except OSError as error:
            if error.errno != errno.ENOKEY:
                raise
    return read_key_status(path, identifier)


def read_key_status(path: Path, identifier: bytes) -> KeyStatus:
    """Whether a file system holds a key."""
    argument = bytearray(struct.pack("II16s16x88x", _SPEC_IDENTIFIER, 0, identifier))
    with _open(path) as opened, _explained(path, "ask for a key"):
        fcntl.ioctl(opened, _GET_KEY_STATUS, argument, True)
    return KeyStatus(struct.unpack_from("I", argument, 64)[0])


def set_policy(path: Path, identifier: bytes) -> None:
    """Encrypt an empty directory, and all that will be in it, under a key that was added."""
    policy = struct.pack("BBBBB3x16s", _VERSION, _XTS, _CTS, _PAD_32, 0, identifier)
    with _open(path) as opened, _explained(path, "encrypt the directory"):
        fcntl.ioctl(opened, _SET_POLICY, policy)


def read_policy(path: Path) -> bytes | None:
    """The identifier of the key a directory is encrypted under, None if it is not encrypted.

    Raises `VolumeError` if it is encrypted in another way than `set_policy` does it.
    """
    argument = bytearray(struct.pack("Q24x", 24))
    with _open(path) as opened, _explained(path, "read the policy"):
        try:
            fcntl.ioctl(opened, _GET_POLICY_EX, argument, True)
        except OSError as error:
            if error.errno in (errno.ENODATA, *_NO_SUPPORT):
                return None
            raise
    *modes, identifier = struct.unpack_from("BBBB4x16s", argument, 8)
    if modes != [_VERSION, _XTS, _CTS, _PAD_32]:
        raise VolumeError(f"{path}: encrypted with another policy than ours: {modes}")
    return bytes(identifier)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise VolumeError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _NO_SUPPORT.get(error.errno or 0, os.strerror(error.errno or 0).lower())
        raise VolumeError(f"{path}: cannot {what}: {reason}") from None
