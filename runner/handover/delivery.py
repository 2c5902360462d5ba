"""What an app is given of its secrets: `env.json` and Streamlit's `secrets.toml`, as bytes.

Invariants: pure; every secret whose name has no dot is in both; a name with dots is a key in a
table of `secrets.toml` and is no environment variable; a TOML reader reads back what was given.
"""

import json
import re
from collections.abc import Iterator, Mapping

_PART = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_CONTROL = {chr(code): f"\\u{code:04X}" for code in (*range(0x20), 0x7F)}
_ESCAPES = str.maketrans({**_CONTROL, **_SHORT})


def build_secret_files(secrets: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a secrets directory by name. Raises `ValueError` as `build_toml` does."""
    return {"env.json": build_env_json(secrets), "secrets.toml": build_toml(secrets)}


def build_env_json(secrets: Mapping[str, str]) -> bytes:
    """A JSON object of the names that can be environment variables."""
    variables = {name: value for name, value in sorted(secrets.items()) if "." not in name}
    return json.dumps(variables, indent=1).encode()


def build_toml(secrets: Mapping[str, str]) -> bytes:
    """A TOML 1.0 document. Raises `ValueError` for a bad name, or one that is value and table."""
    tables: dict[tuple[str, ...], dict[str, str]] = {(): {}}
    for name, value in sorted(secrets.items()):
        *table, key = name.split(".")
        if not all(_PART.match(part) for part in (*table, key)):
            raise ValueError(f"{name!r} is no key of a TOML document")
        tables.setdefault(tuple(table), {})[key] = value
    _refuse_value_and_table(tables)
    return "\n".join(_write(tables)).encode() + b"\n"


def _refuse_value_and_table(tables: Mapping[tuple[str, ...], Mapping[str, str]]) -> None:
    for table in tables:
        for depth in range(len(table)):
            if table[depth] in tables.get(table[:depth], {}):
                name = ".".join(table[: depth + 1])
                raise ValueError(f"{name!r} is a value and a table at once")


def _write(tables: Mapping[tuple[str, ...], Mapping[str, str]]) -> Iterator[str]:
    for table, values in sorted(tables.items()):
        if table:
            yield f"\n[{'.'.join(table)}]"
        for key, value in values.items():
            yield f'{key} = "{value.translate(_ESCAPES)}"'
