"""Derived columns of events: computed by the functions of encoding/derived.py, which the engine calls with some rows at
a time wherever it reads such a column. A schema without them costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import ibis
import pyarrow as pa

from swrec_prod.encoding.derived import DerivedColumns
from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.schema import Derived

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.expr.datatypes import DataType

MOMENT = "a timestamp, or int64 microseconds since 1970"
TAKES = {  # function -> what its inputs are, for messages
    **dict.fromkeys(("hour", "weekday", "month_day"), MOMENT),
    "days_since": f"a date, text such as 2022-05-01, {MOMENT}",
    **dict.fromkeys(("cross", "lookup"), "string or integer"),
    **dict.fromkeys(("ratio", "difference", "bucketize"), "integer or floating numbers"),
}


def with_derived(engine: Engine, events: ir.Table, derived: DerivedColumns) -> ir.Table:
    """The events with the derived columns whose inputs they have."""
    schema = derived.schema
    for column in schema.derived:
        of = list(dict.fromkeys(column.reads(schema.time)))
        if set(of) <= set(events.columns):
            kind = str(ibis_type(derived.type_of(column)))
            events = engine.computed(events, column.name, kind, of, partial(_column, derived, column))
    return events


def _column(derived: DerivedColumns, column: Derived, given: pa.Table) -> pa.Array:
    return derived.column(column, {name: given[name] for name in given.column_names})


def derived_types(derived: DerivedColumns, columns: Mapping[str, DataType], source: str) -> dict[str, DataType]:
    """The type of every derived column. columns: those of the log, with their types.

    Raises DataError for an input that is missing (naming the nearest) or of a type that its function does not take, and
    for a derived column with the name of one of the log.
    """
    types: dict[str, DataType] = {}
    for column in derived.schema.derived:
        where = f"{source}: derived {column.name!r}"
        if column.name in columns:
            raise DataError(f"{where}: the log has a column of that name; choose another")
        for name in column.reads(derived.schema.time):
            kind = {**columns, **types}.get(name)
            if kind is None:
                raise DataError(f"{where}: column {name!r} is missing; {nearest(name, [*columns, *types])}")
            if not _takes(column, kind):
                raise DataError(f"{where}: column {name!r} is {kind}, {column.function} takes {TAKES[column.function]}")
        if column.function == "lookup":
            _check_key(derived, column, {**columns, **types}[column.of[0]], where)
        types[column.name] = ibis_type(derived.type_of(column))
    return types


def _takes(column: Derived, kind: DataType) -> bool:
    if column.function in ("cross", "lookup"):
        return bool(kind.is_string() or _is_number(kind))  # floating ones where they are whole
    if column.function in ("ratio", "difference", "bucketize"):
        return _is_number(kind)
    moment = kind.is_timestamp() or kind.is_int64()
    return bool(moment or (column.function == "days_since" and (kind.is_date() or kind.is_string())))


def _is_number(kind: DataType) -> bool:
    return bool(kind.is_integer() or kind.is_floating() or kind.is_boolean())


def _check_key(derived: DerivedColumns, column: Derived, kind: DataType, where: str) -> None:
    """Raises DataError where the keys of a lookup's table are not of the column's type."""
    keys = ibis_type(derived.lookups[column.name].keys.type)
    if keys.is_string() != kind.is_string():
        raise DataError(
            f"{where}: column {column.of[0]!r} is {kind}, but key {column.key!r} of {column.file} is {keys}"
        )


def ibis_type(kind: pa.DataType) -> DataType:
    """An Arrow type as Ibis calls it."""
    return ibis.Schema.from_pyarrow(pa.schema([("column", kind)]))["column"]
