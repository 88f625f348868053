"""The keys of a record and of the records in it: what each takes, its default and its explanation."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pydantic
import yaml
from annotated_types import Ge, Gt, Le, Len, Lt, MaxLen, MinLen, MultipleOf
from pydantic.fields import FieldInfo

from reference.docstrings import explained

Record = type[pydantic.BaseModel]
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", date: "date", Any: "anything"}
LIMITS = {Ge: "ge", Gt: "gt", Le: "le", Lt: "lt", MultipleOf: "multiple_of"}
SIGNS = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<", MultipleOf: "a multiple of"}


@dataclass(frozen=True)
class Key:
    """One key of a file, or one option of a model.

    value: what it takes, in words. default: as YAML; "" for none, None where the key is required. meaning: "" where the
    docstring does not explain it. records: those that the value consists of.
    """

    name: str
    value: str
    default: str | None
    meaning: str
    records: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where in a file a record stands, `schema.features[]` for one, its keys and what else its docstring says."""

    path: str
    record: Record
    keys: tuple[Key, ...]
    remarks: tuple[str, ...]


def places(record: Record, path: str = "") -> tuple[Place, ...]:
    """The record and those in it, each where it comes first."""
    found: dict[Record, Place] = {}
    for place in _walk(record, path):
        found.setdefault(place.record, place)
    return tuple(found.values())


def _walk(record: Record, path: str, above: tuple[Record, ...] = ()) -> Iterator[Place]:
    if record in above:
        return
    place = Place(path, record, keys_of(record), explained(record.__doc__, names_of(record)).remarks)
    yield place
    for key, field in zip(place.keys, record.model_fields.values(), strict=True):
        inside = f"{path}.{key.name}".lstrip(".") + _suffix(field.annotation)
        for inner in key.records:
            yield from _walk(inner, inside, (*above, record))


def names_of(record: Record) -> tuple[str, ...]:
    """The keys as files have them."""
    return tuple(field.alias or name for name, field in record.model_fields.items())


def keys_of(record: Record) -> tuple[Key, ...]:
    """The keys of one record, in its order."""
    said = explained(record.__doc__, names_of(record)).keys
    fields = zip(names_of(record), record.model_fields.values(), strict=True)
    return tuple(
        Key(name, _value_of(field), default_of(field), said.get(name, ""), tuple(records_in(field.annotation)))
        for name, field in fields
    )


def _value_of(field: FieldInfo) -> str:
    limits = [text for limit in field.metadata if (text := _limit(limit))]
    return ", ".join([in_words(field.annotation), *limits])


def _suffix(annotation: Any) -> str:
    """[] for a list of records, .NAME for a mapping to them."""
    for part in (annotation, *get_args(annotation)):
        if get_origin(part) in (tuple, list) and list(records_in(part)):
            return "[]"
        if get_origin(part) is dict and list(records_in(part)):
            return ".NAME"
    return ""


def records_in(annotation: Any) -> Iterator[Record]:
    """The records that a value of this type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from records_in(part)


def default_of(field: FieldInfo) -> str | None:
    """The default as one would write it in YAML; None where the key is required."""
    return None if field.is_required() else as_yaml(field.get_default(call_default_factory=True))


def as_yaml(value: Any) -> str:
    """A default in a line of YAML; null, and what is empty, as ""."""
    if isinstance(value, pydantic.BaseModel):
        value = value.model_dump(mode="json", by_alias=True)
    if value is None or value in ((), {}, []):
        return ""
    return (
        yaml.safe_dump(_plain(value), default_flow_style=True, sort_keys=False, width=10_000).split("\n...")[0].strip()
    )


def _plain(value: Any) -> Any:
    """YAML has no tuples."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(map(_plain, value)) if isinstance(value, (tuple, list)) else value


def in_words(kind: Any) -> str:
    """A type as a reader of YAML knows it.

    >>> in_words(tuple[int, ...]), in_words(Literal["a", "b"]), in_words(Annotated[int, Gt(0)] | None)
    ('list of whole numbers', '`a` or `b`', 'whole number > 0')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join([in_words(parts[0]), ", ".join(filter(None, map(_limit, parts[1:])))]).strip()
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(part) for part in parts if part is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (tuple, list):
        return _list_in_words(parts)
    if origin is dict:
        return f"mapping to {_plural(in_words(parts[1]))}"
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return "mapping"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _list_in_words(parts: tuple[Any, ...]) -> str:
    if Ellipsis not in parts and len(set(parts)) == 1 < len(parts):
        return f"list of {len(parts)} {_plural(in_words(parts[0]))}"
    return f"list of {_plural(in_words(parts[0]))}"


def _plural(words: str) -> str:
    """Of the noun that a type begins with: "number > 0" becomes "numbers > 0"."""
    for noun in ("whole number", "number", "date", "mapping", "list"):
        if words.startswith(noun):
            return f"{noun}s{words.removeprefix(noun)}"
    return "texts" if words == "text" else words


def _limit(limit: Any) -> str:
    """A limit in a few words; "" for one that cannot be said so."""
    for kind, sign in SIGNS.items():
        if isinstance(limit, kind):
            return f"{sign} {getattr(limit, LIMITS[kind])}"
    if isinstance(limit, MinLen):
        return f"{limit.min_length} or more"
    if isinstance(limit, MaxLen):
        return f"{limit.max_length} or fewer"
    if isinstance(limit, Len):
        return f"{limit.min_length} to {limit.max_length}"
    pattern = getattr(limit, "pattern", None)
    return f"like `{pattern}`" if isinstance(pattern, str) else ""
