"""The columns that a request may hold: which part they belong to, and how many values a row has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Literal, NamedTuple, NoReturn

from swrec_prod.errors import RequestError, nearest, shown
from swrec_prod.schema import Feature, FeatureSchema
from swrec_prod.serving.protocol.call import Column

ITEMS, USER = "items", "user"
MOMENT = "time"  # the row's moment, microseconds since 1970

Shape = Literal["one", "several", "behaviours"]  # values a row


class Slot(NamedTuple):
    """A column that a request may hold.

    part: `user` or `items`; side: of its feature, or of the derived ones that are computed of it; shape: one value a
    row, any number, or one (or a bag) for each behaviour; number: values are finite numbers.
    """

    part: str
    side: str
    shape: Shape
    number: bool


def slots_of(schema: FeatureSchema) -> dict[str, Slot]:
    """By name."""
    derived = {d.name for d in schema.derived}
    slots = {}
    for feature in schema.features:
        for name, of in _columns(schema, feature):
            if feature.raw_columns.get(name) not in derived:
                slots[name] = Slot(_part(feature.side), feature.side, *of)
    for given in schema.inputs:
        if given.feature is None:
            slots[given.name] = Slot(_part(given.side), given.side, "one", False)
    return slots | {MOMENT: Slot(USER, "context", "one", False)}


def _part(side: str) -> str:
    return ITEMS if side == "item" else USER


def lengths_name(name: str) -> str:
    """The column that says how many values each behaviour has in `name`: of a bag any number, else 0 where unknown."""
    return f"{name}.length"


def _columns(schema: FeatureSchema, feature: Feature) -> Iterator[tuple[str, tuple[Shape, bool]]]:
    """The columns of one feature: name, shape, and whether they are numbers."""
    if feature.kind != "sequence":
        shape: Shape = "several" if feature.kind in ("bag", "vector") else "one"
        yield feature.name, (shape, feature.kind in ("dense", "vector"))
        yield from ((name, ("several", True)) for name in feature.raw_columns if name != feature.name)
        return
    parts = {part.name: part.kind == "dense" for part in schema.parts[feature.name]}
    for name in dict.fromkeys([*parts, f"{feature.name}.scenario", f"{feature.name}.time"]):
        if name != f"{feature.name}.age":
            yield name, ("behaviours", parts.get(name, False))
            yield lengths_name(name), ("several", False)


class PartColumns:
    """The columns of one part, `user` or `items`. slots: of both parts; needed: those that a request must have, of both
    parts; derived: names of features that are computed, and not sent.
    """

    def __init__(self, part: str, slots: Mapping[str, Slot], needed: Sequence[str], derived: Set[str]) -> None:
        self.part, self._slots, self._derived = part, slots, derived
        self._known = frozenset(name for name, slot in slots.items() if slot.part == part) - derived
        self.needed = tuple(name for name in needed if slots[name].part == part)

    def by_name(self, columns: Sequence[Column]) -> dict[str, Column]:
        """The columns that are given. Raises RequestError for one that is unknown, of the other part, given twice or
        missing.
        """
        given = {column.name: column for column in columns}
        if len(given) < len(columns) or not self._known.issuperset(given):
            self._refuse(columns)
        for name in self.needed:
            if name not in given:
                side = self._slots[name].side
                raise RequestError(f"{self.part}: feature {name!r} (side {side}) is missing")
        return given

    def _refuse(self, columns: Sequence[Column]) -> NoReturn:
        """Say of the first wrong column what is wrong with it."""
        names = [column.name for column in columns]
        at = next(i for i, name in enumerate(names) if name not in self._known or name in names[:i])
        what, slot = f"{self.part}: feature {shown(names[at])}", self._slots.get(names[at])
        if names[at] in self._derived:
            raise RequestError(f"{what} is derived; send the columns it is made of")
        if slot is None:
            known = nearest(names[at], self._slots)
            raise RequestError(f"{self.part}: unknown feature {shown(names[at])}; {known}")
        if slot.part != self.part:
            raise RequestError(f"{what} has side {slot.side} and belongs in {slot.part}")
        raise RequestError(f"{what} is given twice")
