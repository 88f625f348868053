"""One Arrow type for each meaning, whatever an engine or a file calls it: both engines take and give these types only.

string      also large_string, string_view, dictionaries of strings, and null (a column without any value)
binary      also large_binary, binary_view and fixed_size_binary
list<item>  also large and fixed-size lists
int64       also uint32 and uint64; int32 is also uint16, int16 also uint8
timestamp   in microseconds: with the zone UTC, or without one
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

SIGNED = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
RENAMED = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
    **SIGNED,
}


def normal_type(kind: pa.DataType) -> pa.DataType:
    """The normal type for a type of Arrow; a type with one name only stays as it is."""
    if pa.types.is_dictionary(kind):
        return normal_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("item", normal_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, normal_type(field.type)) for field in kind.fields])
    return pa.binary() if pa.types.is_fixed_size_binary(kind) else RENAMED.get(kind, kind)


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type of a column that is `one` in some files and `other` in others, where both are numbers or lists of them.

    Whole numbers beside floating ones are float64: pandas makes those of a day with a missing value.
    """
    if pa.types.is_list(one) and pa.types.is_list(other):
        element = wider(one.value_type, other.value_type)
        return element and pa.list_(pa.field("item", element))
    if one == other:
        return one
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.uint64() if pa.uint64() in (one, other) else max(one, other, key=lambda kind: kind.bit_width)
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other))
    return pa.float64() if numbers else None


def normal_schema(schema: pa.Schema) -> pa.Schema:
    """The same names with normal types, every column nullable, no metadata."""
    return pa.schema([pa.field(field.name, normal_type(field.type)) for field in schema])


def as_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `table` by position as the normal types of `schema`; nanoseconds are cut off.

    Raises pa.ArrowInvalid where a value does not fit.
    """
    wanted = normal_schema(schema)
    columns = [_cast(column, field.type) for column, field in zip(table.columns, wanted, strict=True)]
    return pa.Table.from_arrays(columns, schema=wanted)


def normal(table: pa.Table) -> pa.Table:
    """The table with normal types."""
    return as_schema(table, table.schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return column if column.type == kind else pc.cast(column, options=pc.CastOptions(kind, allow_time_truncate=True))
