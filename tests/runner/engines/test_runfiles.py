"""What is kept of each process."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from runner.engines import EngineError
from runner.engines.procfs import ProcessIdentity
from runner.engines.runfiles import ProcessRecord, RunFiles, is_open_to_all
from tests.support.passable import open_passable_folder

RECORD = ProcessRecord("hello", 3, "ab", "cafe", "unix:/x", ProcessIdentity(1, 2, "boot"), ())


@pytest.fixture
def files(tmp_path):
    """A folder of an engine."""
    files = RunFiles(tmp_path / "engine")
    files.open()
    return files


def test_record_comes_back(files):
    """A record is read as it was written, and only root or its owner may read it."""
    files.save(RECORD)
    assert list(files.list()) == [RECORD]
    assert files.find("hello", 3) == RECORD
    assert files.find("hello", 4) is None
    assert files._record_path("hello", 3).stat().st_mode & 0o777 == 0o600


def test_spoilt_record_is_skipped(files):
    """A record that cannot be read hides no other."""
    files.save(RECORD)
    files.save(replace(RECORD, generation=4))
    files._record_path("hello", 3).write_text('{"app": 1')
    assert [record.generation for record in files.list()] == [4]


def test_removal_takes_all(files, tmp_path):
    """Record, folder, error file and RAM directories of a generation go together."""
    ram = tmp_path / "ram"
    ram.mkdir()
    files.save(RECORD)
    files.make_place("hello", 3, None)
    files.errors_path("hello", 3).write_text("x")
    files.remove("hello", 3, (str(ram),))
    assert list((tmp_path / "engine").iterdir()) == []
    assert not ram.exists()
    files.remove("hello", 3, (str(ram),))


def test_path_that_is_too_long(tmp_path):
    """A socket path that the kernel cannot take is told with the key to change."""
    with pytest.raises(EngineError, match="set a shorter run_dir"):
        RunFiles(tmp_path / ("x" * 100)).socket_path("hello", 3)


def test_programs_in_private_places_are_copied(files):
    """What other users cannot reach is copied once to where they can; the rest stays."""
    with open_passable_folder() as folder:
        program = folder / "program"
        program.write_text("x")
        program.chmod(0o755)
        assert files.open_to_all(program) == program
        folder.chmod(0o700)
        copy = files.open_to_all(program)
        assert copy != program
        assert copy.read_text() == "x"
        assert copy.stat().st_mode & 0o777 == 0o755
        assert files.open_to_all(program) == copy


def test_folder_of_programs_is_copied_whole(files, tmp_path):
    """A private folder is copied with what is in it."""
    agent = tmp_path / "agent"
    agent.mkdir(mode=0o700)
    (agent / "__main__.py").write_text("x")
    assert (files.open_to_all(agent) / "__main__.py").read_text() == "x"


@pytest.mark.parametrize(("path", "result"), [("/usr/bin", True), ("/etc/shadow", False)])
def test_who_may_read(path, result):
    """A path is open if every uid may read it and pass through all above it."""
    if not Path(path).exists() or not os.access(Path(path).parent, os.X_OK):
        pytest.skip(f"{path} is not here")
    assert is_open_to_all(Path(path)) is result
