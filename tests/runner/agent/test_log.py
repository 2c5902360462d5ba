"""The app's log on disk."""

import os
import stat
import time
from pathlib import Path

import pytest

from runner.agent.log import MAX_LINE_BYTES, Log, LogFile, Refusals

STAMP = b"2001-09-09T01:46:40.250Z "


def build_log(path: Path, max_bytes: int = 10**6, files: int = 2) -> Log:
    """A log at a fixed time."""
    return Log(LogFile(str(path), max_bytes, files), lambda: 1_000_000_000.25)


def read_lines(path: Path) -> list[bytes]:
    """Lines without their times, which must all be there."""
    lines = path.read_bytes().splitlines()
    assert all(line.startswith(STAMP) for line in lines)
    return [line[len(STAMP) :] for line in lines]


def test_lines_are_stamped_however_they_are_cut_into_pieces(tmp_path):
    """Lines are the app's, not the pipe's."""
    log = build_log(tmp_path / "log")
    for piece in (b"on", b"e\ntwo\nthr", b"ee\r\n", b"\n", b"rest"):
        log.write_app(piece)
    assert read_lines(tmp_path / "log") == [b"one", b"two", b"three", b""]
    log.flush()
    log.flush()
    assert read_lines(tmp_path / "log")[4:] == [b"rest"]


def test_overlong_lines_are_cut_and_cost_no_memory(tmp_path):
    """A line without end is cut once; the next line is whole again."""
    log = build_log(tmp_path / "log")
    for _ in range(100):
        log.write_app(b"x" * 65536)
    log.write_app(b"still the same\nnext\n" + b"y" * 20000 + b"\nlast\n")
    cut = MAX_LINE_BYTES
    assert read_lines(tmp_path / "log") == [
        b"x" * cut + b" [cut]",
        b"next",
        b"y" * cut + b" [cut]",
        b"last",
    ]


def test_own_lines_cannot_be_forged(tmp_path):
    """An app that writes like the agent is told apart, and control characters are shown."""
    log = build_log(tmp_path / "log")
    log.write_own("real \n\x1b[2J line")
    log.write_app(b"agent: forged\nagent:forged\nan agent: ok\n")
    assert read_lines(tmp_path / "log") == [
        b"agent: real \\n\\x1b[2J line",
        b"app: agent: forged",
        b"app: agent:forged",
        b"an agent: ok",
    ]


def test_size_is_bounded_and_nothing_is_written_twice(tmp_path):
    """All files together stay within the limit and the newest lines are there, in order."""
    path = tmp_path / "log"
    log = build_log(path, max_bytes=10_000, files=3)
    for number in range(2000):
        log.write_app(b"line %d\n" % number)
    files = sorted(entry.name for entry in tmp_path.iterdir())
    assert files == ["log", "log.1", "log.2"]
    assert all((tmp_path / name).stat().st_size <= 10_000 for name in files)
    lines = [line for name in reversed(files) for line in read_lines(tmp_path / name)]
    first = int(lines[0].split()[1])
    assert lines == [b"line %d" % number for number in range(first, 2000)]
    assert first < 1500


def test_a_single_file_starts_anew(tmp_path):
    """With one file there is no older one."""
    log = build_log(tmp_path / "log", max_bytes=200, files=1)
    for number in range(100):
        log.write_app(b"line %d\n" % number)
    assert [entry.name for entry in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").stat().st_size <= 200
    assert read_lines(tmp_path / "log")[-1] == b"line 99"


def test_appends_to_what_was_there(tmp_path):
    """A restarted agent goes on where the last one ended, its size counted."""
    (tmp_path / "log").write_bytes(b"x" * 190 + b"\n")
    build_log(tmp_path / "log", max_bytes=200).write_app(b"new\n")
    assert (tmp_path / "log.1").read_bytes() == b"x" * 190 + b"\n"
    assert read_lines(tmp_path / "log") == [b"new"]


def test_only_its_owner_reads_it(tmp_path):
    """The log is 0600 whatever the umask."""
    before = os.umask(0)
    try:
        build_log(tmp_path / "log").write_app(b"x\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path):
    """A link planted where the log belongs leads nowhere, and nothing is raised."""
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "log").symlink_to("elsewhere")
    build_log(tmp_path / "log").write_app(b"x\n")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_disk_that_takes_nothing_blocks_nobody_and_is_told_later(tmp_path):
    """Writes that fail are counted; the count is the first line once there is room."""
    folder = tmp_path / "missing"
    log = build_log(folder / "log")
    log.write_app(b"lost\n")
    log.write_app(b"lost\n")
    folder.mkdir()
    log.write_app(b"kept\n")
    lines = (folder / "log").read_bytes().split(b"\n")
    assert lines[1:3] == [
        STAMP + b"agent: 2 writes to this log failed before this line",
        STAMP + b"kept",
    ]


def test_a_full_disk_takes_what_fits(tmp_path):
    """On a device without room a write is a loss, not an error."""
    file = LogFile("/dev/full", 10**6, 1)
    assert not file.write(b"x\n")
    assert file.lost == 1


def test_refusals_are_listed_within_bounds(tmp_path):
    """A flood of refused peers leaves a burst, then a trickle, and says how many it left out."""
    log = build_log(tmp_path / "log")
    now = [100.0]
    refusals = Refusals(log, lambda: now[0], burst=3, per_s=1.0)
    for _ in range(1000):
        refusals.report("10.0.0.1", "no certificate")
    assert read_lines(tmp_path / "log") == [b"agent: refused 10.0.0.1: no certificate"] * 3
    now[0] += 1.5
    refusals.report("10.0.0.2", "expired")
    assert read_lines(tmp_path / "log")[3:] == [
        b"agent: refused 997 more, not listed",
        b"agent: refused 10.0.0.2: expired",
    ]


def test_the_clock_is_read_in_utc(tmp_path, monkeypatch):
    """The operator's time zone does not move the times."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        build_log(tmp_path / "log").write_app(b"x\n")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert read_lines(tmp_path / "log") == [b"x"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_rotation_that_fails_keeps_the_file(tmp_path, count):
    """When files cannot be moved, the log is never cut off in silence: it is counted as lost."""
    path = tmp_path / "log"
    log = build_log(path, max_bytes=100, files=2)
    log.write_app(b"a" * 60 + b"\n")
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in the way").touch()
    for _ in range(count):
        log.write_app(b"b" * 60 + b"\n")
    assert read_lines(path) == [b"a" * 60]
