"""The vault: each app's secrets and volume key, sealed at rest.

Theory: the vault key (which this process is handed) wraps three random keys per app, each bound to
the app's uuid and to its purpose: `secrets` seals the entries, `volume` opens the app's volume,
`platform` is what the platform's own per-app secrets are derived from. Each entry is sealed with
its uuid, name and version; the list of entries is sealed as a whole, so that dropping, swapping or
rolling back a single entry is noticed.

Invariants: a secret's value is in no error, log line or repr; what is found altered is refused,
never repaired; keys that are replaced or destroyed are overwritten on disk. Calls block.
"""

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pki import SealError, derive_key, seal, unseal
from runner.durable import lock_directory, make_private_directory, save_file, shred_file
from runner.errors import RunnerError

SCHEMA = 1
KEY_SIZES_BYTES = {"secrets": 32, "volume": 64, "platform": 32}
VALUE_LIMIT_BYTES = 64 * 1024
TOTAL_LIMIT_BYTES = 1024 * 1024
NAME_LIMIT_CHARS = 128
_UUID = re.compile(r"[0-9a-f]{32}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")


class VaultError(RunnerError):
    """A secret cannot be kept or read; the text never holds its value."""


@dataclass(frozen=True, slots=True)
class SecretEntry:
    """What may be shown of a secret: `created_s` is the Unix time of this version."""

    name: str
    version: int
    created_s: float


@dataclass(frozen=True, slots=True)
class _Sealed:
    entry: SecretEntry
    sealed: bytes


@dataclass(slots=True)
class _Opened:
    """An app's file with its list verified; wrapped keys stay wrapped until they are needed."""

    uuid: str
    wrapped: dict[str, bytes]
    entries: dict[str, _Sealed]

    def __repr__(self) -> str:
        return f"<_Opened {self.uuid} {len(self.entries)} entries>"


