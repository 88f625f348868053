"""Columns of raw files by name and type, and the attributes of users and items joined to a log;
nothing is evaluated here.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swrec_prod.engine.contract import Engine
from swrec_prod.engine.lines import first_line
from swrec_prod.errors import DataError, nearest

if TYPE_CHECKING:
    import ibis.expr.types as ir

# Numbers of text files are read as float64 first: exports write whole numbers as 4.0 where a column has missing values.
EXACT = 2.0**53  # from here on float64 has not every whole number
IN_TEXT = {"int64": "float64", "float64": "float64", "string": "string"}


def typed_columns(engine: Engine, files: Sequence[Path], types: Mapping[str, str]) -> ir.Table:
    """The columns `types` (name -> int64, float64 or string) of Parquet files,
    or of comma-separated text files with a header.

    Text values may be quoted by ". Other columns are left out. Raises DataError naming a file and the column that it
    lacks. A whole number of 2^53 or more in a text file fails when the table is evaluated.
    """
    import ibis

    if files[0].suffix == ".parquet":
        return _chosen(engine.parquet(files), types, files[0])
    read_as = {name: IN_TEXT[kind] for name, kind in types.items()}
    tables = [_whole(_chosen(_text(engine, path, types), read_as, path), types, path) for path in files]
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _text(engine: Engine, path: Path, types: Mapping[str, str]) -> ir.Table:
    """All columns of a file: engines take the header's names from us, so its own are read here."""
    return engine.text(
        [path], {name: IN_TEXT[types.get(name, "string")] for name in header_of(path)}, header=True, quote='"'
    )


def _chosen(table: ir.Table, types: Mapping[str, str], path: Path) -> ir.Table:
    for name in types:
        if name not in table.columns:
            raise DataError(f"{path}: column {name!r} is missing; {nearest(name, table.columns)}")
    return table.select(**{name: table[name].cast(kind) for name, kind in types.items()})


def _whole(table: ir.Table, types: Mapping[str, str], path: Path) -> ir.Table:
    """The columns int64 of what was read as numbers; a number that float64 may have rounded fails, with its column."""
    import ibis

    columns = {}
    for name in (name for name, kind in types.items() if kind == "int64"):
        number = table[name]
        said = ibis.literal(f"{path}: column {name} has ") + number.cast("string") + ", expected less than 2^53"
        columns[name] = (number.abs() >= EXACT).ifelse(said.cast("int64"), number.cast("int64"))
    return table.mutate(**columns)


def header_of(path: Path, delimiter: str = ",") -> tuple[str, ...]:
    """The names in the first line of a text file, .gz too. Raises DataError when there is none."""
    line = first_line(path)
    if not line.strip():
        raise DataError(f"{path}: the file is empty, expected a line of column names")
    return tuple(next(csv.reader([line], delimiter=delimiter)))


def with_attributes(log: ir.Table, attributes: ir.Table, on: Sequence[str], what: str) -> ir.Table:
    """The log with the other columns of `attributes`, missing values where the columns `on` find no row.

    what: names `attributes` in messages. Raises DataError as `check_join` does. A key that `attributes` hold twice,
    which would multiply rows of the log, fails with its value when the expression is evaluated.
    """
    check_join(log, attributes, on, what)
    joined = log.left_join(one_row_each(attributes, on, what), list(on), rname="{name}__right")
    return joined.drop(*(f"{name}__right" for name in on))


def check_join(log: ir.Table, attributes: ir.Table, on: Sequence[str], what: str) -> None:
    """Raises DataError when a column `on` is missing or of another family of types, and when both have a column."""
    for name in on:
        for table, place in ((log, "the log"), (attributes, what)):
            if name not in table.columns:
                raise DataError(
                    f"{place}: column {name!r}, on which {what} is joined, is missing; {nearest(name, table.columns)}"
                )
        if log[name].type().is_string() != attributes[name].type().is_string():
            kinds = f"{log[name].type()} in the log and {attributes[name].type()} in {what}"
            raise DataError(f"join column {name!r} is {kinds}; write both as numbers or both as strings")
    both = [name for name in attributes.columns if name in log.columns and name not in on]
    if both:
        raise DataError(f"{what}: column {both[0]!r} is in the log too; rename one of them")


def one_row_each(attributes: ir.Table, on: Sequence[str], what: str) -> ir.Table:
    """`attributes`, whose evaluation fails where a key is there twice:
    SQL has no assertion, but a cast of words to a number is one.
    """
    import ibis

    counted = attributes.mutate(rows__=ibis._.count().over(ibis.window(group_by=list(on))))
    key = ibis.literal(f"{what}: {', '.join(on)} ")
    for name in on:
        key = key + counted[name].cast("string") + " "
    said = key + "is there more than once, expected one row each"
    alone = (counted["rows__"] == 1).ifelse(ibis.literal(0, "int64"), said.cast("int64")) == 0
    return counted.filter(alone).drop("rows__")
