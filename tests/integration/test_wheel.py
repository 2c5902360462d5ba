"""The wheel: what `pip install` of it gives."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout, without a network."""
    out = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*argv, str(ROOT)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    """No test, no configuration of ours, and the agent and the pages are in it."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops - {"gateway", "runner", "pki"} == {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }
    assert "runner/agent/__main__.py" in names
    assert "pki/py.typed" in names


def test_an_installed_wheel_gives_a_working_command(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment, with the locked dependencies, far away from the checkout."""
    uv = Path(sys.executable).with_name("uv")
    env = os.environ | {"VIRTUAL_ENV": str(tmp_path / "venv"), "UV_SYSTEM_CERTS": "1"}
    base = ["--quiet", "--python", str(tmp_path / "venv/bin/python")]
    for argv in (
        ["venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")],
        ["pip", "install", *base, "--require-hashes", "-r", str(ROOT / "locks/run.txt")],
        ["pip", "install", *base, "--no-deps", str(wheel)],
        ["pip", "check", "--python", str(tmp_path / "venv/bin/python")],
    ):
        done = subprocess.run([str(uv), *argv], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    lockgate = tmp_path / "venv/bin/lockgate"
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    shown = subprocess.run([str(lockgate), "--version"], env=clean, capture_output=True, text=True)
    assert shown.returncode == 0
    assert shown.stdout.strip().endswith("0.1.0")
    (tmp_path / "lockgate.yaml").write_text(f"run_dir: {tmp_path}/run\nstate_dir: {tmp_path}/s\n")
    asked = subprocess.run(
        [str(lockgate), "status", "--config", str(tmp_path / "lockgate.yaml")],
        env=clean,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 1
    assert "lockgate up" in asked.stderr
    assert "Traceback" not in asked.stderr
