"""Environments built by the real uv in real throw-away containers, from the package index."""

import asyncio
import os
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uv

from runner.building.perform import (
    MARKER,
    BuildError,
    build_environment,
    find_ca_bundle,
    hash_tree,
    read_files,
)
from runner.config import BuildConfig
from runner.engines import CODE, VENV, BuildSpec, Engine, EngineFacts, Mount, Resources
from runner.engines.docker import DockerEngine
from runner.engines.process import ProcessEngine
from runner.layout import VolumeLayout
from runner.spec.model import AppSpec, Source
from runner.store import AppRecord
from tests.runner.engines.test_docker import REASON
from tests.support.passable import open_passable_folder
from tests.support.ports import pick_address_pool

UID = 234568 if os.geteuid() == 0 else None
SPEC = AppSpec(name="hello", hosts=("h.localhost",), source=Source(repo="/x"), entrypoint="app.py")
RECORD = AppRecord(name="hello", uuid="ab" * 16, slot=0, spec={}, desired="running")
PROJECT = '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\n'
LOCKED = f'{PROJECT}dependencies = ["six"]\n[dependency-groups]\ndev = ["toml"]\n'


@dataclass
class Bench:
    """An app's volume with code, and the engine that builds on it."""

    engine: Engine
    facts: EngineFacts
    layout: VolumeLayout
    settings: BuildConfig = field(default_factory=BuildConfig)
    lines: list[str] = field(default_factory=list)

    def write(self, **files: str) -> None:
        """Make these the code of generation 1 (`__` in a name stands for a dot)."""
        code = self.layout.code(1)
        code.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (code / name.replace("__", ".")).write_text(text)

    async def build(self, spec: AppSpec = SPEC, **settings: object):
        """Build what the code asks for."""
        config = self.settings.model_copy(update=settings)
        where = (self.engine, self.facts, config, spec, RECORD, self.layout)
        return await build_environment(*where, 1, UID, self.lines.append)

    async def run(self, env_hash: str, script: str) -> str:
        """What a script prints in an environment that is mounted read-only."""
        mounts = (
            Mount(self.layout.code(1), CODE),
            Mount(self.layout.environment(env_hash), VENV),
        )
        lines: list[str] = []
        python = f"{self.engine.locate(mounts, VENV)}/bin/python"
        spec = BuildSpec(
            app="hello",
            uuid=RECORD.uuid,
            slot=0,
            argv=(python, "-c", script),
            env={},
            mounts=mounts,
            tmpfs=(),
            resources=Resources(256 * 2**20, 1.0, 64),
            uid=UID or os.getuid(),
            timeout_s=60,
        )
        code = await self.engine.build(spec, lines.append)
        return "\n".join(lines) if code == 0 else f"exit code {code}: {lines}"


def open_engine(kind: str, folder: Path) -> Engine:
    """An engine of a kind, with names, bridges and a folder of its own."""
    if kind == "process":
        return ProcessEngine(folder / "engine", uid_base=(UID or 1) - 1)
    if REASON is not None:
        pytest.skip(REASON)
    return DockerEngine(uuid.uuid4().hex[:12], address_pool=pick_address_pool())


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "process", "plain"])
async def bench(request, monkeypatch) -> AsyncIterator[Bench]:
    """An engine of each kind (`plain`: processes without a sandbox) and an empty volume."""
    kind = "process" if request.param == "plain" else request.param
    if request.param == "plain":
        monkeypatch.setattr("runner.engines.interpreter.VARIANTS", (("--no-such-option",),))
    with open_passable_folder() as folder:
        engine = open_engine(kind, folder)
        layout = VolumeLayout(folder / "volume")
        for path in (layout.root, layout.generations, layout.environments):
            path.mkdir()
            path.chmod(0o755)
        yield Bench(engine, await engine.check(), layout)
        await engine.remove_app("hello")
        await engine.close()


def list_environments(bench: Bench) -> list[str]:
    """Every environment on the volume, whole or not."""
    return sorted(path.name for path in bench.layout.environments.iterdir())


async def test_requirements(bench):
    """requirements.txt becomes an environment of the app's uid, compiled, without cache, once."""
    bench.write(requirements__txt="six==1.17.0\n")
    made = await bench.build()
    place = bench.layout.environment(made.env_hash)
    assert not made.is_kept
    assert (place / MARKER).exists()
    assert not (place / ".build").exists()
    assert (place / "bin/python").lstat().st_uid == (UID or os.getuid())
    assert list(place.glob("lib/python3*/site-packages/__pycache__/six.*.pyc"))
    assert await bench.run(made.env_hash, "import six; print(six.__version__)") == "1.17.0"
    again = await bench.build()
    assert (again.env_hash, again.is_kept) == (made.env_hash, True)


async def test_lock(bench):
    """uv.lock is installed as it is, without development tools and without the project."""
    bench.write(pyproject__toml=LOCKED)
    code = bench.layout.code(1)
    subprocess.run((uv.find_uv_bin(), "lock", "--quiet", "--directory", code), check=True)
    made = await bench.build()
    script = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    assert await bench.run(made.env_hash, script) == "six"
    assert sorted(path.name for path in code.iterdir()) == ["pyproject.toml", "uv.lock"]