class Vault:
    """Sealed secrets by app uuid, one file each in a private directory."""

    def __init__(self, directory: Path, key: bytes, clock: Callable[[], float] = time.time) -> None:
        if len(key) != 32:
            raise VaultError("the vault's key must be 32 bytes")
        make_private_directory(directory)
        self._directory = directory
        self._key = key
        self._clock = clock
        self._key_id = hashlib.sha256(b"lockgate vault key id" + key).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"<Vault {self._directory} key {self._key_id}>"

    def create_app(self, uuid: str) -> None:
        """Make an app's keys. Raises `VaultError` if it has some already."""
        with lock_directory(self._directory):
            if self._path(uuid).exists():
                raise VaultError(f"the vault already holds keys of app {uuid}")
            wrapped = {
                purpose: seal(self._key, os.urandom(size), self._bind(uuid, purpose))
                for purpose, size in KEY_SIZES_BYTES.items()
            }
            self._save(_Opened(uuid, wrapped, {}))

    def has_app(self, uuid: str) -> bool:
        """Whether the app has keys here."""
        return self._path(uuid).exists()

    def list_apps(self) -> list[str]:
        """The uuids that have keys here."""
        return sorted(
            path.stem for path in self._directory.glob("*.json") if _UUID.match(path.stem)
        )

    def volume_key(self, uuid: str) -> bytes:
        """The 64 bytes that open the app's volume."""
        return self._unwrap(self._load(uuid), "volume")

    def platform_secret(self, uuid: str, purpose: str) -> bytes:
        """32 bytes that stay the same for the app's life (say, its session cookies' key)."""
        return derive_key(self._unwrap(self._load(uuid), "platform"), purpose)

    def set_secret(self, uuid: str, name: str, value: str) -> SecretEntry:
        """Keep a new version of a secret. Raises `VaultError` for a bad name or value."""
        check_name(name)
        content = _check_value(name, value)
        with lock_directory(self._directory):
            opened = self._load(uuid)
            _check_tables(name, opened.entries)
            _check_total(name, len(content), opened.entries)
            previous = opened.entries.get(name)
            version = previous.entry.version + 1 if previous else 1
            entry = SecretEntry(name, version, round(self._clock(), 3))
            key = self._unwrap(opened, "secrets")
            opened.entries[name] = _Sealed(entry, seal(key, content, _bind_entry(uuid, entry)))
            self._save(opened)
        return entry

    def remove_secret(self, uuid: str, name: str) -> bool:
        """Forget a secret; False if there is none of this name."""
        with lock_directory(self._directory):
            opened = self._load(uuid)
            if opened.entries.pop(name, None) is None:
                return False
            self._save(opened)
        return True

    def list_secrets(self, uuid: str) -> Sequence[SecretEntry]:
        """Names, versions and ages, sorted by name."""
        return [item.entry for _, item in sorted(self._load(uuid).entries.items())]

    def read_secrets(self, uuid: str) -> dict[str, str]:
        """Names and values, sorted by name: for delivery only."""
        opened = self._load(uuid)
        key = self._unwrap(opened, "secrets")
        return {
            name: self._unseal_entry(uuid, key, item)
            for name, item in sorted(opened.entries.items())
        }

    def read_secret(self, uuid: str, name: str) -> str:
        """One value. Raises `VaultError` if the app has no secret of this name."""
        opened = self._load(uuid)
        if name not in opened.entries:
            raise VaultError(f"no secret {name!r} is set for this app")
        return self._unseal_entry(uuid, self._unwrap(opened, "secrets"), opened.entries[name])

    def destroy_app(self, uuid: str) -> bool:
        """Overwrite and unlink an app's keys and secrets; False if it had none."""
        with lock_directory(self._directory):
            return shred_file(self._path(uuid))

    def _path(self, uuid: str) -> Path:
        if not _UUID.match(uuid):
            raise VaultError("an app's uuid is 32 lower-case hexadecimal digits")
        return self._directory / f"{uuid}.json"

    def _bind(self, uuid: str, purpose: str) -> bytes:
        return _canonical({"v": SCHEMA, "key_id": self._key_id, "uuid": uuid, "purpose": purpose})

    def _unwrap(self, opened: _Opened, purpose: str) -> bytes:
        try:
            key = unseal(self._key, opened.wrapped[purpose], self._bind(opened.uuid, purpose))
        except SealError:
            raise self._altered(opened.uuid, f"the {purpose} key does not open") from None
        if len(key) != KEY_SIZES_BYTES[purpose]:
            raise self._altered(opened.uuid, f"the {purpose} key has a wrong length")
        return key

    def _unseal_entry(self, uuid: str, key: bytes, item: _Sealed) -> str:
        try:
            return unseal(key, item.sealed, _bind_entry(uuid, item.entry)).decode()
        except SealError:
            raise self._altered(uuid, f"secret {item.entry.name!r} does not open") from None

    def _save(self, opened: _Opened) -> None:
        key = self._unwrap(opened, "secrets")
        listed = [opened.entries[name] for name in sorted(opened.entries)]
        document = {
            "v": SCHEMA,
            "uuid": opened.uuid,
            "key_id": self._key_id,
            "keys": {purpose: _to_text(item) for purpose, item in opened.wrapped.items()},
            "entries": [
                {
                    "name": item.entry.name,
                    "version": item.entry.version,
                    "created_s": item.entry.created_s,
                    "sealed": _to_text(item.sealed),
                }
                for item in listed
            ],
            "list": _to_text(seal(key, _digest(listed), _bind_list(opened.uuid))),
        }
        save_file(self._path(opened.uuid), json.dumps(document, indent=1).encode(), shred=True)

    def _load(self, uuid: str) -> _Opened:
        path = self._path(uuid)
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise VaultError(f"the vault holds no keys of app {uuid}") from None
        except (OSError, ValueError):
            raise self._altered(uuid, "it cannot be read") from None
        if not isinstance(document, dict) or document.get("v") != SCHEMA:
            raise self._altered(uuid, "its version is not known")
        if document.get("key_id") != self._key_id:
            raise VaultError(f"{path}: sealed under another key (is it another master key?)")
        return self._verify(uuid, document)

    def _verify(self, uuid: str, document: dict[str, Any]) -> _Opened:
        try:
            wrapped = {purpose: _to_bytes(document["keys"][purpose]) for purpose in KEY_SIZES_BYTES}
            listed = [_parse_entry(item) for item in document["entries"]]
            sealed_list = _to_bytes(document["list"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._altered(uuid, "it is not complete") from None
        opened = _Opened(uuid, wrapped, {item.entry.name: item for item in listed})
        try:
            digest = unseal(self._unwrap(opened, "secrets"), sealed_list, _bind_list(uuid))
        except SealError:
            raise self._altered(uuid, "its list does not open") from None
        if digest != _digest(listed):
            raise self._altered(uuid, "an entry was dropped, swapped or rolled back")
        return opened

    def _altered(self, uuid: str, what: str) -> VaultError:
        return VaultError(f"{self._path(uuid)}: damaged or altered: {what}")


def check_name(name: str) -> None:
    """Raises `VaultError` unless it is a variable's name, or such names joined by dots."""
    if not _NAME.match(name) or len(name) > NAME_LIMIT_CHARS:
        raise VaultError(
            f"bad secret name {name[:NAME_LIMIT_CHARS]!r}: use letters, digits and '_' (for"
            f" a table of secrets.toml: parts joined by '.'), at most {NAME_LIMIT_CHARS}"
        )
    if name.upper().startswith("LOCKGATE_"):
        raise VaultError(f"bad secret name {name!r}: names from LOCKGATE_ on are the platform's")


def _check_value(name: str, value: str) -> bytes:
    try:
        content = value.encode()
    except UnicodeEncodeError:
        raise VaultError(f"secret {name!r}: the value is not valid UTF-8") from None
    if b"\0" in content:
        raise VaultError(f"secret {name!r}: the value holds a NUL byte")
    if len(content) > VALUE_LIMIT_BYTES:
        raise VaultError(f"secret {name!r}: the value is longer than {VALUE_LIMIT_BYTES} bytes")
    return content


def _check_total(name: str, size_bytes: int, entries: dict[str, _Sealed]) -> None:
    others = sum(len(item.sealed) for key, item in entries.items() if key != name)
    if others + size_bytes > TOTAL_LIMIT_BYTES:
        raise VaultError(f"secret {name!r}: the app's secrets exceed {TOTAL_LIMIT_BYTES} bytes")


def _check_tables(name: str, entries: dict[str, _Sealed]) -> None:
    """A name cannot be a value and a table of other values at once."""
    for other in entries:
        if other.startswith(f"{name}.") or name.startswith(f"{other}."):
            raise VaultError(f"secret {name!r}: {other!r} is set, and one cannot hold the other")


def _bind_entry(uuid: str, entry: SecretEntry) -> bytes:
    return _canonical({"v": SCHEMA, "uuid": uuid, "name": entry.name, "version": entry.version})


def _bind_list(uuid: str) -> bytes:
    return _canonical({"v": SCHEMA, "uuid": uuid, "purpose": "list"})


def _digest(listed: Sequence[_Sealed]) -> bytes:
    rows = [
        [item.entry.name, item.entry.version, item.entry.created_s, _to_text(item.sealed)]
        for item in listed
    ]
    return hashlib.sha256(_canonical(rows)).digest()


def _parse_entry(item: dict[str, Any]) -> _Sealed:
    entry = SecretEntry(str(item["name"]), int(item["version"]), float(item["created_s"]))
    return _Sealed(entry, _to_bytes(item["sealed"]))


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _to_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _to_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
