"""Exposures as they can be judged: rows of this experiment, each with one unit and a planned variant, once each.

    exposed   VIEW or TABLE  unit, variant, ts, day, scenario, request, triggered, m..., c...

What is left out is counted (record.Finding); where leaving it out would mislead, the data are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import duckdb

from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.abtest.measures import Bound
from swrec_prod.abtest.record import Finding
from swrec_prod.abtest.tables import check_column, identifier, literal, moment, scalar, types
from swrec_prod.errors import DataError, nearest

RAW = "raw_exposures"
EVERYONE = "everyone"  # the variant of exposures without an experiment
CROSSED = 0.01  # share of units in two variants above which the assignment is broken
KEYS = ("unit", "variant", "time", "day", "scenario", "request", "triggered", "forced")


def read_exposures(con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound) -> list[Finding]:
    """Make the table `exposed` of the view raw_exposures; returns what was counted.

    Where the file names no variant, all rows are of one: EVERYONE.
    Raises ConfigError for a column that is not there, DataError where nothing is left, a unit has two rows though rows
    are units, more than 1 % of the units got two variants, or a covariate changes within a unit.
    """
    _stage(con, file, bound)
    findings = [*_left_out(con, file), *_repeated(con, file)]
    con.execute("CREATE TABLE exposed AS SELECT * EXCLUDE (forced) FROM staged WHERE keep")
    con.execute("DROP TABLE staged")
    findings += missing_values(con, "exposed", "exposures", bound)
    if file.variant:
        _check_variants(con, file)
    findings += _crossed(con)
    _check_covariates(con, bound)
    return [finding for finding in findings if finding.count]


def _stage(con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound) -> None:
    """Every row of the experiment, under our names; keep: whether it counts."""
    known = types(con, RAW)
    for key in KEYS:
        check_column(getattr(file, key), key, known, "exposures")
    for column in file.where:
        check_column(column, "where", known, "exposures")
    time = moment(con, RAW, file.time, known) if file.time else "CAST(NULL AS TIMESTAMP)"
    day = f"CAST({identifier(file.day)} AS DATE)" if file.day else f"CAST({time} AS DATE)"
    columns = [
        f"{_text(file.unit) if file.unit else 'CAST(row_number() OVER () AS VARCHAR)'} AS unit",
        f"{_text(file.variant) if file.variant else literal(EVERYONE)} AS variant",
        f"{time} AS ts",
        f"{day} AS day",
        f"{_text(file.scenario)} AS scenario",
        f"{_text(file.request)} AS request",
        f"{_truth(file.triggered, 'true')} AS triggered",
        f"{_truth(file.forced, 'false')} AS forced",
        *(f"CAST({identifier(m.column)} AS DOUBLE) AS {m.name}" for m in bound.of("exposures")),
        *(f"CAST({identifier(column)} AS DOUBLE) AS {name}" for name, column in bound.covariates.items()),
    ]
    rows = " AND ".join(f"{_text(column)} = {literal(value)}" for column, value in file.where.items()) or "true"
    planned = ", ".join(map(literal, file.shares or ()))
    con.execute(
        f"""CREATE TABLE staged AS SELECT *, NOT forced AND unit <> '' AND variant <> ''
            {f"AND variant IN ({planned})" if planned else ""} AS keep
            FROM (SELECT {", ".join(columns)} FROM {RAW} WHERE {rows})"""
    )
    con.execute("UPDATE staged SET keep = false WHERE keep IS NULL")
    if not scalar(con, "SELECT count(*) FROM staged"):
        raise DataError(f"exposures: no rows{f' where {dict(file.where)}' if file.where else ''}")


def _left_out(con: duckdb.DuckDBPyConnection, file: ExperimentFile) -> Iterator[Finding]:
    rows = scalar(con, "SELECT count(*) FROM staged")
    for name, kind, condition, text in (
        ("forced exposures", "note", "forced", "put into a variant by hand; left out"),
        ("exposures without a unit", "warning", "unit IS NULL OR unit = ''", "left out"),
        ("exposures without a variant", "warning", "variant IS NULL OR variant = ''", "left out"),
    ):
        yield Finding(name, kind, scalar(con, f"SELECT count(*) FROM staged WHERE {condition}"), rows, text)  # type: ignore[arg-type]
    if file.shares:
        unplanned = f"variant <> '' AND variant NOT IN ({', '.join(map(literal, file.shares))})"
        names = con.execute(f"SELECT DISTINCT variant FROM staged WHERE {unplanned} ORDER BY 1 LIMIT 5").fetchall()
        count = scalar(con, f"SELECT count(*) FROM staged WHERE {unplanned}")
        text = f"variants {', '.join(repr(name) for (name,) in names)} have no planned share; left out"
        yield Finding("exposures of other variants", "warning", count, rows, text)
    if file.time or file.day:
        timeless = scalar(con, "SELECT count(*) FROM staged WHERE keep AND day IS NULL")
        con.execute("UPDATE staged SET keep = false WHERE day IS NULL")
        yield Finding("exposures without a time", "warning", timeless, rows, "left out")


def _repeated(con: duckdb.DuckDBPyConnection, file: ExperimentFile) -> Iterator[Finding]:
    """Rows that say again what another said: dropped where a request names them, refused where rows are units."""
    rows = scalar(con, "SELECT count(*) FROM staged WHERE keep")
    if file.rows == "units":
        repeated = rows - scalar(con, "SELECT count(DISTINCT unit) FROM staged WHERE keep")
        if repeated:
            example = _example(con, "SELECT unit FROM staged WHERE keep GROUP BY unit HAVING count(*) > 1")
            remedy = "one row a unit was promised (rows: units); rows: exposures takes any number"
            raise DataError(f"exposures: {repeated:,} of {rows:,} rows repeat a unit, for example {example}; {remedy}")
    if file.request:
        con.execute(
            """CREATE OR REPLACE TABLE staged AS SELECT * FROM staged WHERE keep
               QUALIFY request IS NULL OR row_number() OVER (PARTITION BY request, unit, variant ORDER BY ts) = 1"""
        )
        repeated = rows - scalar(con, "SELECT count(*) FROM staged")
        yield Finding("repeated exposures", "note", repeated, rows, "rows of one request count once")


def variants_of(con: duckdb.DuckDBPyConnection) -> list[str]:
    """The variants of the exposures that count, by name."""
    return [row[0] for row in con.execute("SELECT DISTINCT variant FROM exposed ORDER BY 1").fetchall()]


def _check_variants(con: duckdb.DuckDBPyConnection, file: ExperimentFile) -> None:
    variants = variants_of(con)
    if not variants:
        raise DataError("exposures: no row has a unit and a planned variant")
    if file.control not in variants:
        raise DataError(f"exposures: no row of control {file.control!r}; {nearest(file.control, variants)}")
    if len(variants) == 1:
        raise DataError(f"exposures: {file.control!r} is the only variant, so that there is nothing to compare")


def _crossed(con: duckdb.DuckDBPyConnection) -> Iterator[Finding]:
    """Units in two variants: left out, as no variant can answer for them."""
    con.execute("CREATE TABLE crossed AS SELECT unit FROM exposed GROUP BY unit HAVING count(DISTINCT variant) > 1")
    crossed, units = (
        scalar(con, q) for q in ("SELECT count(*) FROM crossed", "SELECT count(DISTINCT unit) FROM exposed")
    )
    if not crossed:
        return
    example = _example(con, "SELECT unit FROM crossed")
    if crossed > CROSSED * units:
        share = f"{crossed:,} of {units:,} units ({crossed / units:.1%}) are in two variants, for example {example}"
        raise DataError(f"exposures: {share}; up to {CROSSED:.0%} are left out. Is this the unit that was randomised?")
    con.execute("DELETE FROM exposed WHERE unit IN (SELECT unit FROM crossed)")
    yield Finding("units in two variants", "warning", crossed, units, f"left out; for example {example}")


def _check_covariates(con: duckdb.DuckDBPyConnection, bound: Bound) -> None:
    for name, column in bound.covariates.items():
        changing = f"SELECT unit FROM exposed GROUP BY unit HAVING min({name}) < max({name})"
        count = scalar(con, f"SELECT count(*) FROM ({changing})")
        if count:
            words = f"{count:,} units have two values, for example {_example(con, changing)}"
            raise DataError(f"covariate {column!r}: {words}; a figure from before the experiment is one for each unit")


def missing_values(
    con: duckdb.DuckDBPyConnection, table: str, source: Literal["outcomes", "exposures"], bound: Bound
) -> Iterator[Finding]:
    """Rows of a table of the source without a value that is to be summed."""
    rows = scalar(con, f"SELECT count(*) FROM {table}")
    for measure in bound.of(source):
        missing = scalar(con, f"SELECT count(*) FROM {table} WHERE {measure.name} IS NULL")
        yield Finding(f"{source} without {measure.column}", "warning", missing, rows, "they count as zero")


def _example(con: duckdb.DuckDBPyConnection, query: str) -> str:
    row = con.execute(f"SELECT unit FROM ({query}) ORDER BY unit LIMIT 1").fetchone()
    return repr(row[0]) if row else ""


def _text(column: str | None) -> str:
    return f"CAST({identifier(column)} AS VARCHAR)" if column else "CAST(NULL AS VARCHAR)"


def _truth(column: str | None, default: str) -> str:
    return f"coalesce(CAST({identifier(column)} AS BOOLEAN), {default})" if column else default
