"""What an app's environment is made of: its name by hash, and the commands that make it.

Invariants: pure; the same inputs have the same hash, and whatever changes the result of a build is
an input; no command names a place that is not mounted in the build container.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from runner.errors import RunnerError

RECIPE = 1
LOCK = "uv.lock"
PROJECT = "pyproject.toml"
REQUIREMENTS = "requirements.txt"
NAMES = (LOCK, PROJECT, REQUIREMENTS)
WORKSHOP = ".build"
WORKPLACES = ("home", "tmp", "cache")
INCLUDE = re.compile(r"^\s*(?:-r|--requirement|-c|--constraint)[\s=]+(\S+)", re.M)
LOCAL_LINE = re.compile(r"^\s*(?:-e\b|--editable\b|\.|/|file:)|@\s*file:", re.M)
LOCAL_LOCK = re.compile(r'\b(?:editable|directory|path|virtual) = "(?!\.")')
LOCAL_PROJECT = re.compile(r"\bpath\s*=|\bfile:")


class BuildError(RunnerError):
    """The environment cannot be built; one line, the end of the build's output in `log_tail`."""


class Recipe(Enum):
    """Which file says what the app needs."""

    lock = LOCK
    requirements = REQUIREMENTS
    project = PROJECT


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What builds: version and path of the image's Python, the image, uv's version, an index."""

    python: str
    python_path: str
    image_id: str
    uv_version: str
    index_url: str | None = None


@dataclass(frozen=True, slots=True)
class BuildPlaces:
    """Paths as the build sees them."""

    code: str
    venv: str
    uv: str
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentPlan:
    """Commands in order, and their whole environment."""

    steps: tuple[tuple[str, ...], ...]
    env: dict[str, str]


def pick_recipe(files: Mapping[str, bytes]) -> Recipe:
    """The most exact file wins; raises `BuildError` when there is none that lists dependencies."""
    if LOCK in files:
        if PROJECT not in files:
            raise BuildError("uv.lock without pyproject.toml: commit both")
        return Recipe.lock
    if REQUIREMENTS in files:
        return Recipe.requirements
    if PROJECT in files and "project" in parse_project(files[PROJECT]):
        return Recipe.project
    raise BuildError(
        "the code does not say what it needs: commit a requirements.txt (or a pyproject.toml with"
        " [project] dependencies, best with its uv.lock)"
    )


def parse_project(text: bytes) -> dict[str, object]:
    """pyproject.toml; raises `BuildError` with the place of a mistake."""
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"pyproject.toml: {error}") from None


def list_includes(text: bytes) -> tuple[str, ...]:
    """Files that a requirements file takes in by -r or -c, but for URLs."""
    found = INCLUDE.findall(text.decode(errors="replace"))
    return tuple(name for name in found if "://" not in name)


def needs_tree(files: Mapping[str, bytes]) -> bool:
    """Whether the environment also depends on the app's own code, by a dependency on a folder."""
    texts = {name: content.decode(errors="replace") for name, content in files.items()}
    if LOCAL_LOCK.search(texts.get(LOCK, "")) or LOCAL_PROJECT.search(texts.get(PROJECT, "")):
        return True
    rest = (text for name, text in texts.items() if name not in {LOCK, PROJECT})
    return any(LOCAL_LINE.search(text) for text in rest)


def hash_environment(files: Mapping[str, bytes], tools: Toolchain, tree: str = "") -> str:
    """32 hex digits. `files` are the dependency files with all they include; `tree` is a digest of
    the code where `needs_tree` says so."""
    inputs = {
        "recipe": RECIPE,
        "python": [tools.python, tools.python_path],
        "image": tools.image_id,
        "uv": tools.uv_version,
        "index": tools.index_url,
        "tree": tree,
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def plan_environment(
    files: Mapping[str, bytes], tools: Toolchain, places: BuildPlaces
) -> EnvironmentPlan:
    """How to build into `places.venv`, an empty directory but for the workshop folder in it."""
    recipe = pick_recipe(files)
    uv, venv, here = places.uv, places.venv, ("--directory", places.code)
    make = (uv, "venv", "--quiet", "--no-project", "--allow-existing")
    install = (uv, "pip", "install", *here, "--python", f"{venv}/bin/python", "-r")
    fill = {
        Recipe.lock: (uv, "sync", *here, "--frozen", "--no-dev", "--no-install-project"),
        Recipe.requirements: (*install, REQUIREMENTS),
        Recipe.project: (*install, PROJECT),
    }[recipe]
    return EnvironmentPlan(
        steps=((*make, "--python", tools.python_path, venv), fill),
        env=_build_env(tools, places),
    )


def _build_env(tools: Toolchain, places: BuildPlaces) -> dict[str, str]:
    """The cache lies on the same mount as the environment, so that files are linked, not copied."""
    home, temporary, cache = list_workshop(places.venv)
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": temporary,
        "NO_COLOR": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "UV_CACHE_DIR": cache,
        "UV_LINK_MODE": "hardlink",
        "UV_COMPILE_BYTECODE": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PROJECT_ENVIRONMENT": places.venv,
        "UV_PYTHON": tools.python_path,
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON_PREFERENCE": "only-system",
    }
    if tools.index_url:
        env["UV_DEFAULT_INDEX"] = tools.index_url
    if places.ca_bundle:
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
        env |= dict.fromkeys(names, places.ca_bundle)
    return env


def list_workshop(venv: str) -> tuple[str, ...]:
    """Folders that a build needs below its environment's directory: home, tmp, cache."""
    return tuple(f"{venv}/{WORKSHOP}/{name}" for name in WORKPLACES)
