"""What the store of app records must hold."""

import json
from pathlib import Path

import pytest

from runner.store import AppRecord, GenerationRecord, Store, StoreError, pick_slot


def build_record(name: str = "hello", slot: int = 0) -> AppRecord:
    """A record with two generations."""
    generations = tuple(
        GenerationRecord(
            number=number,
            commit="c" * 40,
            env_hash="e",
            spec_hash="s",
            created_s=1.5,
            state="published",
        )
        for number in (1, 2)
    )
    return AppRecord(
        name=name,
        uuid=f"{slot:032x}",
        slot=slot,
        spec={"name": name, "hosts": ["hello.localhost"]},
        desired="running",
        generations=generations,
    )


def test_record_survives_a_round_trip(tmp_path: Path) -> None:
    """What was saved is what is loaded, from another store on the same directory too."""
    record = build_record()
    Store(tmp_path).save(record)
    assert Store(tmp_path).load("hello") == record
    assert record.find_generation(2) == record.generations[1]
    assert record.find_generation(3) is None


def test_unknown_app_is_none_and_delete_tells(tmp_path: Path) -> None:
    """A missing record is None; deleting tells whether there was one."""
    store = Store(tmp_path)
    assert store.load("hello") is None
    store.save(build_record())
    assert store.delete("hello")
    assert not store.delete("hello")
    assert store.load("hello") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "not an app record of version 1"),
        (b'{"v": 9}', "not an app record of version 1"),
        (b'{"v": 1, "name": "bad"}', "uuid: Field required"),
    ],
)
def test_damaged_file_is_told_and_hides_nothing(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """A damaged file is reported with its path while the other apps are listed."""
    store = Store(tmp_path)
    store.save(build_record())
    (tmp_path / "bad.json").write_bytes(content)
    listing = store.list()
    assert [app.name for app in listing.apps] == ["hello"]
    assert [item.path for item in listing.damaged] == [tmp_path / "bad.json"]
    assert message in listing.damaged[0].reason
    assert str(tmp_path / "bad.json") in listing.damaged[0].reason
    with pytest.raises(StoreError, match=r"bad\.json"):
        store.load("bad")


def test_unknown_key_and_foreign_name_are_damage(tmp_path: Path) -> None:
    """A key we do not know, or a record under another app's file name, is refused."""
    store = Store(tmp_path)
    store.save(build_record())
    document = json.loads((tmp_path / "hello.json").read_bytes())
    (tmp_path / "other.json").write_text(json.dumps(document))
    (tmp_path / "extra.json").write_text(json.dumps({**document, "name": "extra", "more": 1}))
    reasons = [item.reason for item in store.list().damaged]
    assert "more: Extra inputs are not permitted" in reasons[0]
    assert "holds the record of app 'hello'" in reasons[1]


@pytest.mark.parametrize("name", ["../x", "", "A", "a" * 41, "a-", ".lock", "a/b", "a\n"])
def test_name_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    """Only an app's name by grammar becomes a file name."""
    with pytest.raises(StoreError, match="is not an app's name"):
        Store(tmp_path / "apps").load(name)


def test_slots_are_the_lowest_free_and_never_shared(tmp_path: Path) -> None:
    """A freed slot is used again, and two apps never have the same one."""
    store = Store(tmp_path)
    for slot, name in enumerate("abc"):
        store.save(build_record(name, slot))
    assert store.find_free_slot(10) == 3
    store.delete("b")
    assert store.find_free_slot(10) == 1
    with pytest.raises(StoreError, match="slot 2 belongs to app 'c'"):
        store.save(build_record("d", 2))


def test_damaged_record_blocks_new_slots(tmp_path: Path) -> None:
    """While a record cannot be read its slot is unknown, so none is given out."""
    store = Store(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(StoreError, match=r"cannot tell which slots are free: .*bad\.json"):
        store.find_free_slot(10)


def test_full_slots_say_so() -> None:
    """When all slots are taken the error says what to do."""
    with pytest.raises(StoreError, match="all 2 are taken; remove an app first"):
        pick_slot([0, 1], 2)
