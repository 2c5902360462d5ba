"""What must hold of sizes and durations."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pki.units import (
    Duration,
    Size,
    UnitError,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


class Limits(BaseModel):
    """A model as other packages write them."""

    size: Size = 1024
    wait: Duration = 1.5


@given(st.integers(0, 2**63 - 1))
def test_sizes_round_trip(size_bytes: int) -> None:
    """What is formatted parses back to the same bytes."""
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.integers(0, 10**12))
def test_durations_round_trip(milliseconds: int) -> None:
    """What is formatted parses back to the same milliseconds."""
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.text(max_size=20))
def test_parsers_only_raise_unit_errors(text: str) -> None:
    """Any text is read or refused with a remedy, never anything else."""
    for parse in (parse_size, parse_duration):
        try:
            is_read = parse(text) >= 0
        except UnitError as error:
            is_read = bool(error.remedy)
        assert is_read


@given(st.integers(0, 999), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_sizes_are_binary(count: int, unit: str) -> None:
    """Each unit is 1024 times the one before."""
    power = ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert parse_size(f"{count}{unit}") == count * 1024**power


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("200MiB", 209715200), ("0B", 0), ("1GiB", 2**30), ("7B", 7)]
)
def test_sizes(text: str, size_bytes: int) -> None:
    """Sizes as the documentation writes them."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "200", "200MB", "200M", "200 MiB", "1.5GiB", "-1MiB", "MiB", "200mib", "٣MiB",
             "99999999999999999999B", "9223372036854775807TiB", "1MiB\n"],
)  # fmt: skip
def test_bad_sizes(text: str) -> None:
    """Anything else is refused with the expected form."""
    with pytest.raises(UnitError, match="such as 200MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12h", 43200.0), ("1m30s", 90.0), ("500ms", 0.5), ("1d", 86400.0), ("0s", 0.0),
     ("5m", 300.0), ("1h1ms", 3600.001), ("2m5ms", 120.005)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    """Durations as the documentation writes them."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "12", "1.5s", "-1s", "s", "1 h", "1s1h", "1h1h", "1w", "1H", "200y", "36601d"]
)
def test_bad_durations(text: str) -> None:
    """Anything else is refused with the expected form."""
    with pytest.raises(UnitError, match="such as 12h"):
        parse_duration(text)


def test_fields_read_text_and_write_it_back() -> None:
    """A model reads units, holds plain numbers and writes JSON that it can read again."""
    limits = Limits(size="2MiB", wait="1h30m")
    assert (limits.size, limits.wait) == (2 * 2**20, 5400.0)
    assert json.loads(limits.model_dump_json()) == {"size": "2MiB", "wait": "1h30m"}
    assert Limits.model_validate_json(limits.model_dump_json()) == limits


@pytest.mark.parametrize("value", [200, 1.5, True, None, ["1MiB"]])
def test_bare_numbers_are_refused(value: object) -> None:
    """A number without a unit is never guessed at."""
    for field in ("size", "wait"):
        with pytest.raises(ValidationError, match="has no unit"):
            Limits.model_validate({field: value})
