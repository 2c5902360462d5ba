"""Configuration files: YAML with line numbers, one file for all processes, a section for each.

Invariants: what is written decides, defaults fill in; a key is never silently ignored, doubled or
guessed (YAML 1.2 scalars only: `no`, `1:30` and `0600` stay text; no aliases, no tags).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, Field

from pki.errors import ConfigError
from pki.identity import parse_trust_domain
from pki.schema import Document, KeyPath, Section, build_model, build_suggestion
from pki.units import Duration, UnitError

SHARED_KEYS = ("trust_domain", "state_dir", "run_dir")
SECTIONS = ("pki", "gateway", "runner")
DEFAULT_TRUST_DOMAIN = "lockgate.internal"
DEFAULT_PKI_UID = 64051
DEFAULT_GATEWAY_UID = 64052

_MAX_FILE_BYTES = 1 << 20
_MAX_SOCKET_PATH_BYTES = 107  # sun_path is 108 with its NUL: unix(7)
_LONGEST_SOCKET_NAME = "gateway.sock"
_TAG_PREFIX = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    _TAG_PREFIX + name for name in ["map", "seq", "str", "int", "float", "bool", "null"]
)
M = TypeVar("M", bound=BaseModel)


def check_absolute(path: Path) -> Path:
    """The path, if it is absolute; raises ValueError with a remedy."""
    if not path.is_absolute() or ".." in path.parts:
        raise UnitError(f"{str(path)!r} is not an absolute path", "write it from / on, without ..")
    return path


def check_run_dir(path: Path) -> Path:
    """The run directory, if the sockets in it can have an address; raises ValueError."""
    size = len(os.fsencode(check_absolute(path) / _LONGEST_SOCKET_NAME))
    if size > _MAX_SOCKET_PATH_BYTES:
        raise UnitError(
            f"{_LONGEST_SOCKET_NAME} in it would have a path of {size} bytes, and a Unix socket's "
            f"has at most {_MAX_SOCKET_PATH_BYTES}",
            "set run_dir to a shorter path",
        )
    return path


StateDir = Annotated[Path, AfterValidator(check_absolute)]
RunDir = Annotated[Path, AfterValidator(check_run_dir)]
TrustDomain = Annotated[str, AfterValidator(parse_trust_domain)]
Uid = Annotated[int, Field(ge=0, lt=2**32 - 1)]


class PkiConfig(Section):
    """The `pki` section with the shared keys; times in seconds, uids as numbers."""

    trust_domain: TrustDomain
    state_dir: StateDir
    run_dir: RunDir
    uid: Uid
    runner_uid: Uid
    gateway_uid: Uid
    leaf_lifetime: Annotated[Duration, Field(ge=600, le=7 * 86_400)] = 86_400.0

    @property
    def socket_path(self) -> Path:
        """Where the service listens."""
        return self.run_dir / "pki.sock"

    @property
    def store_dir(self) -> Path:
        """Sealed keys, registry and journal."""
        return self.state_dir / "pki"

    @property
    def master_key_path(self) -> Path:
        """The key file that the seal key is derived from when no supervisor hands one over."""
        return self.state_dir / "master.key"


@dataclass(frozen=True, slots=True)
class Dirs:
    """Where a machine or a user keeps Lockgate's state and sockets."""

    state_dir: Path
    run_dir: Path


def build_default_dirs(uid: int, env: Mapping[str, str]) -> Dirs:
    """The directories when the file names none (XDG base directories for an ordinary user).

    `LOCKGATE_STATE_DIR` and `LOCKGATE_RUN_DIR` let a supervisor tell a process that gave up root.
    """
    if uid == 0:
        state, run = Path("/var/lib/lockgate"), Path("/run/lockgate")
    else:
        home = env.get("XDG_STATE_HOME") or Path(env.get("HOME") or "/", ".local/state")
        runtime = env.get("XDG_RUNTIME_DIR")
        state = Path(home, "lockgate")
        run = Path(runtime, "lockgate") if runtime else Path(f"/tmp/lockgate-{uid}")  # noqa: S108 - its owner is checked before use
    return Dirs(
        Path(env.get("LOCKGATE_STATE_DIR") or state), Path(env.get("LOCKGATE_RUN_DIR") or run)
    )


