"""The README keeps its word: its commands run, its links lead somewhere, its checks exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixtures import Site
from tests.support.installation import build_env
from tests.support.repos import GIT_ENV

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def read_block(tag: str) -> str:
    """The code block whose fence ends with `tag`."""
    match = re.search(rf"^```sh {tag}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert match is not None, f"README has no block {tag}"
    return match[1]


@pytest.mark.docker
@pytest.mark.root
def test_the_first_own_app_works_as_written(docker_site: Site, tmp_path: Path) -> None:
    """Copied into a shell line by line, every command succeeds and says what it should."""
    tools = Path(sys.executable).parent
    env = build_env(docker_site.lockgate.config_path) | GIT_ENV
    env["PATH"] = f"{tools}:{os.environ['PATH']}"
    script = f"set -eux\n{read_block('first-app')}"
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "healthy" in done.stdout
    assert "https://forecast.localhost" in done.stdout
    assert "removed forecast" in done.stdout


def test_every_file_that_the_readme_names_is_there() -> None:
    """Links, pictures, and the tests that check the promises."""
    linked = re.findall(r'(?:\]\(|src(?:set)?=")([^)#"]+)', README)
    named = re.findall(r"`(tests/[^`]+)`", README)
    paths = [path for path in linked + named if "://" not in path]
    assert len(paths) > 20
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


def test_every_make_target_that_the_documents_name_exists() -> None:
    """`make …` in README and CONTRIBUTING."""
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"\bmake ([a-z]+)", text)) - {"sure", "it"}
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test", "check", "bench", "build"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