async def test_project(bench):
    """pyproject.toml alone: its dependencies are installed."""
    bench.write(pyproject__toml=f'{PROJECT}dependencies = ["six"]\n')
    made = await bench.build()
    assert (await bench.run(made.env_hash, "import six; print(six.PY3)")) == "True"


async def test_dependency_that_is_built(bench):
    """A dependency on a folder of the code is built, and a change of it is a new environment."""
    bench.write(requirements__txt="./lib\n")
    library = bench.layout.code(1) / "lib"
    library.mkdir()
    (library / "pyproject.toml").write_text('[project]\nname = "lib"\nversion = "1"\n')
    (library / "lib.py").write_text("answer = 41\n")
    first = await bench.build()
    assert await bench.run(first.env_hash, "import lib; print(lib.answer)") == "41"
    (library / "lib.py").write_text("answer = 42\n")
    second = await bench.build()
    assert second.env_hash != first.env_hash
    assert await bench.run(second.env_hash, "import lib; print(lib.answer)") == "42"


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("lockgate-no-such-package-0\n", "dependency not found: lockgate-no-such-package-0"),
        ("six==99\n", "no version of six==99 fits"),
        ("six===\n", "Unexpected end of version specifier"),
    ],
)
async def test_failed_build(bench, requirements, words):
    """A build that fails says why in one line, shows its last lines and leaves nothing."""
    bench.write(requirements__txt=requirements)
    with pytest.raises(BuildError, match=words) as caught:
        await bench.build()
    assert "\n" not in str(caught.value)
    assert caught.value.log_tail
    assert bench.lines[-1] == caught.value.log_tail[-1]
    assert list_environments(bench) == []


async def test_no_dependency_file(bench):
    """Code without a dependency file is refused before any container starts."""
    bench.write(app__py="")
    with pytest.raises(BuildError, match=r"commit a requirements\.txt"):
        await bench.build()
    assert bench.lines == []


async def test_index_that_is_not_there(bench):
    """An index that cannot be reached is named; the build's timeout covers all steps."""
    bench.write(requirements__txt="six\n")
    with pytest.raises(BuildError, match=r"127\.0\.0\.1:1 is unreachable: Connection refused"):
        await bench.build(index_url="https://127.0.0.1:1/simple")
    with pytest.raises(BuildError, match=r"not done in 1 s: raise runner\.build\.timeout"):
        await bench.build(index_url="https://127.0.0.1:1/simple", timeout=1.0)


async def test_half_made_environment_is_built_anew(bench):
    """What a killed runner left without a marker is not used."""
    bench.write(requirements__txt="six\n")
    made = await bench.build()
    place = bench.layout.environment(made.env_hash)
    (place / MARKER).unlink()
    (place / "rubbish").write_text("x")
    again = await bench.build()
    assert not again.is_kept
    assert not (place / "rubbish").exists()


async def test_cancelled_build_leaves_nothing(bench):
    """A build that is cancelled leaves no environment."""
    bench.write(requirements__txt="six\n")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.build())
        while list_environments(bench) == []:
            await asyncio.sleep(0.001)
        task.cancel()
    assert list_environments(bench) == []


async def test_python_that_the_image_has_not(bench):
    """A Python that the image does not have is told with both ways out."""
    bench.write(requirements__txt="six\n")
    spec = SPEC.model_copy(update={"python": "3.99"})
    with pytest.raises(BuildError, match=r"asks for Python 3\.99, and the image has 3\.\d+"):
        await bench.build(spec)
    same = ".".join(bench.facts.python.split(".")[:2])
    assert await bench.build(SPEC.model_copy(update={"python": same}))


def test_included_files_are_read(tmp_path):
    """Requirements that others include are a part of what is asked for, but never from outside."""
    (tmp_path / "requirements.txt").write_text("-r sub/base.txt\n-r ../outside.txt\n-r /etc/passwd")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/base.txt").write_text("-c limits.txt\n")
    (tmp_path / "sub/limits.txt").write_text("six<2\n")
    found = read_files(tmp_path)
    assert sorted(found) == ["requirements.txt", "sub/base.txt", "sub/limits.txt"]


def test_digest_of_the_code(tmp_path):
    """The digest follows names and contents and nothing else."""
    (tmp_path / "a").write_text("1")
    first = hash_tree(tmp_path)
    os.utime(tmp_path / "a", (0, 0))
    assert hash_tree(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert hash_tree(tmp_path) != first


def test_ca_bundle(tmp_path, monkeypatch):
    """auto is what the host's environment names, else a usual place; a named file must be there."""
    own = tmp_path / "ca.pem"
    own.write_text("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    assert find_ca_bundle("auto") == own
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone"))
    assert find_ca_bundle("auto") != own
    assert find_ca_bundle(None) is None
    assert find_ca_bundle(Path("/etc/passwd")) == Path("/etc/passwd")
    with pytest.raises(BuildError, match=r"runner\.build\.ca_bundle: /no/such does not exist"):
        find_ca_bundle(Path("/no/such"))
