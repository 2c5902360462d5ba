"""Who may get a leaf."""

import json
from pathlib import Path

import pytest

from pki.errors import IdentityError, KeystoreError, NameTakenError, UnknownNameError
from pki.identity import build_app_id
from pki.keystore import write_private
from pki.registry import Registry

TD = "lockgate.internal"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry with one app in two generations."""
    registry = Registry(tmp_path / "r.json", TD)
    registry.register("hello", 1, ["hello.localhost"])
    registry.register("hello", 2, ["hello.localhost", "*.hello.localhost"])
    return registry


def test_registrations_survive_a_new_process(registry: Registry, tmp_path: Path) -> None:
    """Another process on the same file knows the same."""
    again = Registry(tmp_path / "r.json", TD)
    assert again.apps == registry.apps
    assert again.apps == {
        "hello": {1: ("hello.localhost",), 2: ("*.hello.localhost", "hello.localhost")}
    }
    assert again.find_owner("*.hello.localhost") == "hello"


def test_what_was_not_registered_is_unknown(registry: Registry) -> None:
    """Neither another app, nor another generation, nor a host that only a wildcard covers."""
    registry.require_generation("hello", 2)
    registry.require_host("*.hello.localhost")
    for app, generation in (("hello", 3), ("other", 1)):
        with pytest.raises(UnknownNameError):
            registry.require_generation(app, generation)
    for host in ("x.hello.localhost", "localhost", ""):
        with pytest.raises(UnknownNameError):
            registry.require_host(host)


def test_a_host_belongs_to_one_app(registry: Registry) -> None:
    """Another app cannot take it, until the first has let it go."""
    with pytest.raises(NameTakenError, match="belongs to the app hello"):
        registry.register("other", 1, ["new.localhost", "hello.localhost"])
    assert "other" not in registry.apps
    registry.forget("hello", None)
    registry.register("other", 1, ["hello.localhost"])
    assert registry.find_owner("hello.localhost") == "other"


def test_forgetting_tells_which_hosts_are_free(registry: Registry) -> None:
    """A host that another generation still has is not free; the last one frees it."""
    assert registry.forget("hello", 2) == ("*.hello.localhost",)
    assert registry.forget("hello", 2) == ()
    assert registry.forget("hello", 1) == ("hello.localhost",)
    assert registry.apps == {}
    assert registry.forget("never", None) == ()


def test_forgetting_an_app_forgets_all_generations(registry: Registry, tmp_path: Path) -> None:
    """Nothing of the name is left, in memory or on disk."""
    assert registry.forget("hello", None) == ("*.hello.localhost", "hello.localhost")
    assert "hello" not in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize(
    ("app", "generation", "hosts"),
    [
        ("Hello", 1, []),
        ("../x", 1, []),
        ("hello", -1, []),
        ("hello", 2**31, []),
        ("hello", 3, ["10.0.0.1"]),
        ("hello", 3, ["main.gateway.lockgate.internal"]),
    ],
)
def test_bad_names_are_not_registered(
    registry: Registry, app: str, generation: int, hosts: list[str]
) -> None:
    """What is outside the grammar never gets in."""
    before = dict(registry.apps)
    with pytest.raises(IdentityError):
        registry.register(app, generation, hosts)
    assert registry.apps == before


def test_checking_says_whether_something_would_change(registry: Registry) -> None:
    """The same registration in another order is no change."""
    hosts = ["*.hello.localhost", "hello.localhost", "hello.localhost"]
    assert registry.check("hello", 2, hosts) is None
    assert registry.check("hello", 2, hosts[:1]) == ("*.hello.localhost",)
    assert registry.check("hello", 3, []) == ()


def test_an_unchanged_registration_is_not_written(registry: Registry, tmp_path: Path) -> None:
    """The second of two equal calls leaves the file alone."""
    before = (tmp_path / "r.json").stat().st_ino
    registry.register("hello", 1, ["hello.localhost"])
    assert (tmp_path / "r.json").stat().st_ino == before


def test_a_failed_write_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    """What is not on disk is not in memory either."""
    (tmp_path / "r.json").unlink()
    (tmp_path / "r.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        registry.register("other", 1, ["other.localhost"])
    assert "other" not in registry.apps
    assert registry.find_owner("other.localhost") is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", json.dumps({"v": 2, "apps": {}}), json.dumps({"v": 1, "apps": [1]}),
     json.dumps({"v": 1, "apps": {"a": {"x": ["y"]}}})],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    """A registry that cannot be read is an error, never an empty one."""
    write_private(tmp_path / "r.json", content.encode())
    with pytest.raises(KeystoreError):
        Registry(tmp_path / "r.json", TD)


def test_generation_zero_holds_hosts_and_is_nobody(registry: Registry) -> None:
    """An app that does not run keeps its hosts to itself; no identity exists for generation 0."""
    registry.register("held", 0, ["held.localhost"])
    registry.require_host("held.localhost")
    with pytest.raises(NameTakenError):
        registry.register("rival", 1, ["held.localhost"])
    with pytest.raises(IdentityError):
        build_app_id("lockgate.internal", "held", 0)
