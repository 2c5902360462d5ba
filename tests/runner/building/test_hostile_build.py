"""What a stranger's build may leave in its environment's directory, where it can write."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.building.environment import WORKSHOP
from runner.building.perform import MARKER, Environment, build_environment, hash_tree
from runner.config import BuildConfig
from runner.engines import VENV, BuildSpec, LineSink
from runner.layout import VolumeLayout
from runner.spec.model import AppSpec, Source
from runner.store import AppRecord
from tests.fakes.engine import FACTS, FakeEngine

SPEC = AppSpec(name="hello", hosts=("h.localhost",), source=Source(repo="/x"), entrypoint="app.py")
RECORD = AppRecord(name="hello", uuid="ab" * 16, slot=0, spec={}, desired="running")


class Workshop(FakeEngine):
    """An engine whose builds do `act` in the environment's directory."""

    act: Callable[[Path], None] = staticmethod(lambda _: None)

    async def build(self, spec: BuildSpec, on_line: LineSink) -> int:
        place = next(mount.source for mount in spec.mounts if mount.target == VENV)
        self.act(place)
        return await super().build(spec, on_line)


async def build(folder: Path, act: Callable[[Path], None]) -> tuple[Workshop, Environment]:
    layout, engine = VolumeLayout(folder), Workshop()
    layout.code(1).mkdir(parents=True, exist_ok=True)
    layout.environments.mkdir(exist_ok=True)
    (layout.code(1) / "requirements.txt").write_text("")
    engine.act = act
    where = (engine, FACTS, BuildConfig(ca_bundle=None), SPEC, RECORD, layout)
    return engine, await build_environment(*where, 1, None, lambda _: None)


async def test_a_marker_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    """Else a build would have us, who may be root, make a file anywhere on this machine."""
    outside = tmp_path / "nologin"

    def link(place: Path) -> None:
        if not (place / MARKER).is_symlink():
            (place / MARKER).symlink_to(outside)

    _, made = await build(tmp_path / "volume", link)
    assert not outside.exists()
    assert (VolumeLayout(tmp_path / "volume").environment(made.env_hash) / MARKER).is_file()


async def test_a_workshop_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    """The link goes, what it points to stays, and the build ends as any other."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()

    def link(place: Path) -> None:
        if not (place / WORKSHOP).is_symlink():
            shutil.rmtree(place / WORKSHOP)
            (place / WORKSHOP).symlink_to(outside)

    await build(tmp_path / "volume", link)
    assert (outside / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
async def test_a_marker_that_a_build_made_is_not_believed(tmp_path: Path) -> None:
    """A runner killed in the middle of a build that marks itself whole: it is built anew."""
    _, made = await build(tmp_path, lambda _: None)
    place = VolumeLayout(tmp_path).environment(made.env_hash)
    os.chown(place / MARKER, 234568, 234568)
    engine, again = await build(tmp_path, lambda _: None)
    assert (len(engine.builds) > 0, again.is_kept) == (True, False)


async def test_a_cancelled_build_is_over_when_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread goes on and marks an empty directory as a whole environment."""
    begun, touched = asyncio.Event(), tmp_path / "touched"
    loop = asyncio.get_running_loop()

    def finish(place: Path) -> None:
        loop.call_soon_threadsafe(begun.set)
        shutil.copytree(place, tmp_path / "copy")  # takes a while, as a large workshop does
        touched.touch()

    monkeypatch.setattr("runner.building.perform._finish", finish)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(build(tmp_path / "volume", lambda _: None))
        await begun.wait()
        task.cancel()
    assert touched.exists()
    assert list(VolumeLayout(tmp_path / "volume").environments.iterdir()) == []


def test_the_digest_takes_any_name_and_follows_links_by_their_text(tmp_path: Path) -> None:
    """A repository may hold names that are no text; where a link leads is a part of the code."""
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    (tmp_path / "link").symlink_to("a")
    first = hash_tree(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")
    assert hash_tree(tmp_path) != first
