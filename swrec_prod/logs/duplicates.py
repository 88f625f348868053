"""Rows of a log that are there several times, on one day or on several; missing values are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import ibis
import pydantic
from ibis import _

from swrec_prod.raw.source import DAY
from swrec_prod.strict import Strict

if TYPE_CHECKING:
    import ibis.expr.types as ir


class Deduplicate(Strict):
    """Of rows that are equal in all of some columns only the first by time stays; a list of columns means one day.

    columns: that the rows are equal in; missing values are equal.
    within: a day, or the whole log, whose earliest day keeps the row.
    """

    columns: tuple[str, ...] = ()
    within: Literal["day", "log"] = "day"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        return {"columns": data} if isinstance(data, (list, tuple)) else data

    @pydantic.model_serializer(mode="wrap")
    def _plain(self, handler: pydantic.SerializerFunctionWrapHandler) -> Any:
        """A list where it means one, as it was before there was `within`: a folder remembers what its file said."""
        return list(self.columns) if self.within == "day" else handler(self)

    def first(self, events: ir.Table, order: Sequence[ir.Value]) -> ir.Table:
        """The first by `order` of equal events of a day, or of all that there are."""
        days = [] if self.within == "log" else [DAY]
        window = ibis.window(group_by=[*days, *self.columns], order_by=order)
        return events.mutate(_copy=ibis.row_number().over(window)).filter(_["_copy"] == 0).drop("_copy")

    def first_days(self, events: ir.Table) -> ir.Table:
        """What is there on several days: the columns, and `_first`, the day that keeps the row."""
        days = events.group_by(list(self.columns)).agg(_first=_[DAY].min(), _last=_[DAY].max())
        return days.filter(days["_last"] > days["_first"]).drop("_last")

    def of_first_days(self, events: ir.Table, first_days: ir.Table) -> ir.Table:
        """The events of some days without what an earlier day of the log has."""
        equal = [events[name].identical_to(first_days[name]) for name in self.columns]
        found = events.left_join(first_days, equal, rname="{name}__right")
        return found.filter(found["_first"].isnull() | (found["_first"] == found[DAY])).select(*events.columns)

    def repeats(self, events: ir.Table) -> ir.Table:
        """One row: `rows`, how many of the events, the first ones of their days, are equal to one of an earlier day."""
        once = events.group_by(list(self.columns)).agg(rows=_.count())
        return once.agg(rows=(once["rows"] - 1).sum().fill_null(0))
