"""Strict records: pydantic models that refuse unknown keys and say what would be right, on one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import pydantic
import yaml
from pydantic.fields import FieldInfo

from swrec_prod.errors import ConfigError, SwrecError, nearest

# parts of a place that are no keys: which alternative of a type pydantic tried
ALTERNATIVE = re.compile(r"function-|(str|bool|int|float)$|(dict|tuple|list)\[")
IN_YAML = (
    ("a list", re.compile(r"a valid (tuple|list)", re.IGNORECASE)),
    ("List", re.compile(r"^Tuple")),
    ("keys and values", re.compile(r"a valid dictionary( or instance of \w+)?")),
)  # what Python calls otherwise

StrictT = TypeVar("StrictT", bound="Strict")


class Strict(pydantic.BaseModel):
    """A frozen record whose unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Lines:
    """Where keys stand in a YAML text."""

    def __init__(self, text: str) -> None:
        self._root = yaml.compose(text)

    @classmethod
    def of(cls, path: str | Path, error: type[SwrecError] = ConfigError) -> Lines:
        """Of the file at `path`. Raises `error` when it is missing or not YAML."""
        read_yaml(path, error)
        return cls(Path(path).read_text())

    def at(self, place: Sequence[Any]) -> int:
        """The line, from 1 on, of the key that the keys and positions `place` lead to, or of the last that is there."""
        node, line = self._root, 1
        for key in place:
            if isinstance(node, yaml.MappingNode):
                found = [(name, value) for name, value in node.value if name.value == str(key)]
                name, node = found[0] if found else (None, None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                name = node = node.value[key]
            else:
                name = node = None
            if name is None:
                break
            line = name.start_mark.line + 1
        return line


def parse(
    record: type[StrictT],
    data: Any,
    source: str,
    error: type[SwrecError] = ConfigError,
    lines: Lines | None = None,
) -> StrictT:
    """`data` as a `record`; raises `error`, naming `source`, its line if `lines` are given, the key and what would be
    right.
    """
    try:
        return record.model_validate(data)
    except pydantic.ValidationError as failure:
        problems = failure.errors()
        unknown = (problem for problem in problems if problem["type"] == "extra_forbidden")
        first = next(unknown, problems[0])  # a misspelt key may be one that is required
        where = f"{source}:{lines.at(_place(first))}" if lines else source
        raise error(f"{where}: {_explain(record, first)}") from None


def read_yaml(path: str | Path, error: type[SwrecError] = ConfigError) -> Any:
    """The content of a YAML file; raises `error` when it is missing or not YAML."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        raise error(f"{path}: not valid YAML: {' '.join(str(failure).split())}") from None


def load(record: type[StrictT], path: str | Path, error: type[SwrecError] = ConfigError) -> StrictT:
    """The YAML file at `path` as a `record`."""
    return parse(record, read_yaml(path, error), str(path), error)


def dump(record: Strict, path: str | Path) -> None:
    """Write `record` as YAML, defaults left out, keys in the order of declaration."""
    plain = record.model_dump(mode="json", exclude_defaults=True)
    Path(path).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _place(problem: Any) -> list[Any]:
    """The keys and positions that lead to it."""
    return [p for p in problem["loc"] if not (isinstance(p, str) and ALTERNATIVE.match(p))]


def _explain(record: type[pydantic.BaseModel], problem: Any) -> str:
    place = _place(problem)
    dotted = ".".join(str(p) for p in place) or "(top level)"
    if problem["type"] == "extra_forbidden":
        owner = _owner(record, place[:-1])
        known = [f.alias or name for name, f in owner.model_fields.items()] if owner else []
        return f"{dotted}: unknown key; {nearest(str(place[-1]), known)}"
    if problem["type"] == "missing":
        return f"{dotted}: required, but not given"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] != "value_error":
        for ours, theirs in IN_YAML:
            message = theirs.sub(ours, message)
    given = problem.get("input")
    if problem["type"] == "string_type" and isinstance(given, (bool, int, float)):
        return f"{dotted}: {given!r} is no text; write it in quotes"
    shown = "" if isinstance(given, (dict, list)) or problem["type"] == "value_error" else f", not {given!r}"
    return f"{dotted}: {message[0].lower() + message[1:]}{shown}"


def _owner(record: type[pydantic.BaseModel], place: list[Any]) -> type[pydantic.BaseModel] | None:
    """The record class that the path `place` inside `record` leads to."""
    names_entry = False
    for key in place:
        if names_entry or not isinstance(key, str):
            names_entry = False
            continue  # an entry of a list or a mapping: its type was taken with the field
        field = record.model_fields.get(key) or _called(record, key)
        inner = _record_in(field.annotation) if field else None
        if field is None or inner is None:
            return None
        record, names_entry = inner, get_origin(field.annotation) is dict
    return record


def _called(record: type[pydantic.BaseModel], alias: str) -> FieldInfo | None:
    return next((field for field in record.model_fields.values() if field.alias == alias), None)


def _record_in(annotation: Any) -> type[pydantic.BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    return next((r for r in map(_record_in, get_args(annotation)) if r is not None), None)
