"""How a document's values become a model, and what an error must say."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from pki.config import parse_document
from pki.errors import ConfigError
from pki.schema import Section, build_model, build_suggestion
from pki.units import Size


class Pair(Section):
    """A certificate and its key."""

    cert: str
    key: str


class Door(Section):
    """A section with every shape that configurations use."""

    name: str
    port: Annotated[int, Field(ge=1, le=65535)] = 443
    is_open: bool = Field(default=True, alias="open")
    level: Literal["low", "high"] = "low"
    size: Size = 1
    certificates: Literal["internal"] | tuple[Pair, ...] = "internal"
    places: dict[str, Pair] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def check_name(cls, value: str) -> str:
        """A rule of the model's own."""
        if value == "bad":
            raise ValueError("this name is taken")
        return value


def build(text: str, **outer: object) -> Door:
    """The `door` section of a document."""
    return build_model(Door, parse_document(text.encode(), "f.yaml"), at=("door",), outer=outer)


def complain(text: str, **outer: object) -> str:
    """The error as an operator sees it."""
    with pytest.raises(ConfigError) as caught:
        build(text, **outer)
    return str(caught.value)


def test_a_good_section_becomes_a_frozen_model() -> None:
    """Values arrive as written, the rest are defaults, and nobody changes them later."""
    door = build("door:\n  name: a\n  open: false\n  size: 2KiB\n  tags: [x, y]\n")
    assert (door.name, door.is_open, door.size, door.tags) == ("a", False, 2048, ("x", "y"))
    with pytest.raises(ValidationError, match="frozen"):
        door.name = "b"


def test_a_missing_section_is_an_empty_one() -> None:
    """Outer values and defaults fill it."""
    assert build("", name="a") == build("door:\n", name="a") == build("door: {name: a}\n")


def test_what_is_written_wins_over_outer_values() -> None:
    """A default of the machine never overrides the file."""
    assert build("door: {name: a}\n", name="b").name == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "door:\n  name: a\n  prot: 1\n",
            "f.yaml:3: door.prot: there is no such key (did you mean port?)",
        ),
        (
            "door:\n  name: a\n  opne: true\n",
            "f.yaml:3: door.opne: there is no such key (did you mean open?)",
        ),
        (
            "door:\n  name: a\n  certificates:\n  - cert: a\n    kye: b\n    key: c\n",
            "f.yaml:5: door.certificates[0].kye: there is no such key (did you mean key?)",
        ),
        (
            "door:\n  name: a\n  places:\n    home:\n      cert: a\n      key: b\n      x: 1\n",
            "f.yaml:7: door.places.home.x: there is no such key (known keys: cert, key)",
        ),
        ("door:\n  port: 1\n", "f.yaml:1: door.name: this key is required (add it)"),
        (
            "door:\n  name: a\n  certificates:\n  - cert: a\n",
            "f.yaml:4: door.certificates[0].key: this key is required (add it)",
        ),
        (
            "door:\n  name: a\n  size: 200\n",
            "f.yaml:3: door.size: 200 has no unit (write a whole number and a unit: B, KiB, MiB, "
            "GiB or TiB, such as 200MiB)",
        ),
        (
            "door:\n  name: a\n  size: 200MB\n",
            "f.yaml:3: door.size: '200MB' is not a size (write a whole number and a unit: B, KiB, "
            "MiB, GiB or TiB, such as 200MiB)",
        ),
        ("door:\n  name: bad\n", "f.yaml:2: door.name: this name is taken"),
        (
            "door:\n  name: 12\n",
            "f.yaml:2: door.name: input should be a valid string (write it as text, in quotes if "
            "need be)",
        ),
        (
            "door:\n  name: a\n  level: medium\n",
            "f.yaml:3: door.level: input should be 'low' or 'high'",
        ),
        (
            "door:\n  name: a\n  port: 0\n",
            "f.yaml:3: door.port: input should be greater than or equal to 1",
        ),
        ("door: 3\n", "f.yaml:1: door: this must be a mapping (write `key: value` lines below it)"),
        (
            "door:\n  name: a\n  tags:\n  - x\n  - [y]\n",
            "f.yaml:5: door.tags[1]: input should be a valid string (write it as text, in quotes "
            "if need be)",
        ),
    ],
)
def test_an_error_names_file_line_key_problem_and_remedy(text: str, message: str) -> None:
    """Each mistake is one line that says where it is and what to write."""
    assert complain(text) == message


def test_an_outer_value_is_blamed_under_its_own_name() -> None:
    """A shared key that is wrong is reported where it is written: at the top."""
    assert complain("port: x\ndoor:\n  name: a\n", port="x").startswith("f.yaml:1: port: ")


def test_an_unwritten_outer_value_has_no_line() -> None:
    """A default of the machine that is wrong is not blamed on a line of the file."""
    assert complain("door:\n  name: a\n", port=0).startswith("f.yaml: port: ")


def test_suggestions() -> None:
    """The closest key if there is a close one, else all of them."""
    assert build_suggestion("pytohn", ["python", "health"]) == "did you mean python?"
    assert build_suggestion("zzz", ["b", "a"]) == "known keys: a, b"
    assert build_suggestion("zzz", []) == "no keys are known here"


def test_document_finds_values_and_lines() -> None:
    """A path leads to its value and line; one that is not written to the closest parent's."""
    document = parse_document(b"a:\n  b:\n  - 1\n  - x: 2\n", "f.yaml")
    assert document.find(("a", "b", 1, "x")) == 2
    assert document.find(("a", "c")) is document.find(("a", "b", 9)) is None
    assert document.find_line(("a", "b", 1, "x")) == 4
    assert document.find_line(("a", "b", 1, "y", "z")) == 4
    assert document.find_line(("q",)) is None
    assert str(document.build_error(("a", "b", 0), "no")) == "f.yaml:3: a.b[0]: no"
