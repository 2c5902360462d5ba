from pathlib import Path

import pytest

from runner.errors import RefusedError
from runner.layout import VolumeLayout
from runner.prepare import (
    build_credentials,
    check_entrypoint,
    create_app,
    delete_code,
    delete_unused,
    find_layout,
)
from tests.support.assembly import Assembly


def test_an_app_is_created_once(assembly: Assembly) -> None:
    """The second call finds the first one's record: keys and slot are never made anew."""
    first = create_app(assembly.parts, "hello")
    assert create_app(assembly.parts, "hello") == first
    assert create_app(assembly.parts, "other").slot == first.slot + 1


def test_credentials_are_read_by_the_names_in_the_source(assembly: Assembly) -> None:
    """A name that is not set is refused, one that is set is read."""
    record = create_app(assembly.parts, "hello")
    source = {"repo": "https://git.example.org/a.git", "token": "GIT_TOKEN"}
    spec = assembly.build_spec(source=source)
    with pytest.raises(RefusedError, match=r"source\.token names the secret GIT_TOKEN"):
        build_credentials(assembly.parts, "hello", spec)
    assembly.parts.vault.set_secret(record.uuid, "GIT_TOKEN", "canary")
    credentials = build_credentials(assembly.parts, "hello", spec)
    assert credentials.token == "canary"
    assert "canary" not in repr(credentials)


async def test_deleting_code_twice_is_no_error(tmp_path: Path) -> None:
    """An undo may come after a step that never began."""
    layout = VolumeLayout(tmp_path)
    layout.code(1).mkdir(parents=True)
    await delete_code(layout, 1)
    await delete_code(layout, 1)
    assert not layout.generation(1).exists()


async def test_what_no_generation_uses_is_deleted(assembly: Assembly) -> None:
    """Old code and old environments go, those in use stay."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    record = assembly.need_record()
    layout = await find_layout(assembly.parts, record)
    (layout.generations / "9").mkdir()
    (layout.environments / "old").mkdir()
    await delete_unused(layout, record)
    assert [path.name for path in layout.generations.iterdir()] == ["1"]
    assert [path.name for path in layout.environments.iterdir()] == [record.generations[0].env_hash]


async def test_only_the_app_sees_its_scratch_and_only_the_agent_the_logs(
    assembly: Assembly,
) -> None:
    """Modes of the volume's first directories."""
    await assembly.lifecycle.deploy(assembly.build_spec(), assembly.events.append)
    layout = await find_layout(assembly.parts, assembly.need_record())
    modes = {p.name: p.stat().st_mode & 0o777 for p in layout.root.iterdir()}
    assert (modes["scratch"], modes["logs"], modes["builds"]) == (0o700, 0o700, 0o700)


def test_an_entrypoint_that_is_not_in_the_commit_is_named(
    assembly: Assembly, tmp_path: Path
) -> None:
    """Before anything is built: the file, the commit, the repository, the remedy."""
    (tmp_path / "app.py").write_text("")
    check_entrypoint(assembly.build_spec(), tmp_path, "c" * 40)
    with pytest.raises(RefusedError, match=r"entrypoint: main\.py is not in c{12} of .*/repo"):
        check_entrypoint(assembly.build_spec(entrypoint="main.py"), tmp_path, "c" * 40)


async def test_logs_of_long_gone_generations_are_deleted(assembly: Assembly) -> None:
    """Those of the last twenty and of what still serves are kept, and nothing else is touched."""
    await assembly.lifecycle.deploy(assembly.build_spec(), lambda _: None)
    record = assembly.need_record().model_copy(update={"last_generation": 30})
    layout = await find_layout(assembly.parts, record)
    for number in (1, 2, 10, 11, 30):
        for path in (layout.app_log(number), layout.build_log(number)):
            path.touch()
            path.with_name(f"{path.name}.1").touch()
    (layout.logs / "app-3.log").mkdir()
    (layout.logs / "notes").touch()
    await delete_unused(layout, record)
    left = {path.name for directory in (layout.logs, layout.builds) for path in directory.iterdir()}
    kept = {
        f"{kind}-{n}.log{end}"
        for kind in ("app", "build")
        for n in (1, 11, 30)
        for end in ("", ".1")
    }
    assert left == kept | {"app-3.log", "notes"}
