"""What a log holds, by hour and scenario: how much there is to do, its traffic, and what of it is unusable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from swrec_prod.data.manifest import Traffic
from swrec_prod.errors import DataError
from swrec_prod.logs.unusable import rules
from swrec_prod.prepare.etl import HOUR, ROW, SPLIT, checked
from swrec_prod.schema import FeatureSchema, Scenario

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
        yield from (days[first:end] for first, end in _pieces([self.rows_of(day) for day in days], limit))

    def chunks(self, days: list[date], limit: int) -> Iterator[tuple[int, int, int]]:
        """Runs of hours [first, end) of at most `limit` rows, or one hour, over `days` (in order), with their rows."""
        wanted = np.isin(self._day, [number_of(day) for day in days])
        hours, at = np.unique(self.table[HOUR].to_numpy()[wanted], return_inverse=True)
        sizes = np.bincount(at, self.table["rows"].to_numpy()[wanted]).astype(int)
        for first, end in _pieces(sizes.tolist(), limit):
            yield int(hours[first]), int(hours[end - 1]) + 1, int(sizes[first:end].sum())

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

    def classes(self, days: list[date]) -> dict[str, tuple[int, int]]:
        """All rows and those of label 1, by task, of `days` together."""
        traffic = [of for day in days for of in self.traffic(day, ()).values()]
        rows = sum(of.rows for of in traffic)
        return {task: (rows, sum(of.positives[task] for of in traffic)) for task in self.schema.tasks}

    def missing(self, day: date) -> dict[str, int]:
        """How many values of each feature are missing on one day; row 0 and scalers take their place."""
        table, names = self._of(day), checked(self.schema)
        features = [f for f in self.schema.features if f.kind != "sequence"]
        return {f.name: _total(table, f"missing_{names.index(f.source)}") for f in features}

    def missing_in(self, day: date, parts: tuple[str, ...], scenarios: tuple[str, ...]) -> np.ndarray:
        """int64 [P, F, S]: the same of id and bag features, by part (one, or `_split`) and scenario name."""
        features = self.schema.of_kind("id", "bag")
        missing = np.zeros((len(features), len(parts) * len(scenarios)), np.int64)
        if self._with_missing:
            table = self._of(day)
            cells = pc.fill_null(pc.index_in(table["scenario"], pa.array(scenarios)), len(scenarios) - 1).to_numpy()
            if SPLIT in table.column_names:
                cells = cells + pc.index_in(table[SPLIT], pa.array(parts)).to_numpy() * len(scenarios)
            for f, name in self._with_missing:
                np.add.at(missing[f], cells, table[name].to_numpy())
        return missing.reshape(-1, len(parts), len(scenarios)).transpose(1, 0, 2)

    @cached_property
    def _with_missing(self) -> list[tuple[int, str]]:
        """The numbers of the id and bag features with missing values on any day, and their columns."""
        names, features = checked(self.schema), self.schema.of_kind("id", "bag")
        columns = [(f, f"missing_{names.index(feature.source)}") for f, feature in enumerate(features)]
        return [(f, column) for f, column in columns if _total(self.table, column)]

    def check(self, source: str, place: Callable[[date], str]) -> None:
        """Raises DataError when there are no rows, or some have no time, user, scenario or label, or an impossible one.

        place: names where the rows of a day come from, for the message.
        """
        if not self.rows:
            raise DataError(f"{source}: the table is empty")
        for counts, what, wrong in self._problems():
            if counts.sum():
                hour = self.table[HOUR][int(np.flatnonzero(counts)[0])].as_py()
                where = source if hour is None else place(day_of(hour // 24))
                raise DataError(f"{where}: {what} has {int(counts.sum())} {wrong}")
        for day in (self.days[0], self.days[-1]) if self.schema.has_time else ():
            if not EARLIEST <= day <= datetime.now(UTC).date() + timedelta(days=1):
                when = "in the future" if day > EARLIEST else f"before {EARLIEST}"
                where = f"{place(day)}: column {self.schema.time!r}"
                raise DataError(f"{where} has times on {day}, {when}; is its unit right?")

    def _problems(self) -> Iterator[tuple[np.ndarray, str, str]]:
        """What may be wrong with a log: in how many values of each hour and scenario, of which column, and what."""
        schema, counted = self.schema, {name: self.table[name].to_numpy() for name in self.table.column_names}
        missing = "missing values; every row needs one"
        purposes = {ROW: "row", schema.time: "time", schema.user: "user"}
        for i, name in enumerate(checked(schema)):
            if name in purposes:
                yield counted[f"missing_{i}"], f"column {name.removeprefix('_')!r} ({purposes[name]})", missing
        nameless = np.where(pc.is_null(self.table["scenario"]).to_numpy(), counted["rows"], 0)
        yield nameless, f"column {schema.scenario.column!r} (scenario)", missing
        for label in schema.labels:
            wrong = missing if label.has_rule else "values that are neither 0 nor 1"
            yield counted[f"unusable_{label.name}"], f"label column {label.column!r}", wrong
        for label, first in schema.chained:
            earlier = first.name if first.has_rule else first.column
            wrong = f"values of 1 where {earlier!r} is 0, though it is after it"
            remedy = f"mend these rows, or leave `after: {first.name}` out"
            what = f"label {label.name!r}" if label.has_rule else f"label column {label.column!r}"
            yield counted[f"early_{label.name}"], what, f"{wrong}; {remedy}"
        yield from self._unusable()
        if schema.weight:
            yield counted["unusable_weight"], f"weight column {schema.weight!r}", "values that are no number >= 0"

    def _unusable(self) -> Iterator[tuple[np.ndarray, str, str]]:
        """Values that no encoder takes, with the first of them."""
        for i, rule in enumerate(rules(self.schema)):
            counts = self.table[f"unfit_{i}"].to_numpy() if f"unfit_{i}" in self.table.column_names else np.zeros(1)
            if counts.any():
                at = int(np.flatnonzero(counts)[0])
                micros, shown = (self.table[f"{what}_{i}"][at].as_py() for what in ("when", "shown"))
                moment = str(np.datetime64(micros // 1_000_000, "s")).replace("T", " ")
                first = f"the first at {moment} UTC: {'missing' if shown is None else repr(shown).removesuffix('.0')}"
                wrong = f"{rule.wrong} ({first}); {rule.remedy}"
                yield counts, f"column {rule.column!r} (feature {rule.feature})", wrong

    def check_scenarios(self, scenario: Scenario, place: Callable[[date], str]) -> None:
        """Raises DataError for a value that `scenario` has no index for, before anything is made of its rows."""
        unknown = [value for value in self.scenarios() if scenario.index(value) is None]
        if unknown:
            table = self.table.filter(pc.equal(self.table["scenario"], unknown[0]))
            where = f"{place(day_of(table[HOUR][0].as_py() // 24))}: column {scenario.column!r} (scenario)"
            known = f"{', '.join(scenario.values[:20])}{', ...' if len(scenario.values) > 20 else ''}"
            advice = f"known: {known}; add it to the schema's scenario values, or say unseen: fallback"
            raise DataError(f"{where} is {unknown[0]!r} in {_total(table, 'rows'):,} rows; {advice}")

    @property
    def _day(self) -> np.ndarray:
        return self.table[HOUR].drop_null().to_numpy() // 24

    def _of(self, day: date) -> pa.Table:
        first = number_of(day) * 24
        hours = self.table[HOUR]
        return self.table.filter(pc.and_(pc.greater_equal(hours, first), pc.less(hours, first + 24)))


def _pieces(sizes: list[int], limit: int) -> Iterator[tuple[int, int]]:
    """[first, end) of runs of `sizes` whose sum is at most `limit`, or of a single one."""
    first, total = 0, 0
    for i, size in enumerate(sizes):
        if total and total + size > limit:
            yield first, i
            first, total = i, 0
        total += size
    if total:
        yield first, len(sizes)


def check_numbers(repeated: pa.Table, column: str, place: Callable[[date], str]) -> None:
    """Raises DataError when rows share a number: which comes first? repeated: of row_numbers. place: of `check`."""
    shared = repeated.to_pylist()[0]
    if not shared["rows"]:
        return
    below = (shared["row"] or 0) < 0
    what, told = ("below 0", "is below 0") if below else ("that several rows share", "is there more than once")
    where = f"{place(day_of(shared['day']))}: column {column!r} has {shared['rows']:,} values {what}"
    raise DataError(f"{where}; every row of the log needs its own, from 0, but {shared['row']} {told}")


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
