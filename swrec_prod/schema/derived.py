"""Derived: a column computed from others, the same way offline and online; a closed list of functions."""

from __future__ import annotations

import difflib
import zoneinfo
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
    function: hour (0 to 23), weekday (0 is Monday), month_day (1 to 31) of a moment in `zone`. days_since: days from a
        date column to the row's time, or to a second column, in `zone`; below 0 where it is later. cross: two or three
        ids as one. ratio, difference: of the first column and the second; a ratio to 0 is missing. lookup: of a key in
        a table. bucketize: how many of `boundaries` are <= value.
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
        self._check_values()
        return self

    def _check_values(self) -> None:
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"derived {self.name!r}: boundaries must rise, not {list(self.boundaries)}")
        if "zone" in self.model_fields_set and self.function not in ZONED:
            raise ValueError(f"derived {self.name!r}: {self.function} takes no zone")
        if not _is_zone(self.zone):
            meant = " or ".join(_zones_like(self.zone))
            remedy = f"did you mean {meant}?" if meant else "write it as Asia/Shanghai or UTC"
            raise ValueError(f"derived {self.name!r}: zone {self.zone!r} is no IANA time zone; {remedy}")

    def reads(self, time: str) -> tuple[str, ...]:
        """The columns that it is computed from. time: the schema's time column, to which days_since counts."""
        return (*self.of, time) if self.function == "days_since" and len(self.of) == 1 else self.of


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):  # no such name, a folder, a path upwards
        return False
    return True


def _zones_like(name: str) -> list[str]:
    """The nearest known zones: by their whole name, or by their city alone."""
    known = sorted(zoneinfo.available_timezones())
    city = name.split("/")[-1].lower()
    ends = [zone for zone in known if zone.lower().split("/")[-1] == city]
    return ends[:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.75)
