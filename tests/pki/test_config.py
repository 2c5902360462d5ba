"""How configuration files are read, and what must be refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pki.config import (
    Dirs,
    PkiConfig,
    RunDir,
    StateDir,
    build_default_dirs,
    load_document,
    load_pki_config,
    load_section,
    parse_document,
)
from pki.errors import ConfigError
from pki.schema import Section


class Gate(Section):
    """A section of another package: it has a field for two of the shared keys."""

    state_dir: StateDir
    run_dir: RunDir
    workers: int = 1


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "lockgate.yaml"
    path.write_text(text)
    return path


def complain(folder: Path, text: str, uid: int = 0) -> str:
    """The error without the folder."""
    with pytest.raises(ConfigError) as caught:
        load_pki_config(write(folder, text), uid, {"HOME": "/home/x"})
    return str(caught.value).replace(f"{folder}/", "")


def read(text: str) -> object:
    """A document's value."""
    return parse_document(text.encode(), "f.yaml").value


def test_defaults_of_root() -> None:
    """Without a file root runs the PKI as its own uid and knows the others'."""
    config = load_pki_config(None, 0, {})
    assert config == PkiConfig(
        trust_domain="lockgate.internal",
        state_dir=Path("/var/lib/lockgate"),
        run_dir=Path("/run/lockgate"),
        uid=64051,
        runner_uid=0,
        gateway_uid=64052,
    )
    assert config.leaf_lifetime == 86400
    assert config.socket_path == Path("/run/lockgate/pki.sock")
    assert config.store_dir == Path("/var/lib/lockgate/pki")
    assert config.master_key_path == Path("/var/lib/lockgate/master.key")


def test_defaults_of_a_user() -> None:
    """An ordinary user plays every part."""
    config = load_pki_config(None, 1000, {"HOME": "/home/x"})
    assert {config.uid, config.runner_uid, config.gateway_uid} == {1000}
    assert config.state_dir == Path("/home/x/.local/state/lockgate")


@pytest.mark.parametrize(
    ("uid", "env", "dirs"),
    [
        (0, {"HOME": "/root", "XDG_RUNTIME_DIR": "/x"}, ("/var/lib/lockgate", "/run/lockgate")),
        (7, {"HOME": "/h"}, ("/h/.local/state/lockgate", "/tmp/lockgate-7")),
        (7, {"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"},
         ("/s/lockgate", "/r/lockgate")),
        (7, {}, ("/.local/state/lockgate", "/tmp/lockgate-7")),
        (7, {"LOCKGATE_STATE_DIR": "/a", "LOCKGATE_RUN_DIR": "/b"}, ("/a", "/b")),
    ],
)  # fmt: skip
def test_default_directories(uid: int, env: dict[str, str], dirs: tuple[str, str]) -> None:
    """Root uses the system's directories, a user those of the XDG specification."""
    assert build_default_dirs(uid, env) == Dirs(Path(dirs[0]), Path(dirs[1]))


def test_a_section_sees_the_shared_keys_it_has_fields_for(tmp_path: Path) -> None:
    """One file serves all: each section gets the shared keys, none gets the others' sections."""
    path = write(
        tmp_path,
        "trust_domain: td.x\nstate_dir: /s\nrun_dir: /r\npki: {leaf_lifetime: 12h}\n"
        "gateway: {workers: 3}\n",
    )
    assert load_section(path, "gateway", Gate) == Gate(
        state_dir=Path("/s"), run_dir=Path("/r"), workers=3
    )
    config = load_pki_config(path, 0, {})
    assert (config.trust_domain, config.leaf_lifetime) == ("td.x", 43200)


