"""What the files of a secrets directory must hold."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.handover.delivery import build_secret_files, build_toml

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(NAMES, VALUES))
def test_toml_reads_back_what_was_given(secrets: dict[str, str]) -> None:
    """Whatever is in a value, a TOML reader and a JSON reader give it back."""
    files = build_secret_files(secrets)
    assert tomllib.loads(files["secrets.toml"].decode()) == secrets
    assert json.loads(files["env.json"]) == secrets


def test_names_with_dots_are_tables_and_no_variables() -> None:
    """A dotted name is a key in its table, whatever the order of names, and is not in env.json."""
    files = build_secret_files(
        {
            "connections.db.url": 'postgresql://u:"p"@h/d',
            "TOKEN": "t",
            "connections.cache.url": "rediss://",
            "connections.timeout": "3",
            "zone": "z",
        }
    )
    assert tomllib.loads(files["secrets.toml"].decode()) == {
        "TOKEN": "t",
        "zone": "z",
        "connections": {
            "timeout": "3",
            "db": {"url": 'postgresql://u:"p"@h/d'},
            "cache": {"url": "rediss://"},
        },
    }
    assert json.loads(files["env.json"]) == {"TOKEN": "t", "zone": "z"}


def test_no_secrets_are_two_empty_documents() -> None:
    """Without secrets both files are there and empty."""
    assert build_secret_files({}) == {"env.json": b"{}", "secrets.toml": b"\n"}


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a.b.c"), ("a", "a.b.c")])
def test_value_and_table_of_one_name_are_refused(names: tuple[str, ...]) -> None:
    """A name cannot be a value and a table at once."""
    with pytest.raises(ValueError, match="is a value and a table at once"):
        build_toml(dict.fromkeys(names, "x"))


@pytest.mark.parametrize("name", ["", "a..b", "a b", 'a"', "a\nb", "1", "a]", "ü"])
def test_names_that_could_break_out_are_refused(name: str) -> None:
    """A name that is no bare key is refused."""
    with pytest.raises(ValueError, match="no key of a TOML document"):
        build_toml({name: "x"})
