"""What agent.json says, checked key by key before anything is done.

Invariants: no I/O; an unknown, missing or ill-typed key is an error; no secret is in here.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # the typing module costs 2 ms at every start
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class SettingsError(Exception):
    """agent.json is not what the agent understands; the text names the key."""


class Settings:
    """agent.json as values.

    Sizes are bytes, times seconds; a uid of None means: stay who you are. `listen` is `host:port`
    or `unix:/path`. With a `sandbox_argv`, `cwd`, `home` and all folders are as seen from outside.
    """

    __slots__ = (
        *("listen", "app_port", "argv", "cwd", "env", "agent_uid", "app_uid", "identity_dir"),
        *("secrets_dir", "log_path", "log_max_bytes", "log_files", "peer_prefix", "home"),
        *("grace_s", "sandbox_argv"),
    )

    listen: str
    app_port: int
    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    agent_uid: int | None
    app_uid: int | None
    identity_dir: str
    secrets_dir: str
    log_path: str
    log_max_bytes: int
    log_files: int
    peer_prefix: str
    home: str
    grace_s: float
    sandbox_argv: Sequence[str]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_path(value: object) -> bool:
    return _is_text(value) and str(value).startswith("/")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_uid(value: object) -> bool:
    return value is None or _is_count(value)


def _is_port(value: object) -> bool:
    return _is_count(value) and value <= 65535  # type: ignore[operator]


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def _is_argv(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(w, str) and "\0" not in w for w in value)


def _is_command(value: object) -> bool:
    return _is_argv(value) and value != [] and value[0] != ""  # type: ignore[index]


def is_environment(value: object) -> bool:
    """Can this be the environment of a process: text to text, no `=` in names, no NUL?"""
    return isinstance(value, dict) and all(
        _is_text(name) and "=" not in name and isinstance(text, str) and "\0" not in text
        for name, text in value.items()
    )


def _is_listen(value: object) -> bool:
    if not _is_text(value):
        return False
    kind, _, rest = str(value).rpartition(":")
    if kind == "unix":
        return rest.startswith("/")
    return kind != "" and rest.isdigit() and int(rest) <= 65535


def _is_prefix(value: object) -> bool:
    """A whole path up to a slash: a prefix that ends inside a segment would admit others."""
    return _is_text(value) and str(value).startswith("spiffe://") and str(value).endswith("/")


_KEYS = {
    "listen": (_is_listen, "host:port or unix:/path"),
    "app_port": (_is_port, "a port"),
    "argv": (_is_command, "a list of words"),
    "cwd": (_is_path, "an absolute path"),
    "env": (is_environment, "names and texts"),
    "agent_uid": (_is_uid, "a uid above 0, or null"),
    "app_uid": (_is_uid, "a uid above 0, or null"),
    "identity_dir": (_is_path, "an absolute path"),
    "secrets_dir": (_is_path, "an absolute path"),
    "log_path": (_is_path, "an absolute path"),
    "log_max_bytes": (_is_count, "a number of bytes"),
    "log_files": (_is_count, "a number of files"),
    "peer_prefix": (_is_prefix, "spiffe://…/ with a slash at its end"),
    "home": (_is_path, "an absolute path"),
    "grace_s": (_is_time, "seconds"),
    "sandbox_argv": (_is_argv, "a list of words"),
}


def parse_settings(text: bytes | str) -> Settings:
    """agent.json; raises `SettingsError`. Values are never quoted: only keys are."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError("not a JSON object")
    for key in document:
        if key not in _KEYS:
            raise SettingsError(f"unknown key {key}")
    settings = Settings()
    for key, (is_good, wanted) in _KEYS.items():
        if key not in document:
            raise SettingsError(f"{key} is missing")
        if not is_good(document[key]):
            raise SettingsError(f"{key} must be {wanted}")
        setattr(settings, key, document[key])
    if settings.agent_uid is not None and settings.agent_uid == settings.app_uid:
        raise SettingsError("agent_uid and app_uid must differ")
    return settings
