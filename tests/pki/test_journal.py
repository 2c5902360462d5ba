"""What must hold of the journal."""

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pki.errors import JournalError
from pki.journal import GENESIS, Head, Journal, verify_journal

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An open, empty journal."""
    journal = Journal(tmp_path / "j")
    yield journal
    journal.close()


def fill(journal: Journal, count: int, size: int = 10) -> None:
    """One line an hour."""
    for number in range(count):
        journal.append("issued", NOW + number * HOUR, number=number, text="x" * size)


def test_each_line_names_the_one_before(journal: Journal, tmp_path: Path) -> None:
    """The chain can be followed with nothing but a SHA-256."""
    fill(journal, 3)
    previous = GENESIS
    for seq, line in enumerate((tmp_path / "j").read_bytes().splitlines(), 1):
        entry = json.loads(line)
        assert (entry["seq"], entry["prev"], entry["event"]) == (seq, previous, "issued")
        previous = hashlib.sha256(line).hexdigest()
    assert journal.head == Head(3, previous) == verify_journal(tmp_path / "j")


def test_a_new_process_goes_on_where_the_last_ended(tmp_path: Path) -> None:
    """The chain spans restarts."""
    for _ in range(3):
        journal = Journal(tmp_path / "j")
        fill(journal, 2)
        journal.close()
    assert verify_journal(tmp_path / "j").seq == 6


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.integers(0, 30), st.sampled_from([1, 100, 70_000]), st.integers(0, 31))
def test_reading_back_finds_exactly_what_is_recent(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, since: int
) -> None:
    """Lines from an instant on come back in order, whatever their number and length."""
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal(path)
    fill(journal, count, size)
    found = [entry["number"] for entry in journal.read_since(NOW + since * HOUR)]
    journal.close()
    assert found == list(range(since, count))
    assert verify_journal(path).seq == count


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0], lines[1].replace(b'"number":1', b'"number":7'), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [lines[0], lines[1], lines[1], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], b"not json\n", *lines[2:]],
        lambda lines: [lines[0], b"[]\n", *lines[2:]],
        lambda lines: [lines[0], b"\n", *lines[1:]],
    ],
    ids=["changed", "removed", "swapped", "doubled", "first removed", "junk", "list", "empty"],
)
def test_tampering_is_found(tmp_path: Path, tamper: object) -> None:
    """A changed, removed, moved or inserted line breaks the chain."""
    path = tmp_path / "j"
    journal = Journal(path)
    fill(journal, 5)
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(tamper(lines)))
    with pytest.raises(JournalError, match=r"line [0-9]"):
        verify_journal(path)


def test_tampering_is_found_when_reading_back(tmp_path: Path) -> None:
    """The lines that a start relies on are checked as it reads them."""
    path = tmp_path / "j"
    journal = Journal(path)
    fill(journal, 5)
    journal.close()
    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":9'))
    journal = Journal(path)
    with pytest.raises(JournalError, match="line 3 was changed"):
        journal.read_since(NOW)
    assert len(journal.read_since(NOW + 4 * HOUR)) == 1
    journal.close()


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_torn_line_is_cut(tmp_path: Path, cut: int) -> None:
    """A crash in the middle of a write leaves a journal that opens and verifies."""
    path = tmp_path / "j"
    journal = Journal(path)
    fill(journal, 3)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(JournalError):
        verify_journal(path)
    journal = Journal(path)
    assert journal.head.seq == 2
    assert journal.torn_bytes == len(whole.splitlines(keepends=True)[-1]) - cut
    journal.append("recovered", NOW)
    journal.close()
    assert verify_journal(path).seq == 3


def test_only_one_process_writes(journal: Journal, tmp_path: Path) -> None:
    """A second process is refused while the first has it open."""
    with pytest.raises(JournalError, match="another pki is running"):
        Journal(tmp_path / "j")
    journal.append("x", NOW)


def test_unsafe_files_are_refused(tmp_path: Path) -> None:
    """A link, a directory and a file whose last line is foreign do not open."""
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path / "link")
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(tmp_path)
    (tmp_path / "foreign").write_text("hello\n")
    with pytest.raises(JournalError, match="not a journal line"):
        Journal(tmp_path / "foreign")
    with pytest.raises(JournalError, match="cannot be read"):
        verify_journal(tmp_path / "absent")


def test_the_file_is_private(journal: Journal, tmp_path: Path) -> None:
    """Who was issued what is nobody else's business."""
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_huge_line_is_refused(journal: Journal) -> None:
    """A line has at most 1 MiB, so that reading back is bounded."""
    with pytest.raises(JournalError, match="longer than 1 MiB"):
        journal.append("x", NOW, text="x" * (1 << 20))
    assert journal.head.seq == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    """When a line cannot be written, the error says so and what was there stays whole."""
    path = tmp_path / "j"
    journal = Journal(path)
    fill(journal, 2)
    head, content = journal.head, path.read_bytes()
    full = os.open("/dev/full", os.O_RDWR)
    spare = os.dup(journal._descriptor)
    os.dup2(full, journal._descriptor)
    with pytest.raises(JournalError, match="No space left"):
        journal.append("x", NOW)
    os.dup2(spare, journal._descriptor)
    os.close(full)
    os.close(spare)
    assert (journal.head, path.read_bytes()) == (head, content)
    journal.append("x", NOW)
    journal.close()
    assert verify_journal(path).seq == 3


def test_text_of_strangers_stays_one_line(journal: Journal, tmp_path: Path) -> None:
    """Newlines and other characters in a field are escaped."""
    journal.append("refused", NOW, message='a\n{"seq":9}\u2028ü')
    assert verify_journal(tmp_path / "j").seq == 1
    assert journal.read_since(NOW)[0]["message"] == 'a\n{"seq":9}\u2028ü'
