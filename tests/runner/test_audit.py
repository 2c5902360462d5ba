"""What the audit log must hold."""

import json
import os
import threading
from pathlib import Path

import pytest

from runner.audit import Audit, AuditError, Verified


def test_entries_are_chained_and_private(tmp_path: Path) -> None:
    """Each entry carries who, what and when, in a private file whose chain verifies."""
    audit = Audit(tmp_path / "audit.jsonl", clock=lambda: 12.5)
    assert audit.verify().entries == 0
    audit.append("secret set", "hello", {"name": "TOKEN", "version": 1}, actor=1000)
    audit.append("deploy", "hello")
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert first == {
        "v": 1,
        "time_s": 12.5,
        "actor": 1000,
        "action": "secret set",
        "app": "hello",
        "details": {"name": "TOKEN", "version": 1},
        "prev": "0" * 64,
    }
    assert json.loads(lines[1])["actor"] == os.geteuid()
    verified = Audit(tmp_path / "audit.jsonl").verify()
    assert verified.entries == 2
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("how", ["change", "remove", "swap", "junk", "insert"])
def test_altered_log_is_noticed_where_it_was_altered(tmp_path: Path, how: str) -> None:
    """A line that was changed, removed, moved or added breaks the chain at its place."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    for number in range(6):
        audit.append("deploy", f"app{number}")
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "change":
        lines[2] = lines[2].replace(b"app2", b"appX")
    elif how == "remove":
        del lines[2]
    elif how == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    elif how == "junk":
        lines[3] = b"junk\n"
    else:
        lines.insert(3, lines[1])
    path.write_bytes(b"".join(lines))
    where = {"change": 4, "remove": 3, "swap": 3, "junk": 4, "insert": 4}[how]
    with pytest.raises(AuditError, match=rf"audit\.jsonl:{where}: the chain is broken here"):
        audit.verify()


def test_torn_entry_is_removed_and_told(tmp_path: Path) -> None:
    """A line cut short by a crash does not break the chain; that it was there is an entry."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    audit.append("deploy", "a")
    with path.open("ab") as file:
        file.write(b'{"v":1,"time')
    audit.append("deploy", "b")
    actions = [json.loads(line)["action"] for line in path.read_bytes().splitlines()]
    assert actions == ["deploy", "torn entry removed", "deploy"]
    assert audit.verify().entries == 3


def test_torn_first_entry_is_mended(tmp_path: Path) -> None:
    """The very first line may be the torn one."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"v"')
    Audit(path).append("deploy", "a")
    assert Audit(path).verify().entries == 2


def test_concurrent_writers_keep_the_chain(tmp_path: Path) -> None:
    """Eight writers on their own objects make one unbroken chain."""

    def write() -> None:
        own = Audit(tmp_path / "audit.jsonl")
        for _ in range(10):
            own.append("deploy", "a")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Audit(tmp_path / "audit.jsonl").verify().entries == 80


def test_entry_too_long_is_refused(tmp_path: Path) -> None:
    """An entry that would not be found again at the end of the file is not written."""
    audit = Audit(tmp_path / "audit.jsonl")
    with pytest.raises(AuditError, match="too long"):
        audit.append("deploy", "a", {"x": "y" * 20000})
    assert audit.verify() == Verified(0, "0" * 64)


def test_log_is_never_written_through_a_link(tmp_path: Path) -> None:
    """A link in the log's place is an error with its path."""
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match=r"audit\.jsonl: too many levels"):
        Audit(tmp_path / "audit.jsonl").append("deploy", "a")
    assert not (tmp_path / "elsewhere").exists()
