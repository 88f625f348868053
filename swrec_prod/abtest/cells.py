"""What each unit did on each day in each scenario, and sums of that by unit: all that tests need.

    units   TABLE  unit, variant, first, day, c..., b...                      one row a unit; day: it was first exposed
    cells   TABLE  unit, variant, day, scenario, exposures, m...               sums

A unit belongs to a slice (a scenario, a day, the days so far) by being exposed in it, never by an outcome, which a
variant may have caused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import duckdb
from tea_tasting.aggr import Aggregates, read_aggregates

from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.abtest.measures import EXPOSURES, Bound, Metric, before
from swrec_prod.abtest.tables import scalar
from swrec_prod.errors import DataError

PopulationName = Literal["all", "triggered"]
BETWEEN = "\x1f"  # between the name of a slice and that of a variant


@dataclass(frozen=True)
class Slice:
    """Which cells count, and by what they are told apart. by: SQL of a name, '' for all in one; where: a condition."""

    by: str = "''"
    where: str = "true"


OVERALL = Slice()
BY_SCENARIO = Slice("scenario", "scenario IS NOT NULL")
BY_DAY = Slice("CAST(day AS VARCHAR)")


def through(part: Slice, day: str) -> Slice:
    """The same until the end of a day (ISO)."""
    return Slice(part.by, f"{part.where} AND day <= DATE '{day}'")


def build_cells(con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound, population: PopulationName) -> None:
    """Make `units` and `cells` of `exposed`, `happened` and `past`. Raises DataError for sums that are not finite."""
    con.execute(
        f"""CREATE OR REPLACE VIEW population AS
            SELECT * FROM exposed {"WHERE triggered" if population == "triggered" else ""}"""
    )
    covariates = "".join(f", coalesce(max({name}), 0) AS {name}" for name in bound.covariates)
    con.execute(
        f"""CREATE OR REPLACE TABLE units AS SELECT unit, any_value(variant) AS variant, min(ts) AS first,
            min(day) AS day{covariates} FROM population GROUP BY unit"""
    )
    _add_past(con, file, bound)
    _sum_up(con, file, bound)


def _add_past(con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound) -> None:
    if file.outcomes is None or not file.outcomes.pre_days:
        return
    names = [before(measure.name) for measure in bound.of("outcomes")]
    past = ", ".join(f"coalesce({name}, 0) AS {name}" for name in names)
    con.execute(f"CREATE OR REPLACE TABLE units AS SELECT units.*, {past} FROM units LEFT JOIN past USING (unit)")


def _sum_up(con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound) -> None:
    here = "".join(f", {measure.name}" for measure in bound.of("exposures"))
    parts = [f"SELECT unit, day, scenario, 1 AS exposures{here} FROM population"]
    if file.outcomes:
        there = "".join(f", {measure.name}" for measure in bound.of("outcomes"))
        of_population = (
            "happened SEMI JOIN population USING (request)"
            if file.outcomes.request
            else "happened JOIN units USING (unit) WHERE happened.ts IS NULL OR happened.ts >= units.first"
        )
        parts.append(f"SELECT unit, happened.day, scenario, 0 AS exposures{there} FROM {of_population}")
    sums = "".join(f", coalesce(sum({m.name}), 0) AS {m.name}" for m in bound.measures)
    con.execute(
        f"""CREATE OR REPLACE TABLE cells AS SELECT unit, variant, summed.* EXCLUDE (unit)
            FROM (SELECT unit, day, scenario, CAST(sum(exposures) AS DOUBLE) AS exposures{sums}
                  FROM ({" UNION ALL BY NAME ".join(parts)}) GROUP BY ALL) summed
            JOIN (SELECT unit, variant FROM units) USING (unit)"""
    )
    for measure in bound.measures:
        infinite = scalar(con, f"SELECT count(*) FROM cells WHERE NOT isfinite({measure.name})")
        if infinite:
            raise DataError(
                f"{measure.source}: column {measure.column!r} is not finite for {infinite:,} units and days"
            )


def days(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The days of the exposures (ISO), in order; empty where there is no time."""
    rows = con.execute(
        "SELECT DISTINCT CAST(day AS VARCHAR) FROM cells WHERE exposures > 0 AND day IS NOT NULL ORDER BY 1"
    )
    return [row[0] for row in rows.fetchall()]


def scenarios(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The scenarios of the exposures, those with most units first."""
    rows = con.execute(
        """SELECT scenario FROM cells WHERE exposures > 0 AND scenario IS NOT NULL
           GROUP BY 1 ORDER BY count(DISTINCT unit) DESC, 1"""
    )
    return [row[0] for row in rows.fetchall()]


def arrivals(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, int]]:
    """Units by the day of their first exposure and variant."""
    rows = con.execute(
        """SELECT CAST(day AS VARCHAR), variant, count(*) FROM units WHERE day IS NOT NULL
           GROUP BY ALL ORDER BY ALL"""
    )
    seen: dict[str, dict[str, int]] = {}
    for day, variant, units in rows.fetchall():
        seen.setdefault(day, {})[variant] = units
    return seen


def unit_counts(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Units of each variant."""
    return dict(con.execute("SELECT variant, count(*) FROM units GROUP BY 1 ORDER BY 1").fetchall())


def aggregate(
    con: duckdb.DuckDBPyConnection, part: Slice, metrics: tuple[Metric, ...]
) -> dict[str, dict[str, Aggregates]]:
    """Counts, means, variances and covariances over units of what `metrics` need: {slice: {variant: Aggregates}}."""
    columns = sorted({column for metric in metrics for column in metric.columns})
    found = read_aggregates(
        con.sql(
            f"SELECT slice || '{BETWEEN}' || variant AS part, {', '.join(columns)} FROM ({by_unit(part, columns)})"
        ),
        "part",
        has_count=True,
        mean_cols=columns,
        var_cols=columns,
        cov_cols=[(a, b) for a in columns for b in columns if a < b],
    )
    nested: dict[str, dict[str, Aggregates]] = {}
    for name, figures in found.items():
        slice_name, _, variant = str(name).rpartition(BETWEEN)
        nested.setdefault(slice_name, {})[variant] = figures
    return nested


def by_unit(part: Slice, columns: list[str]) -> str:
    """SQL of one row a slice and unit that was exposed in it, with its sums and covariates."""
    summed = [column for column in columns if column == EXPOSURES or column.startswith("m")]
    of_units = "".join(f", {column}" for column in columns if column not in summed)
    sums = "".join(f", sum({column}) AS {column}" for column in summed)
    return f"""SELECT slice, s.unit, variant{"".join(f", {c}" for c in summed)}{of_units}
        FROM (SELECT {part.by} AS slice, unit{sums} FROM cells WHERE {part.where}
              GROUP BY ALL HAVING sum(exposures) > 0) s
        JOIN units ON units.unit = s.unit"""
