"""The checkout obeys the laws of docs/architecture.md, and the checker sees each law broken."""

from pathlib import Path

import pytest

from tests.architecture.laws import Breach, find_breaches

ROOT = Path(__file__).parents[2]

# (law, file) -> why the law does not bind it. A line that excuses nothing is itself a breach.
EXCEPTIONS: dict[tuple[str, str], str] = {}


def test_checkout_obeys_the_laws() -> None:
    """No file of the checkout breaks a law without a reason written in this file."""
    breaches = find_breaches(ROOT, EXCEPTIONS)
    assert not breaches, "\n" + "\n".join(map(str, breaches))


LEGAL = '"""A room."""\n'

BROKEN = [
    ("direction", "pki/a.py", "from gateway import x"),
    ("direction", "gateway/a.py", "import runner"),
    ("root-only", "runner/a.py", "from pki.identity import x"),
    ("root-only", "gateway/a.py", "import pki.identity"),
    ("root-only", "gateway/a.py", "from ..pki import identity"),
    ("agent", "runner/agent/a.py", "import aiohttp"),
    ("agent", "runner/agent/a.py", "import runner"),
    ("late-import", "gateway/a.py", "def f():\n    import json"),
    ("quarantine", "runner/engines/process.py", "import docker.errors"),
    ("quarantine", "runner/build.py", "import subprocess"),
    ("quarantine", "runner/build.py", "import asyncio\nx = asyncio.create_subprocess_exec('a')"),
    ("quarantine", "gateway/tls.py", "from cryptography import x509"),
    ("quarantine", "gateway/routes.py", "import yaml"),
    ("pure", "gateway/framing.py", "import asyncio"),
    ("pure", "gateway/pages/page.py", "from pathlib import Path"),
    ("pure", "runner/plan.py", "import time"),
    ("pure", "pki/issuer.py", "x = open('y')"),
    ("pure", "gateway/pool.py", "async def f(): ..."),
    ("names", "gateway/utils.py", ""),
    ("names", "runner/common/a.py", ""),
    ("names", "gateway/session_manager.py", ""),
    ("names", "gateway/a.py", "class AppHandler: ..."),
    ("module-size", "gateway/a.py", "x = 1\n" * 400),
    ("function-size", "gateway/a.py", "def f():\n" + "    x = 1\n" * 50),
    ("tasks", "gateway/a.py", "import asyncio\nasyncio.create_task(f())"),
    ("tasks", "gateway/a.py", "from asyncio import create_task\ncreate_task(f())"),
    ("tasks", "gateway/a.py", "self._loop.create_task(f())"),
    ("tasks", "gateway/a.py", "asyncio.ensure_future(f())"),
    ("clock", "gateway/a.py", "import datetime\nx = datetime.datetime.now()"),
    ("clock", "runner/a.py", "import time\nx = time.time()"),
]


def plant(root: Path, path: str, body: str) -> None:
    """One source file and its mirror."""
    for name, text in ((path, LEGAL + body + "\n"), (mirror_of(path), LEGAL)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def mirror_of(path: str) -> str:
    """Where the test file of `path` must be."""
    folder, _, name = path.rpartition("/")
    return f"tests/{folder}/test_{name}"


def laws_of(breaches: list[Breach]) -> set[str]:
    """Which laws were broken."""
    return {breach.law for breach in breaches}


@pytest.mark.parametrize(("law", "path", "body"), BROKEN)
def test_each_law_is_seen_broken(tmp_path: Path, law: str, path: str, body: str) -> None:
    """A made-up file that breaks one law is reported with that law and its path."""
    plant(tmp_path, path, body)
    found = find_breaches(tmp_path, {})
    assert [breach.path for breach in found if breach.law == law] == [path]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runner/a.py", "from pki import x\nfrom gateway import y\nfrom runner.b import z"),
        ("gateway/a.py", "from pki import x\nfrom . import routes"),
        ("runner/engines/docker.py", "import docker"),
        ("runner/host.py", "import asyncio\nx = asyncio.create_subprocess_exec('a')"),
        ("runner/agent/a.py", "import ssl\nimport subprocess\nimport a"),
        ("runner/vault.py", "from cryptography.hazmat import x"),
        ("gateway/a.py", "async def f(group): group.create_task(g())"),
        ("gateway/framing.py", "import re\nfrom datetime import datetime"),
        ("runner/__main__.py", "import time\nx = time.time()"),
    ],
)
def test_lawful_files_pass(tmp_path: Path, path: str, body: str) -> None:
    """What the laws allow raises no false alarm."""
    plant(tmp_path, path, body)
    assert find_breaches(tmp_path, {}) == []


def test_missing_mirror_is_seen(tmp_path: Path) -> None:
    """A source file without its test file is reported; package roots and wiring need none."""
    plant(tmp_path, "pki/engines/a.py", "")
    (tmp_path / "tests/pki/engines/test_a.py").unlink()
    (tmp_path / "pki/__init__.py").write_text(LEGAL)
    (tmp_path / "pki/__main__.py").write_text(LEGAL)
    assert laws_of(find_breaches(tmp_path, {})) == {"mirror"}


def test_medians_are_seen(tmp_path: Path) -> None:
    """Many middling modules and functions are reported although none passes its cap."""
    body = "def f():\n" + "    x = 1\n" * 20 + "x = 1\n" * 200
    for name in ("a", "b", "c"):
        plant(tmp_path, f"gateway/{name}.py", body)
    found = find_breaches(tmp_path, {})
    assert laws_of(found) == {"module-median", "function-median"}
    assert {breach.path for breach in found} == {"."}


def test_missing_docstrings_and_mocks_are_seen(tmp_path: Path) -> None:
    """A module or a test that says nothing, and a mock, are reported."""
    plant(tmp_path, "gateway/a.py", "")
    (tmp_path / "gateway/a.py").write_text("x = 1\n")
    (tmp_path / "tests/gateway/test_a.py").write_text(
        "from unittest.mock import Mock\ndef test_x(): ...\n"
    )
    assert laws_of(find_breaches(tmp_path, {})) == {"docstring", "mocks", "test-docstring"}


def test_exception_excuses_one_file_and_must_be_needed(tmp_path: Path) -> None:
    """A reasoned line excuses its file only; a stale line or one without a reason is a breach."""
    plant(tmp_path, "gateway/a.py", "import time\nx = time.time()")
    key = ("clock", "gateway/a.py")
    assert find_breaches(tmp_path, {key: "measures the clock itself"}) == []
    assert laws_of(find_breaches(tmp_path, {key: " "})) == {"exception"}
    assert laws_of(find_breaches(tmp_path, {key: "x", ("clock", "pki/b.py"): "y"})) == {"exception"}