def load_section(
    path: Path | None,
    section: str,
    model: type[M],
    *,
    defaults: Mapping[str, object] | None = None,
    uid: int | None = None,
    env: Mapping[str, str] | None = None,
) -> M:
    """The section of the file as a model, with the shared top-level keys it has fields for.

    `defaults` fill fields that are not written and depend on the machine. A path of None means no
    file: defaults only. `uid` and `env` are the process's own unless given. Raises `ConfigError`.
    """
    document = _load_root(path)
    root = document.value if isinstance(document.value, dict) else {}
    own = root.get(section)
    for key in SHARED_KEYS:
        if isinstance(own, dict) and key in own:
            raise document.build_error(
                (section, key), "this key is shared by all sections", f"write {key} at the top"
            )
    dirs = build_default_dirs(
        os.getuid() if uid is None else uid, os.environ if env is None else env
    )
    shared: dict[str, object] = {
        "trust_domain": DEFAULT_TRUST_DOMAIN,
        "state_dir": str(dirs.state_dir),
        "run_dir": str(dirs.run_dir),
    }
    shared |= {key: root[key] for key in SHARED_KEYS if key in root}
    outer = {key: value for key, value in shared.items() if key in model.model_fields}
    return build_model(model, document, at=(section,), outer={**(defaults or {}), **outer})


def load_pki_config(path: Path | None, uid: int, env: Mapping[str, str]) -> PkiConfig:
    """The `pki` section as the process with this uid sees it; raises `ConfigError`.

    As root each process has its own uid, as an ordinary user all are that user. The gateway's uid
    is written once, as `gateway.uid`.
    """
    document = _load_root(path)
    gateway_uid = document.find(("gateway", "uid"))
    if gateway_uid is None:
        gateway_uid = DEFAULT_GATEWAY_UID if uid == 0 else uid
    elif not isinstance(gateway_uid, int):
        raise document.build_error(("gateway", "uid"), "not a uid", "write a whole number")
    defaults = {
        "uid": DEFAULT_PKI_UID if uid == 0 else uid,
        "runner_uid": uid,
        "gateway_uid": gateway_uid,
    }
    return load_section(path, "pki", PkiConfig, defaults=defaults, uid=uid, env=env)


def load_document(path: Path) -> Document:
    """Read and parse one YAML file (at most 1 MiB); raises `ConfigError`."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        remedy = "check the path" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(file, None, "", f"cannot be read: {error.strerror}", remedy) from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(file, None, "", "is larger than 1 MiB", "is it the right file?")
    return parse_document(content, file)


def parse_document(content: bytes, file: str) -> Document:
    """The same from bytes; `file` is the name that errors carry."""
    loader: Any = None
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        reader = _Reader(loader, file)
        value = None if node is None else reader.read(node, ())
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise _translate_yaml(error, file) from None
    finally:
        if loader is not None:
            loader.dispose()
    return Document(file, value, reader.lines)


def _load_root(path: Path | None) -> Document:
    """The whole file, with only known keys at the top."""
    if path is None:
        return Document("built-in defaults", {}, {})
    document = load_document(path)
    if document.value is None:
        return document
    if not isinstance(document.value, dict):
        raise ConfigError(
            document.file, 1, "", "this must be a mapping", "write `key: value` lines"
        )
    known = [*SHARED_KEYS, *SECTIONS]
    for key in document.value:
        if key not in known:
            remedy = build_suggestion(key, known)
            raise document.build_error((key,), "there is no such key", remedy)
    return document


def _translate_yaml(error: Exception, file: str) -> ConfigError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    line = None if mark is None else mark.line + 1
    return ConfigError(file, line, "", f"not valid YAML: {problem}".splitlines()[0])


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema (§10.3.2) instead of YAML 1.1's."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - how PyYAML is told


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(
        _TAG_PREFIX + _tag, re.compile(rf"^(?:{_pattern})$"), list(_first)
    )


class _Reader:
    """Turns composed nodes into plain values and remembers the line of every key."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader
        self._file = file
        self._seen: set[int] = set()

    def read(self, node: yaml.Node, path: KeyPath) -> object:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            # The node is the anchor's; the line is where the alias is written.
            raise Document(self._file, None, self.lines).build_error(
                path, "aliases are not supported", "write the value again"
            )
        self._seen.add(id(node))
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, path, f"the tag {node.tag} is not supported", "remove it")
        if isinstance(node, yaml.ScalarNode):
            return self._read_scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._read_mapping(node, path)

    def _read_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            value: object = self._loader.construct_object(node)
        except (ValueError, OverflowError, yaml.YAMLError):
            raise self._error(node, path, f"not a {node.tag[len(_TAG_PREFIX) :]}") from None
        return value

    def _read_mapping(self, node: yaml.Node, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.tag.endswith(":str"):
                raise self._error(key_node, path, "a key must be text", "put it in quotes")
            if key in result:
                first = self.lines[(*path, key)]
                raise self._error(
                    key_node, (*path, key), f"written twice, first on line {first}", "keep one"
                )
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            result[key] = self.read(value_node, (*path, key))
        return result

    def _error(self, node: yaml.Node, path: KeyPath, problem: str, remedy: str = "") -> ConfigError:
        key = Document(self._file, None, {}).build_error(path, "").key
        return ConfigError(self._file, node.start_mark.line + 1, key, problem, remedy)
