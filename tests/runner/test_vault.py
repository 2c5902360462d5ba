"""What the vault must hold."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.vault import VALUE_LIMIT_BYTES, SecretEntry, Vault, VaultError

KEY = bytes(range(32))
APP = "a" * 32
OTHER = "b" * 32
CANARY = "canary-5f1d-value"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault with one app and a clock that stands still."""
    vault = Vault(tmp_path / "vault", KEY, clock=lambda: 1000.0)
    vault.create_app(APP)
    return vault


def _edit(vault_dir: Path, change: Callable[[dict[str, Any]], None], uuid: str = APP) -> None:
    path = vault_dir / f"{uuid}.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def test_secrets_survive_a_new_process(vault: Vault, tmp_path: Path) -> None:
    """Another vault on the same directory with the same key reads the same values and keys."""
    vault.set_secret(APP, "B", "two\nlines ü")
    vault.set_secret(APP, "connections.db.url", "postgresql://")
    again = Vault(tmp_path / "vault", KEY)
    assert again.read_secrets(APP) == {"B": "two\nlines ü", "connections.db.url": "postgresql://"}
    assert again.read_secret(APP, "B") == "two\nlines ü"
    assert again.volume_key(APP) == vault.volume_key(APP)
    assert len(again.volume_key(APP)) == 64
    assert again.platform_secret(APP, "cookie") == vault.platform_secret(APP, "cookie")
    assert again.platform_secret(APP, "cookie") != vault.platform_secret(APP, "other")


def test_each_app_has_its_own_keys(vault: Vault) -> None:
    """Two apps share neither volume key nor platform secret, nor does a name used again."""
    first = vault.volume_key(APP)
    vault.create_app(OTHER)
    assert vault.list_apps() == [APP, OTHER]
    assert vault.volume_key(OTHER) != first
    assert vault.platform_secret(OTHER, "cookie") != vault.platform_secret(APP, "cookie")
    vault.destroy_app(APP)
    vault.create_app(APP)
    assert vault.volume_key(APP) != first
    with pytest.raises(VaultError, match="already holds keys"):
        vault.create_app(APP)


def test_versions_count_up_and_show_their_age(vault: Vault) -> None:
    """Each new value is a new version with its time; lists show no value."""
    vault.set_secret(APP, "TOKEN", CANARY)
    assert vault.set_secret(APP, "TOKEN", CANARY + "2") == SecretEntry("TOKEN", 2, 1000.0)
    vault.set_secret(APP, "A", "x")
    assert [(item.name, item.version) for item in vault.list_secrets(APP)] == [
        ("A", 1),
        ("TOKEN", 2),
    ]
    assert CANARY not in repr(vault.list_secrets(APP))
    assert vault.remove_secret(APP, "TOKEN")
    assert not vault.remove_secret(APP, "TOKEN")
    assert vault.read_secrets(APP) == {"A": "x"}


def test_nothing_on_disk_is_readable(vault: Vault, tmp_path: Path) -> None:
    """Neither a value nor a key is in the vault's files, whose modes are private."""
    vault.set_secret(APP, "TOKEN", CANARY)
    path = tmp_path / "vault" / f"{APP}.json"
    content = path.read_bytes()
    assert CANARY.encode() not in content
    for key in (vault.volume_key(APP), KEY):
        assert key not in content
        assert key.hex().encode() not in content
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "name", ["", "1A", "A-B", "A B", "a..b", ".a", "a.", "A\n", "ü", "A" * 129, "../x"]
)
def test_bad_names_are_refused(vault: Vault, name: str) -> None:
    """A name that is no variable's and no table path is refused."""
    with pytest.raises(VaultError, match="bad secret name"):
        vault.set_secret(APP, name, "x")


