"""Which column of a log numbers its rows: one that is named, or `row` where it has whole numbers, each once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ibis import _

from swrec_prod.engine.contract import Engine
from swrec_prod.errors import DataError, nearest
from swrec_prod.raw.source import DAY, ROW

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from ibis.expr.datatypes import DataType


class NumberedBy(NamedTuple):
    """column: of the raw log; None where rows are numbered day by day."""

    column: str | None


class RowNumbers:
    """column: of the log, None where it numbers no rows; settled once `settle` and `try_on` were called.

    named: the column that the data file names. certain: whether the source's column `row` is a number by all means.
    before: how the rows of days that are prepared already are numbered; those of other days are numbered alike.
    """

    def __init__(self, named: str | None, *, certain: bool, before: NumberedBy | None) -> None:
        self.column = before.column if before else named or "row"
        self.are_checked = False  # whether those of the events that were asked for first are unique
        self._is_named, self._must_be_one = bool(named), bool(named) or certain
        self._is_guess = not self._must_be_one and before is None

    def settle(self, types: Mapping[str, DataType], source: str) -> None:
        """Find the column in the log. Raises DataError for one that must number rows and cannot."""
        if self.column is None or (self.column in types and types[self.column].is_integer()):
            return
        if self.column in types and self._must_be_one:
            raise DataError(f"{source}: column {self.column!r} (row) is {types[self.column]}, expected int64")
        if self._is_named:
            raise DataError(f"{source}: column {self.column!r} (row) is missing; {nearest(self.column, types)}")
        self.column = None

    def try_on(self, engine: Engine, events: ir.Table) -> str | None:
        """Why the column is no number of the rows of `events`, where that was not known; then it is none."""
        guess, self._is_guess = self._is_guess, False
        if self.column is None or not guess:
            return None
        wrong = engine.arrow(repeated(events)).to_pylist()[0]
        self.are_checked = not wrong["rows"]
        if self.are_checked:
            return None
        said, self.column = f"column {self.column!r} is no number of rows: {_example(wrong)}", None
        return f"{said}; they are numbered day by day"


def _example(wrong: Mapping[str, Any]) -> str:
    if wrong["row"] is None:
        return "values are missing"
    return f"{wrong['row']} is {'below 0' if wrong['row'] < 0 else 'there more than once'}"


def repeated(events: ir.Table) -> ir.Table:
    """One row: `rows`, how many row numbers several rows have, are missing or below 0 (which says that a row is drawn,
    see negatives/), `row`, the least of those, and `day`, the first day of those.
    """
    numbers = events.group_by(ROW).agg(rows=_.count(), day=_[DAY].min())
    numbers = numbers.filter((numbers["rows"] > 1) | numbers[ROW].isnull() | (numbers[ROW] < 0))
    return numbers.agg(rows=_.count(), row=_[ROW].min(), day=_.day.min())
