"""Key files and sealed files on disk: safe to open, whole or absent, never plain.

Invariants: a key file is opened without following links and used only if it is a regular file of
ours with mode 0600; a file is replaced by fsync and rename, so a crash leaves the old or the new.
"""

import base64
import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import KeystoreError
from pki.sealing import KEY_BYTES, seal, unseal

_MAX_FILE_BYTES = 1 << 20
_FORMAT = 1


def load_or_create_master_key(path: Path) -> bytes:
    """The 32-byte master key in the file, made on first use; raises `KeystoreError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    if not path.is_symlink() and not path.exists():
        _create_exclusively(path, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
    return load_master_key(path)


def load_master_key(path: Path) -> bytes:
    """The master key of an existing file; raises `KeystoreError` if it is missing or unsafe."""
    content = read_private(path)
    try:
        key = bytes.fromhex(content.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeystoreError(f"{path} does not hold {KEY_BYTES} bytes in hex")
    return key


def read_private(path: Path) -> bytes:
    """The content of a file that only we can have written or read; raises `KeystoreError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeystoreError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        _check_private(path, os.fstat(descriptor))
        content = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_FILE_BYTES:
        raise KeystoreError(f"{path} is larger than 1 MiB")
    return content


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise KeystoreError(f"{path} is not a regular file")
    if status.st_uid != os.geteuid():
        raise KeystoreError(f"{path} belongs to uid {status.st_uid}, not to {os.geteuid()}")
    if mode != 0o600:
        raise KeystoreError(f"{path} has mode {mode:04o}; set it to 0600 (chmod 600 {path})")


def write_private(path: Path, content: bytes) -> None:
    """Replace the file as a whole, mode 0600, on disk before this returns; raises OSError."""
    with _write_beside(path, content) as temporary:
        os.rename(temporary, path)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_exclusively(path: Path, content: bytes) -> None:
    """Create the file unless another process was first; a link never replaces what is there."""
    with _write_beside(path, content) as temporary:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path, follow_symlinks=False)
        sync_directory(path.parent)


@contextlib.contextmanager
def _write_beside(path: Path, content: bytes) -> Iterator[Path]:
    """A synced file with the content next to `path`; gone afterwards unless it was renamed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class StoredAuthority:
    """An authority's certificate; its key stays sealed until `Keystore.unseal_key`."""

    certificate: x509.Certificate
    sealed_key: bytes


class Keystore:
    """The sealed keys of the authorities, one file each, bound to purpose and name."""

    def __init__(self, directory: Path, seal_key: bytes) -> None:
        self._directory = directory
        self._seal_key = seal_key

    def __repr__(self) -> str:
        return f"<Keystore {self._directory}>"

    def save(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        """Seal the key and write it with its certificate in one step."""
        plain = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        content = {
            "v": _FORMAT,
            "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
            "key": base64.b64encode(seal(self._seal_key, plain, _associate(name))).decode(),
        }
        write_private(self._path(name), json.dumps(content, indent=1).encode() + b"\n")

    def load(self, name: str) -> StoredAuthority | None:
        """The authority of that name, None before its first save; raises `KeystoreError`."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            content = json.loads(read_private(path))
            if content["v"] != _FORMAT:
                raise KeystoreError(f"{path} is of version {content['v']}, not {_FORMAT}")
            certificate = x509.load_pem_x509_certificate(content["certificate"].encode())
            return StoredAuthority(certificate, base64.b64decode(content["key"], validate=True))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise KeystoreError(f"{path} is not an authority's file") from None

    def unseal_key(self, name: str, stored: StoredAuthority) -> ec.EllipticCurvePrivateKey:
        """The private key; raises `SealError`, `KeystoreError` if it is another certificate's."""
        plain = unseal(self._seal_key, stored.sealed_key, _associate(name))
        key = serialization.load_der_private_key(plain, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeystoreError(f"the key of {name} is not an EC key")
        if key.public_key() != stored.certificate.public_key():
            raise KeystoreError(f"the key and the certificate of {name} do not belong together")
        return key

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"


def _associate(name: str) -> bytes:
    """What a sealed authority key is: canonical JSON, so that no two names can read alike."""
    content = {"name": name, "purpose": "authority-key", "v": _FORMAT}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
