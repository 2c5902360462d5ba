"""Which image is used, pulled or made."""

import pytest

from runner.engines import EngineError
from runner.engines.image import (
    BASE_TAG,
    REGISTRY_IMAGE,
    ImageStep,
    Way,
    build_bootstrap_argv,
    describe_failure,
    normalize_tag,
    parse_os_release,
    parse_python,
    pick_suite,
    plan_image,
)


def test_present_base_is_used():
    """The base that is here is used and nothing else is tried."""
    assert plan_image("auto", {BASE_TAG, "x:1"}) == (ImageStep(Way.use, BASE_TAG, BASE_TAG),)


def test_first_time():
    """Without a base, the registry is asked first, then one is made."""
    assert plan_image("auto", set(), "trixie") == (
        ImageStep(Way.pull, REGISTRY_IMAGE, BASE_TAG),
        ImageStep(Way.make, "trixie", BASE_TAG),
    )


def test_pulled_before():
    """An image pulled earlier needs no registry."""
    assert plan_image("auto", {REGISTRY_IMAGE}) == (ImageStep(Way.use, REGISTRY_IMAGE, BASE_TAG),)


@pytest.mark.parametrize(
    ("wanted", "present", "way"),
    [("acme/py:3", {"acme/py:3"}, Way.use), ("acme/py", {"acme/py:3"}, Way.pull)],
)
def test_named_image(wanted, present, way):
    """A named image is used if present, else pulled, and never made."""
    (step,) = plan_image(wanted, present)
    assert step.way is way


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("python", "python:latest"),
        ("python:3.12-slim", "python:3.12-slim"),
        ("host:5000/py", "host:5000/py:latest"),
        ("py@sha256:00", "py@sha256:00"),
    ],
)
def test_tags(name, tag):
    """A name without a tag means `latest`; a registry's port is not a tag."""
    assert normalize_tag(name) == tag


@pytest.mark.parametrize(
    ("release", "suite"),
    [
        ('ID=debian\nVERSION_CODENAME="trixie"\n', "trixie"),
        ("ID=ubuntu\nVERSION_CODENAME=noble", "noble"),
        ("ID=ubuntu\nVERSION_CODENAME=jammy", "bookworm"),
        ("ID=fedora", "bookworm"),
        ("", "bookworm"),
    ],
)
def test_suite(release, suite):
    """The host's own suite is taken if its Python is new enough."""
    assert pick_suite(parse_os_release(release)) == suite


def test_python_in_the_image():
    """Version and path of the interpreter are read from what the probe printed."""
    found = parse_python("3 11 2 /usr/bin/python3\n", "auto")
    assert (found.version, found.path) == ("3.11.2", "/usr/bin/python3")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("3 9 1 /usr/bin/python3", "has Python 3.9.1: 3.11 or newer is needed"),
        ("sh: python3: not found", "has no usable python3"),
        ("", "has no usable python3"),
    ],
)
def test_unusable_image(output, words):
    """An image without a new enough Python is refused by name."""
    with pytest.raises(EngineError, match=f"runner.engine.image acme {words}"):
        parse_python(output, "acme")


def test_failure_names_the_remedy():
    """What was tried is told, and which key or program helps."""
    assert "install mmdebstrap, or set runner.engine.image" in describe_failure(
        "auto", ["pull: no", "x"]
    )
    assert describe_failure("acme", ["pull: no"]).startswith("runner.engine.image acme is not here")


def test_bootstrap():
    """The bootstrap names a suite, a target and Python."""
    argv = build_bootstrap_argv("trixie", "/t/base.tar")
    assert argv[0] == "mmdebstrap"
    assert argv[-2:] == ("trixie", "/t/base.tar")
    assert "--include=python3,python3-venv,ca-certificates" in argv