def test_the_gateways_uid_is_written_once(tmp_path: Path) -> None:
    """The PKI lets in the uid that the gateway's own section names."""
    config = load_pki_config(write(tmp_path, "gateway: {uid: 0}\n"), 0, {})
    assert config.gateway_uid == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gatewy: {}\n", "lockgate.yaml:1: gatewy: there is no such key (did you mean gateway?)"),
        ("pki:\n  uuid: 1\n",
         "lockgate.yaml:2: pki.uuid: there is no such key (did you mean uid?)"),
        ("- 1\n", "lockgate.yaml:1: this must be a mapping (write `key: value` lines)"),
        ("state_dir: x/y\n",
         "lockgate.yaml:1: state_dir: 'x/y' is not an absolute path (write it from / on, without "
         "..)"),
        ("state_dir: /x/../y\n",
         "lockgate.yaml:1: state_dir: '/x/../y' is not an absolute path (write it from / on, "
         "without ..)"),
        ("pki:\n  state_dir: /x\n",
         "lockgate.yaml:2: pki.state_dir: this key is shared by all sections (write state_dir at "
         "the top)"),
        ("gateway:\n  uid: nobody\n",
         "lockgate.yaml:2: gateway.uid: not a uid (write a whole number)"),
        ("pki:\n  leaf_lifetime: 5m\n",
         "lockgate.yaml:2: pki.leaf_lifetime: input should be greater than or equal to 600"),
        ("pki:\n  leaf_lifetime: 30d\n",
         "lockgate.yaml:2: pki.leaf_lifetime: input should be less than or equal to 604800"),
        ("trust_domain: A\n",
         "lockgate.yaml:1: trust_domain: not a trust domain: 'A': a lower-case DNS name of at most "
         "64 characters is expected, such as lockgate.internal"),
    ],
)  # fmt: skip
def test_bad_configuration(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake is one line with file, line, key, problem and remedy."""
    assert complain(tmp_path, text) == message


@pytest.mark.parametrize(("length", "is_good"), [(94, True), (95, False)])
def test_a_run_dir_too_long_for_a_socket_is_refused(
    tmp_path: Path, length: int, is_good: bool
) -> None:
    """gateway.sock in it has at most the 107 bytes of a Unix socket's address."""
    path = write(tmp_path, f"run_dir: /{'x' * (length - 1)}\n")
    if is_good:
        assert len(str(load_pki_config(path, 0, {}).run_dir / "gateway.sock")) == 107
    else:
        with pytest.raises(ConfigError, match=r":1: run_dir: gateway.sock .* 108 bytes, .*shorter"):
            load_pki_config(path, 0, {})


def test_a_default_run_dir_too_long_is_refused_by_name() -> None:
    """The error names run_dir even if nobody wrote it."""
    with pytest.raises(ConfigError, match=r"run_dir: .*set run_dir to a shorter path"):
        load_pki_config(None, 7, {"HOME": "/h", "XDG_RUNTIME_DIR": "/" + "x" * 100})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no\nb: yes\nc: on\n", {"a": "no", "b": "yes", "c": "on"}),
        ("a: true\nb: False\n", {"a": True, "b": False}),
        ("a: 0600\nb: 0x10\nc: 1_000\nd: 1:30\n",
         {"a": "0600", "b": "0x10", "c": "1_000", "d": "1:30"}),
        ("a: 10\nb: -3\nc: +4\nd: 0\n", {"a": 10, "b": -3, "c": 4, "d": 0}),
        ("a: 1.5\nb: 1.10\nc: .5\nd: 1.0e3\n", {"a": 1.5, "b": 1.1, "c": 0.5, "d": 1000.0}),
        ("a: 2024-01-01\nb: 12e4\n", {"a": "2024-01-01", "b": "12e4"}),
        ("a:\nb: ~\nc: null\n", {"a": None, "b": None, "c": None}),
        ("a: 'true'\nb: \"1\"\nc: |\n  x\n  y\n", {"a": "true", "b": "1", "c": "x\ny\n"}),
        ("a: [1, x]\nb: {c: d}\n", {"a": [1, "x"], "b": {"c": "d"}}),
        ("", None),
        ("# only a comment\n", None),
        ("<: 1\n", {"<": 1}),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """Nothing turns into a boolean, a date or a base-60 number behind the operator's back."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f.yaml:4: b.c: written twice, first on line 3 (keep one)"),
        ("a: &x 1\nb: *x\n", "f.yaml:2: b: aliases are not supported"),
        ("a: &x\n  b: *x\n", "f.yaml:2: a.b: aliases are not supported"),
        ("<<: {a: 1}\n<<: {b: 1}\n", "f.yaml:2: <<: written twice"),
        ("true: 1\n", "f.yaml:1: a key must be text (put it in quotes)"),
        ("? [a]\n: 1\n", "f.yaml:1: a key must be text (put it in quotes)"),
        ("a: !!python/object:os.system {}\n", "f.yaml:1: a: the tag tag:yaml.org,2002:python"),
        ("a: !x 1\n", "f.yaml:1: a: the tag !x is not supported (remove it)"),
        ("a: !!binary aGk=\n", "f.yaml:1: a: the tag"),
        ("a: !!int x\n", "f.yaml:1: a: not a int"),
        ("a: [1\n", "f.yaml:2: not valid YAML: "),
        ("a: b: c\n", "f.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("\ta: 1\n", "f.yaml:1: not valid YAML: "),
        ("a: 1\n---\nb: 1\n", "f.yaml:2: not valid YAML: "),
        ("a: \x00\n", "f.yaml: not valid YAML: special characters are not allowed"),
        ("[" * 5000, "f.yaml"),
    ],
)
def test_documents_that_are_refused(text: str, message: str) -> None:
    """What is doubled, aliased, tagged or broken is refused with its line."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    """Nothing but a ConfigError comes out of a file, whatever is in it."""
    try:
        value = parse_document(content, "f.yaml").value
    except ConfigError as error:
        value = str(error)
    assert not isinstance(value, bytes)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory and a huge file are each an error of their own."""
    with pytest.raises(ConfigError, match=r"nope.yaml: cannot be read: No such file"):
        load_document(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load_document(tmp_path)
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load_document(big)
