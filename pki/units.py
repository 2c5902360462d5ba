"""Sizes and durations as people write them in YAML: `200MiB`, `12h`, `1h30m`.

Invariants: no unit is ever guessed; what `format_` writes, `parse_` reads back exactly.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MAX_BYTES = 2**63 - 1
_SIZE = re.compile(r"([0-9]{1,19})(B|KiB|MiB|GiB|TiB)")

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_MAX_MILLISECONDS = 100 * 366 * _MILLISECONDS["d"]
_DURATION = re.compile(
    r"(?:([0-9]{1,16})d)?(?:([0-9]{1,16})h)?(?:([0-9]{1,16})m(?!s))?"
    r"(?:([0-9]{1,16})s)?(?:([0-9]{1,16})ms)?"
)

_SIZE_REMEDY = "write a whole number and a unit: B, KiB, MiB, GiB or TiB, such as 200MiB"
_DURATION_REMEDY = "write whole numbers and units: d, h, m, s or ms, such as 12h or 1m30s"


class UnitError(ValueError):
    """A size or duration that cannot be read; `remedy` says the expected form."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} ({remedy})")


def parse_size(text: str) -> int:
    """Bytes from `200MiB`; raises `UnitError` (a ValueError)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise UnitError(f"{text[:40]!r} is not a size", _SIZE_REMEDY)
    size_bytes = int(match[1]) * _SIZES[match[2]]
    if size_bytes > _MAX_BYTES:
        raise UnitError(f"{text[:40]!r} is larger than any disk", _SIZE_REMEDY)
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact form that `parse_size` reads back."""
    unit = next(
        name for name, factor in reversed(_SIZES.items()) if factor == 1 or not size_bytes % factor
    )
    return f"{size_bytes // _SIZES[unit]}{unit}" if size_bytes else "0B"


def parse_duration(text: str) -> float:
    """Seconds from `12h`, `90s`, `500ms` or `1h30m` (largest unit first); raises `UnitError`."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise UnitError(f"{text[:40]!r} is not a duration", _DURATION_REMEDY)
    counts = (int(group or 0) for group in match.groups())
    total = sum(n * factor for n, factor in zip(counts, _MILLISECONDS.values(), strict=True))
    if total > _MAX_MILLISECONDS:
        raise UnitError(f"{text[:40]!r} is longer than 100 years", _DURATION_REMEDY)
    return total / 1000


def format_duration(seconds: float) -> str:
    """`1h30m` from 5400.0, exact to the millisecond; `parse_duration` reads it back."""
    rest = round(seconds * 1000)
    parts = []
    for unit, factor in _MILLISECONDS.items():
        count, rest = divmod(rest, factor)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _read_size(value: object) -> int:
    if isinstance(value, str):
        return parse_size(value)
    raise UnitError(f"{str(value)[:40]} has no unit", _SIZE_REMEDY)


def _read_duration(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise UnitError(f"{str(value)[:40]} has no unit", _DURATION_REMEDY)


Size = Annotated[
    int,
    BeforeValidator(_read_size, json_schema_input_type=str),
    PlainSerializer(format_size, return_type=str, when_used="json"),
]
Duration = Annotated[
    float,
    BeforeValidator(_read_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
