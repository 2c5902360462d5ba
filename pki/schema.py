"""A YAML document's values → a frozen pydantic model, or one error that says what to write where.

Invariants: no file is read here; every error of pydantic is translated into a `ConfigError` that
names file, line, dotted key, problem and remedy; unknown keys are never ignored.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from pki.errors import ConfigError

KeyPath = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
_NOTHING: Mapping[str, object] = MappingProxyType({})

_REMEDIES = {
    "string_type": "write it as text, in quotes if need be",
    "int_type": "write a whole number",
    "int_parsing": "write a whole number",
    "int_from_float": "write a whole number",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "list_type": "write a list: one `- item` per line",
    "tuple_type": "write a list: one `- item` per line",
    "dict_type": "write `key: value` lines below it",
    "model_type": "write `key: value` lines below it",
    "model_attributes_type": "write `key: value` lines below it",
}


class Section(BaseModel):
    """A part of a configuration file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML file: `value` is plain Python, `lines` maps each key's path to its line."""

    file: str
    value: object
    lines: Mapping[KeyPath, int]

    def find(self, at: KeyPath) -> object:
        """The value at a path; None where the path is not written."""
        value: object = self.value
        for part in at:
            value = _step(value, part)
        return value

    def find_line(self, at: KeyPath) -> int | None:
        """The line of the path, or of the closest parent that is written."""
        return next(
            (self.lines[at[:n]] for n in range(len(at), 0, -1) if at[:n] in self.lines), None
        )

    def build_error(self, at: KeyPath, problem: str, remedy: str = "") -> ConfigError:
        """A `ConfigError` about the key at `at`, for rules that a model cannot hold."""
        return ConfigError(self.file, self.find_line(at), _dotted(at), problem, remedy)


def build_model(
    model: type[M],
    document: Document,
    *,
    at: KeyPath = (),
    outer: Mapping[str, object] = _NOTHING,
) -> M:
    """The model from the mapping at `at`; raises `ConfigError` for the first thing wrong.

    `outer` brings values for fields that are not written below `at` (defaults of the machine, keys
    shared by all sections); an error in one of them is reported under its own top-level key.
    """
    written = document.find(at)
    if written is None:
        written = {}
    if not isinstance(written, dict):
        raise document.build_error(at, "this must be a mapping", _REMEDIES["dict_type"])
    try:
        return model.model_validate({**outer, **written})
    except ValidationError as error:
        raise _translate(error, model, document, at, written) from None


def build_suggestion(key: str, known: list[str]) -> str:
    """A remedy for a key that does not exist: the closest known one, else all of them."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known keys: {', '.join(sorted(known))}" if known else "no keys are known here"


def _translate(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    at: KeyPath,
    written: dict[object, object],
) -> ConfigError:
    details = error.errors(include_url=False)
    first = details[0]["loc"][:1]
    # A union reports once per branch: of those about one key, the deepest came furthest.
    detail = max((d for d in details if d["loc"][:1] == first), key=lambda d: len(d["loc"]))
    problem, remedy = _explain(detail, model)
    return document.build_error(_locate(detail, written, at), problem, remedy)


def _locate(detail: ErrorDetails, written: dict[object, object], at: KeyPath) -> KeyPath:
    """Where the key is, or would be: pydantic mixes names of union branches into its locations."""
    loc = detail["loc"]
    if detail["type"] == "missing":
        return (*at, *_follow(written, loc[:-1]), loc[-1])
    if loc and loc[0] not in written:
        return loc[:1]  # it came from `outer`, which is written, if at all, at the top
    return at + _follow(written, loc)


def _follow(value: object, loc: KeyPath) -> KeyPath:
    path: list[str | int] = []
    for part in loc:
        if _has(value, part):
            value = _step(value, part)
            path.append(part)
    return tuple(path)


def _has(value: object, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)


def _step(value: object, part: str | int) -> object:
    if not _has(value, part):
        return None
    container: Any = value
    return container[part]


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    kind = detail["type"]
    if kind == "extra_forbidden":
        key = str(detail["loc"][-1])
        return "there is no such key", build_suggestion(key, _list_keys(model, detail["loc"][:-1]))
    if kind == "missing":
        return "this key is required", "add it"
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        return getattr(cause, "problem", str(cause)), getattr(cause, "remedy", "")
    return detail["msg"][:1].lower() + detail["msg"][1:], _REMEDIES.get(kind, "")


def _list_keys(model: type[BaseModel], loc: KeyPath) -> list[str]:
    """The keys of the model that `loc` leads to, through lists, mappings and unions."""
    models = [model]
    for part in loc:
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if fields:
            models = [found for annotation in fields for found in _find_models(annotation)]
        elif named := [m for m in models if m.__name__ == part]:
            models = named
    return sorted({f.alias or name for m in models for name, f in m.model_fields.items()})


def _find_models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _find_models(part)]


def _dotted(at: KeyPath) -> str:
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
