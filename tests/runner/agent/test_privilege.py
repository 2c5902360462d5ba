"""What the kernel says after each step of giving up; each step runs in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.agent import ROOT

SETUP = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import privilege
def status():
    with open("/proc/self/status") as file:
        return {name: text.split() for name, _, text in (line.partition(":") for line in file)}
"""


def run(script: str, *prefix: str):
    """What `script` prints as JSON, with `privilege` imported and `status()` at hand."""
    argv = [*prefix, sys.executable, "-I", "-S", "-B", "-c", SETUP + script]
    done = subprocess.run(
        [*argv, str(ROOT / "runner" / "agent")], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_no_core_dumps():
    """The limit is nothing, soft and hard."""
    script = "privilege.limit_core_dumps(); import resource;"
    script += "print(json.dumps(resource.getrlimit(resource.RLIMIT_CORE)))"
    assert run(script) == [0, 0]


def test_no_new_privileges():
    """The kernel's own word for it."""
    assert run("privilege.forbid_new_privileges(); print(json.dumps(status()['NoNewPrivs']))") == [
        "1"
    ]


def test_open_files_rise_to_what_is_wanted_and_allowed():
    """Never above the hard limit, never lowered."""
    script = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500))
print(json.dumps([privilege.raise_open_files(n) for n in (50, 200, 8192)]))
"""
    assert run(script) == [100, 200, 500]


@pytest.mark.root
def test_agent_keeps_kill_alone():
    """One capability, permitted and effective, nothing else in any set, and no way to read it."""
    script = """
privilege.become_agent(200000)
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
found = {name: text for name, text in status().items() if name.startswith(("Cap", "Uid", "Gid"))}
print(json.dumps([found, back, os.stat("/proc/self/fd").st_uid]))
"""
    found, back, owner = run(script)
    kill, none = [f"{1 << 5:016x}"], ["0" * 16]
    assert not back
    assert found["Uid"] == found["Gid"] == ["200000"] * 4
    assert found["CapPrm"] == found["CapEff"] == kill
    assert found["CapInh"] == found["CapBnd"] == found["CapAmb"] == none
    assert owner == 0  # not dumpable: /proc/<pid> belongs to root


@pytest.mark.root
def test_app_keeps_nothing():
    """No capability in any set and no group but its own."""
    script = """
os.setgroups([4, 24])
privilege.drop_bounding_set()
privilege.become_app(200001)
print(json.dumps({name: status()[name] for name in
    ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}))
"""
    found = run(script)
    assert found.pop("Uid") == found.pop("Gid") == ["200001"] * 4
    assert found.pop("Groups") == []
    assert all(text == ["0" * 16] for text in found.values())


@pytest.mark.root
def test_acting_as_ends_with_the_block():
    """Within it the effective uid is another's, after it all is as before, errors included."""
    script = """
seen = []
try:
    with privilege.ActingAs(200000):
        seen.append(os.geteuid())
        raise KeyError
except KeyError:
    seen.append(os.geteuid())
with privilege.ActingAs(None), privilege.ActingAs(0):
    seen.append(os.geteuid())
print(json.dumps([seen, status()["CapEff"] == status()["CapPrm"]]))
"""
    assert run(script) == [[200000, 0, 0], True]


@pytest.mark.root
def test_an_ordinary_user_cannot_become_another():
    """Wanting a uid that one cannot have is an error, for agent and app alike."""
    script = """
os.setresuid(200000, 200000, 200000)
failed = []
for become in (privilege.become_agent, privilege.become_app):
    try:
        become(200001)
    except OSError as error:
        failed.append(type(error).__name__)
print(json.dumps(failed))
"""
    assert run(script) == ["PermissionError", "PermissionError"]


def test_staying_who_one_is():
    """Without uids the agent only hides its memory (PR_GET_DUMPABLE is 3)."""
    script = "privilege.become_agent(None); privilege.become_app(None);"
    script += "print(json.dumps([os.getresuid(), privilege._libc.prctl(3, 0, 0, 0, 0)]))"
    assert run(script) == [list(os.getresuid()), 0]


def test_dying_with_a_parent_that_is_gone():
    """A child that was too late learns it at once."""
    script = """
try:
    privilege.die_with_parent(1 if os.getppid() != 1 else 2, 9)
except ProcessLookupError:
    print(json.dumps("too late"))
"""
    assert run(script) == "too late"
