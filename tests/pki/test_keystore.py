"""What must hold of key files and sealed files."""

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pki.errors import KeystoreError, SealError
from pki.keystore import (
    Keystore,
    load_master_key,
    load_or_create_master_key,
    read_private,
    write_private,
)
from tests.support.authorities import Authorities, make_authorities

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def authorities() -> Authorities:
    """Real authorities."""
    return make_authorities()


def test_master_key_is_made_once(tmp_path: Path) -> None:
    """The first start makes a random key of mode 0600, every later one reads the same."""
    path = tmp_path / "state" / "master.key"
    key = load_or_create_master_key(path)
    assert len(key) == 32
    assert load_or_create_master_key(path) == load_master_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_master_key(tmp_path / "other" / "master.key") != key
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o400, 0o700])
def test_a_key_file_of_another_mode_is_refused(tmp_path: Path, mode: int) -> None:
    """Only 0600 will do, and the error says how to set it."""
    path = tmp_path / "k"
    load_or_create_master_key(path)
    path.chmod(mode)
    with pytest.raises(KeystoreError, match=f"has mode {mode:04o}; set it to 0600 .chmod 600 "):
        load_or_create_master_key(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_of_another_uid_is_refused(tmp_path: Path) -> None:
    """A key that somebody else can rewrite is nobody's secret."""
    path = tmp_path / "k"
    load_or_create_master_key(path)
    os.chown(path, 12345, -1)
    with pytest.raises(KeystoreError, match="belongs to uid 12345, not to 0"):
        load_master_key(path)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symlink in the key's place is refused, whether it dangles or not."""
    target = tmp_path / "target"
    (tmp_path / "k").symlink_to(target)
    with pytest.raises(KeystoreError, match="cannot be opened"):
        load_or_create_master_key(tmp_path / "k")
    assert not target.exists()
    load_or_create_master_key(target)
    with pytest.raises(KeystoreError, match="cannot be opened"):
        load_master_key(tmp_path / "k")


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe does not make us wait and a directory does not make us fail elsewhere."""
    path = tmp_path / "k"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.mkdir(mode=0o600)
    with pytest.raises(KeystoreError, match=r"is not a regular file|cannot be opened"):
        read_private(path)


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 64])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """A damaged key file is an error and is never replaced by a fresh key."""
    path = tmp_path / "k"
    write_private(path, content)
    with pytest.raises(KeystoreError, match="does not hold 32 bytes"):
        load_or_create_master_key(path)
    assert path.read_bytes() == content


def test_private_files_are_replaced_whole(tmp_path: Path) -> None:
    """A new content replaces the old at once, with mode 0600 and nothing left beside it."""
    path = tmp_path / "f"
    write_private(path, b"one")
    before = path.stat().st_ino
    write_private(path, b"two")
    assert path.read_bytes() == read_private(path) == b"two"
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """If the new content cannot take its place, the old one stays and nothing is left over."""
    path = tmp_path / "f"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(path, b"x")
    assert list(tmp_path.iterdir()) == [path]


def test_an_oversized_file_is_refused(tmp_path: Path) -> None:
    """Nothing reads without a bound."""
    write_private(tmp_path / "f", b"x" * ((1 << 20) + 1))
    with pytest.raises(KeystoreError, match="larger than 1 MiB"):
        read_private(tmp_path / "f")


def test_authority_survives_a_new_process(tmp_path: Path, authorities: Authorities) -> None:
    """Certificate and key come back, and the key is nowhere on disk in the clear."""
    root = authorities.root
    Keystore(tmp_path, KEY).save("root", root.certificate, root.key)
    keystore = Keystore(tmp_path, KEY)
    stored = keystore.load("root")
    assert stored is not None
    assert stored.certificate == root.certificate
    assert keystore.unseal_key("root", stored).private_numbers() == root.key.private_numbers()
    der = root.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    secret = root.key.private_numbers().private_value.to_bytes(32, "big")
    content = (tmp_path / "root.json").read_bytes()
    sealed = stored.sealed_key
    assert all(part not in content and part not in sealed for part in (der, secret, der[-40:]))
    assert "root" not in repr(keystore) or str(KEY) not in repr(keystore)


def test_an_absent_authority_is_none(tmp_path: Path) -> None:
    """Before the first save there is nothing, and that is no error."""
    assert Keystore(tmp_path, KEY).load("root") is None


def test_an_authority_opens_only_under_its_own_name_and_key(
    tmp_path: Path, authorities: Authorities
) -> None:
    """A file renamed to another authority's name, or another seal key, does not open."""
    keystore = Keystore(tmp_path, KEY)
    keystore.save("root", authorities.root.certificate, authorities.root.key)
    (tmp_path / "root.json").rename(tmp_path / "internal.json")
    stored = keystore.load("internal")
    assert stored is not None
    with pytest.raises(SealError):
        keystore.unseal_key("internal", stored)
    with pytest.raises(SealError):
        Keystore(tmp_path, KEY[::-1]).unseal_key("root", stored)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, authorities: Authorities) -> None:
    """A certificate put beside a key that is not its own is noticed."""
    keystore = Keystore(tmp_path, KEY)
    keystore.save("root", authorities.internal.certificate, authorities.root.key)
    stored = keystore.load("root")
    assert stored is not None
    with pytest.raises(KeystoreError, match="do not belong together"):
        keystore.unseal_key("root", stored)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: "{",
        lambda content: "[]",
        lambda content: json.dumps({**content, "v": 2}),
        lambda content: json.dumps({**content, "key": "%"}),
        lambda content: json.dumps({**content, "key": None}),
        lambda content: json.dumps({**content, "certificate": "x"}),
        lambda content: json.dumps({"v": 1}),
    ],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, authorities: Authorities, change: object
) -> None:
    """A file that is not as it was written is an error, never an absent authority."""
    keystore = Keystore(tmp_path, KEY)
    keystore.save("root", authorities.root.certificate, authorities.root.key)
    content = json.loads((tmp_path / "root.json").read_text())
    write_private(tmp_path / "root.json", change(content).encode())
    with pytest.raises(KeystoreError):
        keystore.load("root")
