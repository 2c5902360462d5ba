"""An environment's name and recipe, from the files that ask for it."""

from dataclasses import replace

import pytest

from runner.building.environment import (
    BuildError,
    BuildPlaces,
    Recipe,
    Toolchain,
    hash_environment,
    list_includes,
    list_workshop,
    needs_tree,
    pick_recipe,
    plan_environment,
)

PROJECT = b'[project]\nname = "x"\ndependencies = ["six"]\n'
TOOLS = Toolchain("3.11.2", "/usr/bin/python3", "sha256:1", "0.13.9")
PLACES = BuildPlaces("/app/code", "/app/venv", "/lockgate/uv", "/lockgate/ca.crt")
SIX = {"requirements.txt": b"six\n"}


@pytest.mark.parametrize(
    ("files", "recipe"),
    [
        ({"uv.lock": b"", "pyproject.toml": PROJECT, "requirements.txt": b""}, Recipe.lock),
        ({"pyproject.toml": PROJECT, "requirements.txt": b"six"}, Recipe.requirements),
        ({"pyproject.toml": PROJECT}, Recipe.project),
    ],
)
def test_most_exact_file_wins(files, recipe):
    """A lock beats requirements, and requirements beat a project."""
    assert pick_recipe(files) is recipe


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "the code does not say what it needs: commit a requirements.txt"),
        ({"pyproject.toml": b"[tool.ruff]\n"}, "the code does not say what it needs"),
        ({"uv.lock": b""}, r"uv\.lock without pyproject\.toml: commit both"),
        ({"pyproject.toml": b"[project\n"}, r"pyproject\.toml: .*line 1"),
        ({"pyproject.toml": b"\xff"}, r"pyproject\.toml: "),
    ],
)
def test_no_recipe(files, words):
    """Code that lists no dependencies, or not readably, is refused with the remedy."""
    with pytest.raises(BuildError, match=words):
        pick_recipe(files)


def test_requirements_plan():
    """requirements.txt: make the environment with the Python of the image, then fill it."""
    plan = plan_environment(SIX, TOOLS, PLACES)
    make, fill = plan.steps
    assert make[:2] == ("/lockgate/uv", "venv")
    assert make[-3:] == ("--python", "/usr/bin/python3", "/app/venv")
    assert fill[1:3] == ("pip", "install")
    assert fill[-2:] == ("-r", "requirements.txt")
    assert plan.env["UV_COMPILE_BYTECODE"] == "1"
    assert plan.env["UV_PYTHON_DOWNLOADS"] == "never"


def test_lock_plan():
    """uv.lock: exactly what is locked, without development tools and the project itself."""
    _, fill = plan_environment({"uv.lock": b"", "pyproject.toml": PROJECT}, TOOLS, PLACES).steps
    assert fill[1] == "sync"
    assert {"--frozen", "--no-dev", "--no-install-project"} <= set(fill)


def test_project_plan():
    """pyproject.toml alone: its dependencies."""
    _, fill = plan_environment({"pyproject.toml": PROJECT}, TOOLS, PLACES).steps
    assert fill[-2:] == ("-r", "pyproject.toml")


def test_cache_is_in_the_environment():
    """Cache, home and temporary files lie on the environment's own mount, in its workshop."""
    env = plan_environment(SIX, TOOLS, PLACES).env
    assert [env[name] for name in ("HOME", "TMPDIR", "UV_CACHE_DIR")] == [
        "/app/venv/.build/home",
        "/app/venv/.build/tmp",
        "/app/venv/.build/cache",
    ]
    assert list_workshop("/app/venv")[0] == env["HOME"]


def test_network_settings():
    """A CA file and an index are passed on only if there are any."""
    env = plan_environment(SIX, replace(TOOLS, index_url="https://i/simple"), PLACES).env
    assert env["UV_DEFAULT_INDEX"] == "https://i/simple"
    assert env["SSL_CERT_FILE"] == env["PIP_CERT"] == "/lockgate/ca.crt"
    bare = plan_environment(SIX, TOOLS, replace(PLACES, ca_bundle=None)).env
    assert not {"SSL_CERT_FILE", "UV_DEFAULT_INDEX"} & set(bare)


@pytest.mark.parametrize(
    ("files", "tools", "tree"),
    [
        ({"requirements.txt": b"six \n"}, TOOLS, ""),
        ({**SIX, "more.txt": b""}, TOOLS, ""),
        (SIX, replace(TOOLS, python="3.11.3"), ""),
        (SIX, replace(TOOLS, python_path="/usr/local/bin/python3"), ""),
        (SIX, replace(TOOLS, image_id="sha256:2"), ""),
        (SIX, replace(TOOLS, uv_version="0.14"), ""),
        (SIX, replace(TOOLS, index_url="https://i"), ""),
        (SIX, TOOLS, "ab"),
    ],
)
def test_hash_changes_with_every_input(files, tools, tree):
    """Whatever could change the result changes the name; nothing else does."""
    first = hash_environment(SIX, TOOLS)
    assert first == hash_environment(dict(SIX), replace(TOOLS))
    assert len(first) == 32
    assert hash_environment(files, tools, tree) != first


def test_includes():
    """Files taken in by -r and -c are found, URLs are not files."""
    text = (
        b"-r base.txt\n  -c  limits.txt\n--requirement=a/b.txt\n-r https://h/x.txt\nsix # -r no\n"
    )
    assert list_includes(text) == ("base.txt", "limits.txt", "a/b.txt")


@pytest.mark.parametrize(
    ("files", "result"),
    [
        (SIX, False),
        ({"requirements.txt": b"-e .\n"}, True),
        ({"requirements.txt": b"six\n./pkg\n"}, True),
        ({"more.txt": b"x @ file:pkg\n"}, True),
        ({"uv.lock": b'source = { virtual = "." }', "pyproject.toml": PROJECT}, False),
        ({"uv.lock": b'source = { editable = "libs/x" }'}, True),
        ({"pyproject.toml": b'[tool.uv.sources]\nx = { path = "libs/x" }'}, True),
    ],
)
def test_dependencies_on_the_code_itself(files, result):
    """A dependency on a folder of the code makes the code a part of the environment."""
    assert needs_tree(files) is result
