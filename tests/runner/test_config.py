"""What the configuration must hold, and that `configs/` says it all."""

from pathlib import Path
from typing import Any

import pytest

from pki import ConfigError, build_model, load_document, load_section
from runner.config import (
    RunnerSection,
    build_document,
    find_config_path,
    load_config,
    load_spec,
    save_config,
)
from runner.spec.model import AppFile

CONFIGS = Path(__file__).parents[2] / "configs"
ROOT = {"uid": 0, "env": {}}


def list_keys(value: object, prefix: str = "") -> set[str]:
    """Dotted names of all keys; what is null or empty has none below."""
    if not isinstance(value, dict):
        return set()
    below = {k for key, inner in value.items() for k in list_keys(inner, f"{prefix}{key}.")}
    return {f"{prefix}{key}" for key in value} | below


def refuse(tmp_path: Path, text: str) -> ConfigError:
    """The error that a file with this text comes to."""
    path = tmp_path / "lockgate.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, **ROOT)
    return caught.value


def test_the_documented_file_has_every_key_and_no_other() -> None:
    """configs/lockgate.yaml is the schema."""
    written = load_document(CONFIGS / "lockgate.yaml").value
    assert list_keys(written) == list_keys(build_document(load_config(None, **ROOT)))


def test_the_documented_values_are_the_defaults() -> None:
    """Deleting the whole file changes nothing."""
    assert load_config(CONFIGS / "lockgate.yaml", **ROOT) == load_config(None, **ROOT)


def test_every_documented_key_has_a_comment() -> None:
    """One comment each, in configs/lockgate.yaml and in configs/apps/reference.yaml."""
    for name in ("lockgate.yaml", "apps/reference.yaml"):
        for line in (CONFIGS / name).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() and not key.lstrip().startswith("#") and value.strip():
                assert "  #" in line, f"{name}: {line}"
            assert len(line) <= 100, f"{name}: {line}"


def test_the_reference_app_has_every_key_and_every_default() -> None:
    """configs/apps/reference.yaml is the schema; required keys have example values."""
    document = load_document(CONFIGS / "apps" / "reference.yaml")
    written = document.value
    assert isinstance(written, dict)
    required = {"name": written["name"], "entrypoint": written["entrypoint"]}
    bare = AppFile.model_validate({**required, "source": {"repo": written["source"]["repo"]}})
    assert build_model(AppFile, document) == bare
    assert list_keys(written) == list_keys(bare.model_dump())


@pytest.mark.parametrize("name", ["hello", "reference"])
def test_the_example_apps_are_valid(name: str) -> None:
    """What we show works."""
    spec = load_spec(CONFIGS / "apps" / f"{name}.yaml", load_config(None, **ROOT))
    assert spec.hosts == ("hello.localhost",)


def test_the_demo_app_comes_from_this_repository() -> None:
    """Its relative path starts at the file's own folder and leads to the example's code."""
    spec = load_spec(CONFIGS / "apps" / "hello.yaml", load_config(None, **ROOT))
    assert Path(spec.source.repo) == CONFIGS.parent
    assert (CONFIGS.parent / spec.source.subdirectory / str(spec.entrypoint)).is_file()


def test_what_is_saved_means_the_same_to_every_process(tmp_path: Path) -> None:
    """Each process reads the effective file as another user and gets the very same settings."""
    config = load_config(None, **ROOT)
    path = tmp_path / "effective.yaml"
    save_config(config, path)
    again = load_config(path, uid=64052, env={"HOME": "/nowhere"})
    assert again == config
    assert again.gateway.build_hash() == config.gateway.build_hash()
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_ordinary_user_runs_everything_as_itself() -> None:
    """No root, no other users, directories below home."""
    config = load_config(None, uid=1000, env={"HOME": "/home/ada"})
    assert config.state_dir == Path("/home/ada/.local/state/lockgate")
    assert config.run_dir == Path("/tmp/lockgate-1000")
    assert {config.gateway.uid, config.pki.uid, config.pki.runner_uid} == {1000}


def test_the_sections_share_directories_and_trust_domain(tmp_path: Path) -> None:
    """They are written once, at the top."""
    path = tmp_path / "l.yaml"
    path.write_text("trust_domain: a.internal\nstate_dir: /s\nrun_dir: /r\n")
    config = load_config(path, **ROOT)
    for part in (config, config.gateway, config.pki):
        shared: Any = part
        assert (shared.trust_domain, shared.state_dir, shared.run_dir) == (
            "a.internal",
            Path("/s"),
            Path("/r"),
        )


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("runner:\n  engin: {}\n", 2, "runner.engin", "did you mean engine"),
        ("engine: {}\n", 1, "engine", "no such key"),
        ("runner:\n  engine:\n    kind: podman\n", 3, "runner.engine.kind", "docker"),
        ("runner:\n  engine:\n    address_pool: 8.8.0.0/16\n", 3, "runner.engine.address_pool", ""),
        ("runner:\n  engine:\n    address_pool: 10.0.0.1/8\n", 3, "runner.engine.address_pool", ""),
        ("runner:\n  engine:\n    uid_base: 1000\n", 3, "runner.engine.uid_base", "65536"),
        ("runner:\n  volumes:\n    size: 4GB\n", 3, "runner.volumes.size", "GiB"),
        ("runner:\n  build:\n    timeout: 15\n", 3, "runner.build.timeout", "no unit"),
        ("runner:\n  build:\n    ca_bundle: ca.pem\n", 3, "runner.build.ca_bundle", "absolute"),
        ("runner:\n  domain: Example.org\n", 2, "runner.domain", "lower case"),
        ("gateway:\n  https: nowhere\n", 2, "gateway.https", "HOST:PORT"),
        ("pki:\n  leaf_lifetime: 1s\n", 2, "pki.leaf_lifetime", "600"),
        ("run_dir: " + "/x" * 60 + "\n", 1, "run_dir", "shorter"),
        ("\tx: 1\n", 1, "", "not valid YAML"),
    ],
)
def test_bad_configuration_names_line_key_and_remedy(
    tmp_path: Path, text: str, line: int, key: str, said: str
) -> None:
    """Every mistake is one line that says what to write."""
    error = refuse(tmp_path, text)
    assert (error.line, error.key) == (line, key)
    assert said in str(error)


def test_a_missing_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    """A path that was named and is not there is never replaced by defaults."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml", **ROOT)


def test_the_command_line_wins_over_the_environment() -> None:
    """--config, then $LOCKGATE_CONFIG, then the system's file or nothing."""
    env = {"LOCKGATE_CONFIG": "/b.yaml"}
    assert find_config_path(Path("/a.yaml"), env) == Path("/a.yaml")
    assert find_config_path(None, env) == Path("/b.yaml")


def test_an_empty_file_means_defaults(tmp_path: Path) -> None:
    """A file of comments only is the same as none."""
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_section(path, "runner", RunnerSection, **ROOT) == load_section(
        None, "runner", RunnerSection, **ROOT
    )
