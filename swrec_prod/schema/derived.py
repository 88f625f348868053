"""Derived: a column computed from others, the same way offline and online; a closed list of functions."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from swrec_prod.schema.records import SchemaRecord, as_tuple

Function = Literal["hour", "weekday", "month_day", "days_since", "cross", "ratio", "difference", "lookup", "bucketize"]
INPUTS: dict[str, tuple[int, int]] = {  # how many columns each function takes, at least and at most
    "hour": (1, 1), "weekday": (1, 1), "month_day": (1, 1), "days_since": (1, 2), "cross": (2, 3), "ratio": (2, 2),
    "difference": (2, 2), "lookup": (1, 1), "bucketize": (1, 1),
}  # fmt: skip
NEEDS: dict[str, tuple[str, ...]] = {"lookup": ("file", "key", "value"), "bucketize": ("boundaries",)}
ZONED = ("hour", "weekday", "month_day", "days_since")


class Derived(SchemaRecord):
    """A column computed from raw columns, or from derived ones that stand before it; features read it by its name.

    name: of the new column.
    function: hour (0 to 23), weekday (0 is Monday), month_day (1 to 31) of a moment in `zone`. days_since: whole days
        from a date column to the row's time, or to a second column, in `zone`. cross: two or three ids as one. ratio,
        difference: of the first column and the second; a ratio to 0 is missing. lookup: of a key in a table. bucketize:
        how many of `boundaries` are <= value.
    of: the columns that it is computed from.
    zone: an IANA time zone such as Asia/Shanghai.
    file: of lookup: a Parquet or CSV table, beside the data file or below the raw log; it goes along into packages.
    key, value: of lookup: the columns of that table.
    boundaries: of bucketize, rising.
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    function: Function
    of: tuple[str, ...] = pydantic.Field(min_length=1)
    zone: str = "UTC"
    file: str | None = None
    key: str | None = None
    value: str | None = None
    boundaries: tuple[float, ...] = ()

    @pydantic.field_validator("of", mode="before")
    @classmethod
    def _from_word(cls, of: Any) -> Any:
        return as_tuple(of)

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Derived:
        least, most = INPUTS[self.function]
        if not least <= len(self.of) <= most:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise ValueError(f"derived {self.name!r}: {self.function} takes {count} columns, not {list(self.of)}")
        for keys in set(NEEDS.values()):
            for key in keys:
                if bool(getattr(self, key)) != (key in NEEDS.get(self.function, ())):
                    says = "needs" if key in NEEDS.get(self.function, ()) else "takes no"
                    raise ValueError(f"derived {self.name!r}: {self.function} {says} {key}")
        return self
