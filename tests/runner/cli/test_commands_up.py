"""What `lockgate up` and `lockgate demo` must hold before anything starts."""

import json
from pathlib import Path

import pytest

from runner.cli.commands_up import list_apps
from runner.config import load_config
from runner.errors import StartError
from tests.support.served import Served, prepare


@pytest.fixture
def idle(tmp_path: Path) -> Served:
    """A configuration without a runner."""
    return prepare(tmp_path)


def test_a_mistake_in_an_apps_file_is_said_before_anything_starts(idle: Served) -> None:
    """`--with` is checked first: no process, no state directory."""
    idle.write_spec("resorces: {}\n")
    done = idle.run("up", "--with", "hello.yaml")
    assert done.returncode == 2
    assert "hello.yaml:5: resorces" in done.stderr
    assert not (idle.root / "state").exists()


def test_a_mistake_in_the_configuration_is_misuse(idle: Served) -> None:
    """File, line, key and remedy; exit code 2."""
    path = idle.root / "lockgate.yaml"
    path.write_text(path.read_text() + "gatway: {}\n")
    done = idle.run("up")
    assert done.returncode == 2
    assert f"{path}:3: gatway: there is no such key (did you mean gateway?)" in done.stderr


def test_a_taken_port_fails_with_one_line(idle: Served) -> None:
    """The same over the whole command as in its parts."""
    path = idle.root / "lockgate.yaml"
    path.write_text(path.read_text() + "gateway:\n  https: 192.0.2.1:8443\n")
    done = idle.run("up", "--json")
    assert done.returncode == 1
    (answer,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert answer["error"].startswith("gateway.https: 192.0.2.1:8443 is no address")


def test_the_folder_of_apps_is_read_by_name(tmp_path: Path) -> None:
    """Only *.yaml, in a stable order; a folder that is not there is said."""
    for name in ("b.yaml", "a.yaml", "notes.txt"):
        (tmp_path / name).write_text("")
    config = load_config(None, env={"HOME": "/nowhere"})
    assert list_apps(config) == []
    config = config.model_copy(update={"apps_dir": tmp_path})
    assert [path.name for path in list_apps(config)] == ["a.yaml", "b.yaml"]
    with pytest.raises(StartError, match=r"runner\.apps_dir"):
        list_apps(config.model_copy(update={"apps_dir": tmp_path / "none"}))


def test_the_demo_takes_no_configuration(idle: Served) -> None:
    """It would be ignored; saying so is kinder."""
    done = idle.run("demo", "--config", "lockgate.yaml")
    assert done.returncode == 2
    assert "lockgate up" in done.stderr
