"""Which image apps run in, and what to try to get it.

Invariants: pure; an image that is present is never replaced; whatever is tried is bounded in time.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.engines import EngineError

AUTO = "auto"
RECIPE = 1
BASE_TAG = f"lockgate-base:{RECIPE}"
REGISTRY_IMAGE = "python:3.12-slim"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
OLDEST_PYTHON = (3, 11)
FALLBACK_SUITE = "bookworm"
PULL_WORD_TIMEOUT_S = 30
PULL_DEADLINE_S = 600.0
MAKE_DEADLINE_S = 900.0
UNPACKED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

PROBE_ARGV = (
    "python3",
    "-I",
    "-S",
    "-B",
    "-c",
    "import select, ssl, sys; print(*sys.version_info[:3], sys.executable)",
)


class Way(Enum):
    """How to come by an image."""

    use = "use"
    pull = "pull"
    make = "make"


@dataclass(frozen=True, slots=True)
class ImageStep:
    """One thing to try; `source` is what is used, pulled or made, `tag` what it is called then."""

    way: Way
    source: str
    tag: str


@dataclass(frozen=True, slots=True)
class ImagePython:
    """The interpreter in an image: version `3.11.2`, absolute path."""

    version: str
    path: str


def plan_image(
    wanted: str, present: Collection[str], suite: str = FALLBACK_SUITE
) -> tuple[ImageStep, ...]:
    """What to try in order until one works; `present` are the tags that the engine holds.

    `suite` is the Debian or Ubuntu suite to make a base from.
    """
    if wanted != AUTO:
        way = Way.use if normalize_tag(wanted) in present else Way.pull
        return (ImageStep(way, normalize_tag(wanted), normalize_tag(wanted)),)
    if BASE_TAG in present:
        return (ImageStep(Way.use, BASE_TAG, BASE_TAG),)
    if REGISTRY_IMAGE in present:
        return (ImageStep(Way.use, REGISTRY_IMAGE, BASE_TAG),)
    return (
        ImageStep(Way.pull, REGISTRY_IMAGE, BASE_TAG),
        ImageStep(Way.make, suite, BASE_TAG),
    )


def normalize_tag(name: str) -> str:
    """`python` → `python:latest`; a tag, a digest and a registry's port stay as they are."""
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def pick_suite(os_release: Mapping[str, str]) -> str:
    """The suite to make a base from: the host's own if its Python is new enough."""
    codename = os_release.get("VERSION_CODENAME", "")
    too_old = {"buster", "bullseye", "focal", "jammy"}
    if os_release.get("ID") in {"debian", "ubuntu"} and codename and codename not in too_old:
        return codename
    return FALLBACK_SUITE


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments in /etc/os-release, unquoted."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def build_bootstrap_argv(suite: str, target: str) -> tuple[str, ...]:
    """The command that makes a minimal root file system as a tar at `target`."""
    return (
        "mmdebstrap",
        "--variant=minbase",
        "--quiet",
        f"--include={','.join(PACKAGES)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNPACKED),
        suite,
        target,
    )


def parse_python(output: str, image: str) -> ImagePython:
    """Read what `PROBE_ARGV` printed; raises `EngineError` for no Python or one that is too old."""
    found = re.fullmatch(r"(\d+) (\d+) (\d+) (/\S+)", output.strip())
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if found is None:
        raise EngineError(
            f"runner.engine.image {image} has no usable python3 (with ssl) on its PATH:"
            f" name an image with Python {oldest} or newer, or set it to auto"
        )
    major, minor, patch = (int(part) for part in found.groups()[:3])
    version = f"{major}.{minor}.{patch}"
    if (major, minor) < OLDEST_PYTHON:
        raise EngineError(
            f"runner.engine.image {image} has Python {version}: {oldest} or newer is needed"
        )
    return ImagePython(version, found[4])


def describe_failure(wanted: str, failures: Sequence[str]) -> str:
    """One line that says what was tried and what to do instead."""
    tried = "; ".join(failures) or "nothing could be tried"
    if wanted == AUTO:
        return (
            f"no base image: {tried}. Let this machine reach an image registry, or install"
            " mmdebstrap, or set runner.engine.image to an image that is here and has python3"
        )
    return f"runner.engine.image {wanted} is not here and could not be pulled: {tried}"