def test_platform_names_are_refused(vault: Vault) -> None:
    """An app's secret cannot pose as a variable of the platform."""
    with pytest.raises(VaultError, match="are the platform's"):
        vault.set_secret(APP, "LOCKGATE_URL", "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (CANARY + "\0", "NUL byte"),
        (CANARY + "x" * VALUE_LIMIT_BYTES, "longer than 65536 bytes"),
        (CANARY + "\ud800", "not valid UTF-8"),
    ],
)
def test_bad_values_are_refused_without_showing_them(
    vault: Vault, value: str, message: str
) -> None:
    """A value that cannot be delivered is refused, and the error does not hold it."""
    with pytest.raises(VaultError, match=message) as caught:
        vault.set_secret(APP, "TOKEN", value)
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert vault.read_secrets(APP) == {}


def test_largest_value_fits(vault: Vault) -> None:
    """Exactly the limit is accepted."""
    vault.set_secret(APP, "BIG", "x" * VALUE_LIMIT_BYTES)
    assert len(vault.read_secret(APP, "BIG")) == VALUE_LIMIT_BYTES


def test_all_secrets_together_are_bounded(vault: Vault) -> None:
    """An app cannot grow its secrets without end; replacing a value needs no extra room."""
    for number in range(15):
        vault.set_secret(APP, f"BIG{number}", "x" * VALUE_LIMIT_BYTES)
    vault.set_secret(APP, "BIG0", "y" * VALUE_LIMIT_BYTES)
    with pytest.raises(VaultError, match="exceed 1048576 bytes"):
        vault.set_secret(APP, "ONE_MORE", "x" * VALUE_LIMIT_BYTES)


@pytest.mark.parametrize(("first", "second"), [("a", "a.b"), ("a.b", "a"), ("a.b.c", "a.b")])
def test_value_and_table_cannot_share_a_name(vault: Vault, first: str, second: str) -> None:
    """A name cannot be both a value and a table of values."""
    vault.set_secret(APP, first, "x")
    with pytest.raises(VaultError, match="one cannot hold the other"):
        vault.set_secret(APP, second, "x")


def test_dropped_swapped_or_rolled_back_entry_is_noticed(vault: Vault, tmp_path: Path) -> None:
    """Each way to alter single entries of a file is refused, whatever is asked of it."""
    vault.set_secret(APP, "A", "one")
    old = json.loads((tmp_path / "vault" / f"{APP}.json").read_bytes())
    vault.set_secret(APP, "A", "two")
    vault.set_secret(APP, "B", "three")
    good = (tmp_path / "vault" / f"{APP}.json").read_bytes()

    def drop(document: dict[str, Any]) -> None:
        document["entries"].pop()

    def swap(document: dict[str, Any]) -> None:
        first, second = document["entries"]
        first["sealed"], second["sealed"] = second["sealed"], first["sealed"]

    def roll_back(document: dict[str, Any]) -> None:
        document["entries"][0] = old["entries"][0]

    def roll_back_with_list(document: dict[str, Any]) -> None:
        document["entries"][0] = old["entries"][0]
        document["list"] = old["list"]

    def relabel(document: dict[str, Any]) -> None:
        document["entries"][0]["version"] = 9

    def double(document: dict[str, Any]) -> None:
        document["entries"].append(document["entries"][0])

    def exchange_keys(document: dict[str, Any]) -> None:
        keys = document["keys"]
        keys["secrets"], keys["platform"] = keys["platform"], keys["secrets"]

    def cut(document: dict[str, Any]) -> None:
        del document["list"]

    for change in (drop, swap, roll_back, roll_back_with_list, relabel, double, exchange_keys, cut):
        _edit(tmp_path / "vault", change)
        for read in (vault.read_secrets, vault.list_secrets, vault.volume_key):
            with pytest.raises(VaultError, match="damaged or altered"):
                read(APP)
        with pytest.raises(VaultError, match="damaged or altered"):
            vault.set_secret(APP, "C", "x")
        (tmp_path / "vault" / f"{APP}.json").write_bytes(good)
    assert vault.read_secrets(APP) == {"A": "two", "B": "three"}


