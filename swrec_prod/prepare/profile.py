"""Profile: what a log holds, by hour and scenario;
how much there is to do, what the manifest says of traffic, what is unusable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.data.manifest import Traffic
from swrec_prod.errors import DataError
from swrec_prod.prepare.etl import HOUR, ROW, checked, numbers
from swrec_prod.schema import Feature, FeatureSchema, Scenario

EPOCH = date(1970, 1, 1)
EARLIEST = date(1990, 1, 1)


class Profile:
    """table: the evaluated etl.profile. schema: as written, scenario values may still be open."""

    def __init__(self, table: pa.Table, schema: FeatureSchema) -> None:
        self.table = table.sort_by([(HOUR, "ascending"), ("scenario", "ascending")])
        self.schema = schema

    @property
    def rows(self) -> int:
        """All rows."""
        return pc.sum(self.table["rows"]).as_py() or 0

    @property
    def days(self) -> list[date]:
        """The days that have rows, in order."""
        return [day_of(int(number)) for number in np.unique(self._day)]

    def rows_of(self, day: date) -> int:
        """The rows of one day."""
        return int(self._of(day)["rows"].to_numpy().sum())

    def runs(self, days: list[date], limit: int) -> Iterator[list[date]]:
        """`days` in pieces of at most `limit` rows, or one day."""
        run: list[date] = []
        rows = 0
        for day in days:
            size = self.rows_of(day)
            if run and rows + size > limit:
                yield run
                run, rows = [], 0
            run.append(day)
            rows += size
        if run:
            yield run

    def chunks(self, days: list[date], limit: int) -> Iterator[tuple[int, int, int]]:
        """Runs of hours [first, end) of at most `limit` rows, or one hour, over `days` (in order), with their rows."""
        wanted = np.isin(self._day, [number_of(day) for day in days])
        hours, at = np.unique(self.table[HOUR].to_numpy()[wanted], return_inverse=True)
        sizes = np.bincount(at, self.table["rows"].to_numpy()[wanted]).astype(int)
        first, rows = 0, 0
        for i, size in enumerate(sizes):
            if rows and rows + size > limit:
                yield int(hours[first]), int(hours[i - 1]) + 1, rows
                first, rows = i, 0
            rows += int(size)
        if rows:
            yield int(hours[first]), int(hours[-1]) + 1, rows

    def scenarios(self) -> list[str]:
        """All scenario values, by falling row count, then by value."""
        counted = self.table.group_by("scenario").aggregate([("rows", "sum")])
        counted = counted.sort_by([("rows_sum", "descending"), ("scenario", "ascending")])
        return counted["scenario"].to_pylist()

    def traffic(self, day: date, known: tuple[str, ...]) -> dict[str, Traffic]:
        """By scenario, of one day; what is not in `known` counts as "(unseen)"."""
        traffic: dict[str, Traffic] = {}
        for hour in self._of(day).to_pylist():
            name = hour["scenario"] if hour["scenario"] in known else "(unseen)"
            of_name = traffic.setdefault(name, Traffic(rows=0, positives=dict.fromkeys(self.schema.tasks, 0)))
            of_name.rows += hour["rows"]
            for task in self.schema.tasks:
                of_name.positives[task] += hour[f"positives_{task}"]
        return {name: traffic[name] for name in (*known, "(unseen)") if name in traffic}

    def missing(self, day: date) -> dict[str, int]:
        """How many values of each feature are missing on one day; row 0 and scalers take their place."""
        table, names = self._of(day), checked(self.schema)
        return {
            f.name: _total(table, f"missing_{names.index(f.source)}")
            for f in self.schema.features
            if f.kind != "sequence"
        }

    def check(self, source: str, place: Callable[[date], str]) -> None:
        """Raises DataError when there are no rows, or some have no time, user, scenario or label, or an impossible one.

        place: names where the rows of a day come from, for the message.
        """
        if not self.rows:
            raise DataError(f"{source}: the table is empty")
        columns = checked(self.schema)
        for i, name in enumerate(columns):
            if name in ("row", self.schema.time, self.schema.user):
                purpose = {self.schema.time: "time", self.schema.user: "user"}.get(name, "row")
                self._refuse(
                    f"missing_{i}", f"column {name!r} ({purpose})", "missing values; every row needs one", source, place
                )
        if _total(nameless := self.table.filter(pc.is_null(self.table["scenario"])), "rows"):
            what = f"column {self.schema.scenario.column!r} (scenario)"
            Profile(nameless, self.schema)._refuse("rows", what, "missing values; every row needs one", source, place)
        for label in self.schema.labels:
            self._refuse(
                f"unusable_{label.name}",
                f"label column {label.column!r}",
                "values that are neither 0 nor 1",
                source,
                place,
            )
        for label, first in self.schema.chained:
            wrong = (
                f"values of 1 where {first.column!r} is 0, though it is after it; "
                f"mend these rows, or leave `after: {first.name}` out"
            )
            self._refuse(f"early_{label.name}", f"label column {label.column!r}", wrong, source, place)
        for feature in numbers(self.schema):
            wrong = (
                "values that are infinite, or below 0 where log1p is taken" if _is_log(feature) else "infinite values"
            )
            self._refuse(
                f"unfit_{feature.name}", f"column {feature.source!r} (feature {feature.name})", wrong, source, place
            )
        if self.schema.weight:
            self._refuse(
                "unusable_weight",
                f"weight column {self.schema.weight!r}",
                "values that are no number >= 0",
                source,
                place,
            )
        for day in (self.days[0], self.days[-1]):
            if not EARLIEST <= day <= datetime.now(UTC).date() + timedelta(days=1):
                when = "in the future" if day > EARLIEST else f"before {EARLIEST}"
                raise DataError(
                    f"{place(day)}: column {self.schema.time!r} has times on {day}, {when}; is its unit right?"
                )

    def check_scenarios(self, scenario: Scenario, place: Callable[[date], str]) -> None:
        """Raises DataError for a value that `scenario` has no index for, before anything is made of its rows."""
        unknown = [value for value in self.scenarios() if scenario.index(value) is None]
        if unknown:
            table = self.table.filter(pc.equal(self.table["scenario"], unknown[0]))
            where = f"{place(day_of(table[HOUR][0].as_py() // 24))}: column {scenario.column!r} (scenario)"
            known = f"{', '.join(scenario.values[:20])}{', ...' if len(scenario.values) > 20 else ''}"
            advice = f"known: {known}; add it to the schema's scenario values, or say unseen: fallback"
            raise DataError(f"{where} is {unknown[0]!r} in {_total(table, 'rows'):,} rows; {advice}")

    def _refuse(self, column: str, what: str, wrong: str, source: str, place: Callable[[date], str]) -> None:
        counts = self.table[column].to_numpy()
        if not counts.sum():
            return
        hour = self.table[HOUR][int(np.flatnonzero(counts)[0])].as_py()
        where = source if hour is None else place(day_of(hour // 24))
        raise DataError(f"{where}: {what} has {int(counts.sum())} {wrong}")

    @property
    def _day(self) -> np.ndarray:
        return self.table[HOUR].drop_null().to_numpy() // 24

    def _of(self, day: date) -> pa.Table:
        first = number_of(day) * 24
        hours = self.table[HOUR]
        return self.table.filter(pc.and_(pc.greater_equal(hours, first), pc.less(hours, first + 24)))


def check_numbers(repeated: pa.Table, place: Callable[[date], str]) -> None:
    """Raises DataError when rows share a row number, of the evaluated etl.repeated:
    which of them comes first nobody could say.

    place: names where the rows of a day come from, for the message.
    """
    shared = repeated.to_pylist()[0]
    if shared["rows"]:
        where = f"{place(day_of(shared['day']))}: column {ROW!r}"
        raise DataError(
            f"{where} has {shared['rows']:,} values that several rows share; every row of the log needs its own"
        )


def _is_log(feature: Feature) -> bool:
    return feature.encoder is not None and feature.encoder.kind == "log1p"


def day_of(number: int) -> date:
    """The day so many days after 1970-01-01; date.min or date.max where there is no such date."""
    try:
        return EPOCH + timedelta(days=number)
    except OverflowError:
        return date.max if number > 0 else date.min


def number_of(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


def _total(table: pa.Table, column: str) -> int:
    return int(pc.sum(table[column]).as_py() or 0)
