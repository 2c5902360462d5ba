"""Which Python and which sandbox work here."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from runner.engines import EngineError, interpreter
from runner.engines.interpreter import find_ability, find_python, list_pythons, read_links
from tests.support.passable import open_passable_folder

UID = 345678 if os.geteuid() == 0 else None


async def test_python_runs_as_the_uid():
    """The Python that is found runs as the app's uid, with its prefix."""
    python, prefix = await find_python(UID)
    assert python.version >= "3.11"
    assert Path(python.path).exists()
    assert Path(prefix, "lib").is_dir()


@pytest.mark.skipif(UID is None, reason="needs root to try another uid")
async def test_python_that_the_uid_cannot_reach(monkeypatch, tmp_path):
    """An interpreter in a private directory is passed over; without another, all are told."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "python3").symlink_to("/usr/bin/python3")
    monkeypatch.setattr(sys, "_base_executable", str(private / "python3"))
    python, _ = await find_python(UID)
    assert python.path != str(private / "python3")
    monkeypatch.setattr(interpreter, "USUAL", ())
    with pytest.raises(EngineError, match=r"no Python 3\.11 \S+ apps may run \(\S+private/python3"):
        await find_python(UID)


async def test_python_that_is_too_old(monkeypatch):
    """An interpreter that is too old is passed over and told."""
    with open_passable_folder() as folder:
        old = folder / "python3"
        old.write_text("#!/bin/sh\necho '3|9|1|/usr'\n")
        old.chmod(0o755)
        monkeypatch.setattr(sys, "_base_executable", str(old))
        monkeypatch.setattr(interpreter, "USUAL", ())
        with pytest.raises(EngineError, match=r"python3 is 3\.9\.1"):
            await find_python(UID)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
async def test_sandbox_is_tried():
    """Where bubblewrap works, the first variant that ran is taken."""
    ability = await find_ability(UID)
    assert ability.tools
    assert ability.bwrap_version.startswith("bubblewrap ")
    assert ability.why_plain == ""


async def test_sandbox_that_fails(monkeypatch):
    """Where no variant works, the reason is told and there is none."""
    monkeypatch.setattr(interpreter, "VARIANTS", (("--no-such-option",),))
    ability = await find_ability(UID)
    assert ability.tools is None
    assert "no-such-option" in ability.why_plain


async def test_sandbox_that_is_missing(monkeypatch):
    """Without bubblewrap its package is told."""
    monkeypatch.setattr("runner.host.SYSTEM_FOLDERS", "/no/such/folder")
    monkeypatch.setenv("PATH", "/no/such/folder")
    ability = await find_ability(UID)
    assert ability.tools is None
    assert "apt-get install bubblewrap" in ability.why_plain


def test_own_python_comes_first():
    """Our own interpreter without its virtualenv is the first candidate, each is tried once."""
    found = list(list_pythons())
    assert found[0] == sys._base_executable
    assert len(found) == len(set(found))


def test_links_are_the_hosts():
    """/bin is told as the link or directory that it is."""
    links = read_links()
    assert links["/bin"] == (os.readlink("/bin") if Path("/bin").is_symlink() else None)