def test_another_apps_file_is_refused(vault: Vault, tmp_path: Path) -> None:
    """One app's file in the place of another's does not open: keys are bound to the uuid."""
    vault.create_app(OTHER)
    folder = tmp_path / "vault"
    (folder / f"{OTHER}.json").write_bytes((folder / f"{APP}.json").read_bytes())
    with pytest.raises(VaultError, match="damaged or altered"):
        vault.volume_key(OTHER)


def test_another_apps_key_is_refused(vault: Vault, tmp_path: Path) -> None:
    """A single wrapped key of one app does not open as another's."""
    vault.create_app(OTHER)
    first = json.loads((tmp_path / "vault" / f"{APP}.json").read_bytes())

    def exchange(document: dict[str, Any]) -> None:
        document["keys"]["volume"] = first["keys"]["volume"]

    _edit(tmp_path / "vault", exchange, OTHER)
    with pytest.raises(VaultError, match="the volume key does not open"):
        vault.volume_key(OTHER)


def test_another_master_key_is_named_as_the_cause(vault: Vault, tmp_path: Path) -> None:
    """A wrong vault key is told apart from damage."""
    with pytest.raises(VaultError, match="sealed under another key"):
        Vault(tmp_path / "vault", bytes(32)).volume_key(APP)
    with pytest.raises(VaultError, match="must be 32 bytes"):
        Vault(tmp_path / "vault", b"short")


def test_unreadable_file_is_damage(vault: Vault, tmp_path: Path) -> None:
    """Junk in a file's place is refused with its path."""
    path = tmp_path / "vault" / f"{APP}.json"
    for junk in (b"", b"{", b"[]", b'{"v": 99}'):
        path.write_bytes(junk)
        with pytest.raises(VaultError, match=f"{APP}.json: damaged or altered"):
            vault.volume_key(APP)


def test_destroyed_app_is_overwritten_and_gone(vault: Vault, tmp_path: Path) -> None:
    """Destroying overwrites the wrapped keys on disk, then there is no such app."""
    path = tmp_path / "vault" / f"{APP}.json"
    os.link(path, tmp_path / "witness")
    before = path.read_bytes()
    assert vault.destroy_app(APP)
    assert (tmp_path / "witness").read_bytes() != before
    assert b"keys" not in (tmp_path / "witness").read_bytes()
    assert not vault.has_app(APP)
    assert not vault.destroy_app(APP)
    with pytest.raises(VaultError, match="holds no keys"):
        vault.volume_key(APP)


def test_replaced_file_leaves_no_wrapped_key_behind(vault: Vault, tmp_path: Path) -> None:
    """Each save overwrites the blocks of the file it replaces."""
    path = tmp_path / "vault" / f"{APP}.json"
    os.link(path, tmp_path / "witness")
    vault.set_secret(APP, "A", "x")
    assert b"keys" not in (tmp_path / "witness").read_bytes()


@pytest.mark.parametrize("uuid", ["", "../x", "A" * 32, "a" * 31, "a" * 32 + "\n"])
def test_uuid_cannot_leave_the_directory(vault: Vault, uuid: str) -> None:
    """Only a uuid by grammar becomes a file name."""
    with pytest.raises(VaultError, match="32 lower-case hexadecimal digits"):
        vault.create_app(uuid)


def test_concurrent_writers_lose_nothing(vault: Vault, tmp_path: Path) -> None:
    """Eight writers on their own vault objects each keep their secret."""

    def write(number: int) -> None:
        own = Vault(tmp_path / "vault", KEY)
        for turn in range(5):
            own.set_secret(APP, f"S{number}", str(turn))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vault.read_secrets(APP) == {f"S{number}": "4" for number in range(8)}
    assert all(item.version == 5 for item in vault.list_secrets(APP))


def test_repr_shows_no_key(vault: Vault) -> None:
    """A vault in a log line shows where it is, not what it holds."""
    assert KEY.hex() not in repr(vault)
    assert repr(vault).startswith("<Vault ")
