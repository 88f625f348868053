"""Outcomes joined with the exposures that they can be an outcome of.

    happened   TABLE  unit, request, ts, day, scenario, m...   of exposed units, since their exposure
    past       TABLE  unit, b0, ...   for CUPED: their sums over the days before the experiment

What cannot be joined is counted; where that would mislead, the data are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
from scipy import stats

from swrec_prod.abtest.columns import ExperimentFile, OutcomesSpec
from swrec_prod.abtest.measures import Bound, before
from swrec_prod.abtest.read_exposures import missing_values
from swrec_prod.abtest.record import Finding
from swrec_prod.abtest.tables import check_column, identifier, moment, scalar, types
from swrec_prod.errors import DataError

RAW = "raw_outcomes"
KEYS = ("request", "unit", "time", "scenario", "id")
EARLY_REQUESTS = 0.01  # share of outcomes before their own request above which clocks disagree
EARLY_UNITS = 0.5  # of those before their unit's first exposure
LOST_LEVEL = 0.001  # of the test that variants lose the same share of complete outcomes


def read_outcomes(con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound) -> list[Finding]:
    """Make the tables `happened` and `past` of the view raw_outcomes and the table `exposed`; returns what was counted.

    Raises ConfigError for a column that is not there, DataError where no outcome can be joined, where clocks disagree,
    and where outcomes that must be complete are lost in one variant more than in another.
    """
    spec = file.outcomes
    assert spec is not None, "called where there are outcomes"
    _stage(con, spec, bound)
    findings = [*_repeated(con, spec), *missing_values(con, "outcomes", "outcomes", bound)]
    _past(con, spec, bound)
    joined = _by_request(con, file) if spec.request else _by_unit(con, spec)
    findings += joined
    findings += _without_outcome(con, spec)
    return [finding for finding in findings if finding.count]


def _stage(con: duckdb.DuckDBPyConnection, spec: OutcomesSpec, bound: Bound) -> None:
    known = types(con, RAW)
    for key in KEYS:
        check_column(getattr(spec, key), f"outcomes.{key}", known, "outcomes")
    time = moment(con, RAW, spec.time, known) if spec.time else "CAST(NULL AS TIMESTAMP)"
    keys = (f"{_text(getattr(spec, key))} AS {key}" for key in ("request", "unit", "scenario", "id"))
    sums = (f"CAST({identifier(m.column)} AS DOUBLE) AS {m.name}" for m in bound.of("outcomes"))
    con.execute(f"CREATE TABLE outcomes AS SELECT {time} AS ts, {', '.join([*keys, *sums])} FROM {RAW}")
    if not scalar(con, "SELECT count(*) FROM outcomes"):
        raise DataError("outcomes: no rows")


def _repeated(con: duckdb.DuckDBPyConnection, spec: OutcomesSpec) -> Iterator[Finding]:
    if not spec.id:
        return
    rows = scalar(con, "SELECT count(*) FROM outcomes")
    con.execute(
        """CREATE OR REPLACE TABLE outcomes AS SELECT * FROM outcomes
           QUALIFY id IS NULL OR row_number() OVER (PARTITION BY id ORDER BY ts) = 1"""
    )
    repeated = rows - scalar(con, "SELECT count(*) FROM outcomes")
    yield Finding("repeated outcomes", "note", repeated, rows, "rows of one id count once")


def _past(con: duckdb.DuckDBPyConnection, spec: OutcomesSpec, bound: Bound) -> None:
    """Sums of the same days for all units; they end where the experiment begins, so no variant has changed them."""
    if not spec.pre_days:
        return
    sums = ", ".join(f"sum({m.name}) AS {before(m.name)}" for m in bound.of("outcomes"))
    first = "(SELECT min(ts) FROM exposed)"
    since = f"{first} - INTERVAL {spec.pre_days} DAY"
    con.execute(
        f"CREATE TABLE past AS SELECT unit, {sums} FROM outcomes WHERE ts < {first} AND ts >= {since} GROUP BY unit"
    )
    con.execute(f"DELETE FROM outcomes WHERE ts < {first}")


def _by_request(con: duckdb.DuckDBPyConnection, file: ExperimentFile) -> list[Finding]:
    """An outcome has the unit, day and scenario of its request."""
    rows = scalar(con, "SELECT count(*) FROM outcomes")
    con.execute(
        """CREATE TABLE happened AS SELECT outcomes.* EXCLUDE (unit, scenario), e.unit, e.day, e.scenario,
           coalesce(outcomes.ts < e.ts, false) AS early
           FROM outcomes JOIN (SELECT DISTINCT ON (request) request, unit, day, scenario, ts FROM exposed) e
           USING (request)"""
    )
    joined = _check_joined(con, rows, "request", str(file.request))
    early = scalar(con, "SELECT count(*) FROM happened WHERE early")
    if early > EARLY_REQUESTS * joined:
        share = f"{early:,} of {joined:,} outcomes ({early / joined:.1%}) are before their own exposure"
        raise DataError(f"outcomes: {share}; do the clocks and time zones of both logs agree?")
    return [
        Finding(
            "outcomes without exposures", "note", rows - joined, rows, "of no request of this experiment; left out"
        ),
        Finding("outcomes before their exposure", "warning", early, joined, "they count; the clocks differ a little"),
    ]


def _by_unit(con: duckdb.DuckDBPyConnection, spec: OutcomesSpec) -> list[Finding]:
    """An outcome counts from the first exposure of its unit on, on its own day, in its own scenario."""
    rows = scalar(con, "SELECT count(*) FROM outcomes")
    con.execute(
        """CREATE TABLE happened AS SELECT outcomes.*,
           coalesce(CAST(outcomes.ts AS DATE), e.day) AS day, coalesce(outcomes.ts < e.ts, false) AS early
           FROM outcomes JOIN (SELECT unit, min(ts) AS ts, min(day) AS day FROM exposed GROUP BY unit) e USING (unit)"""
    )
    joined = _check_joined(con, rows, "unit", str(spec.unit))
    early = scalar(con, "SELECT count(*) FROM happened WHERE early")
    if early > EARLY_UNITS * joined:
        share = f"{early:,} of {joined:,} outcomes ({early / joined:.1%}) are before their unit's first exposure"
        remedy = "do the clocks and time zones of both logs agree? Outcomes from before the experiment need pre_days"
        raise DataError(f"outcomes: {share}; {remedy}")
    con.execute("DELETE FROM happened WHERE early")
    return [
        Finding("outcomes without exposures", "note", rows - joined, rows, "of no unit of this experiment; left out"),
        Finding("outcomes before the first exposure", "note", early, joined, "of their unit; left out"),
    ]


def _check_joined(con: duckdb.DuckDBPyConnection, rows: int, key: str, column: str) -> int:
    """How many outcomes have an exposure. Raises DataError when none has."""
    joined = scalar(con, "SELECT count(*) FROM happened")
    if joined:
        return joined
    theirs, ours = (
        con.execute(f"SELECT {key} FROM {t} WHERE {key} IS NOT NULL ORDER BY 1 LIMIT 1").fetchone()
        for t in ("outcomes", "exposed")
    )
    shown = f"outcomes have {theirs and theirs[0]!r}, exposures {ours and ours[0]!r}"
    raise DataError(f"outcomes: none of {rows:,} is of an exposed {key} ({column}); for example {shown}")


def _without_outcome(con: duckdb.DuckDBPyConnection, spec: OutcomesSpec) -> Iterator[Finding]:
    """Exposed requests or units without an outcome: zeros, or lost ones where outcomes are complete."""
    key = "request" if spec.request else "unit"
    counts = con.execute(
        f"""SELECT variant, count(DISTINCT {key}),
            count(DISTINCT {key}) FILTER (WHERE {key} NOT IN (SELECT {key} FROM happened)) FROM exposed
            WHERE {key} IS NOT NULL GROUP BY variant ORDER BY variant"""
    ).fetchall()
    total, lost = sum(row[1] for row in counts), sum(row[2] for row in counts)
    if not spec.complete:
        yield Finding(f"{key}s without outcomes", "note", lost, total, "they count as zero")
        return
    if lost and lost < total and len(counts) > 1:
        p = stats.chi2_contingency([[row[2] for row in counts], [row[1] - row[2] for row in counts]]).pvalue
        if p < LOST_LEVEL:
            shares = ", ".join(f"{variant!r} {missing / of:.2%}" for variant, of, missing in counts)
            raise DataError(
                f"outcomes: lost for {shares} of the {key}s (p {p:.1g}), so that variants cannot be compared"
            )
    con.execute(f"DELETE FROM exposed WHERE {key} NOT IN (SELECT {key} FROM happened)")
    yield Finding(f"{key}s without outcomes", "warning", lost, total, "lost, as outcomes are complete; left out")


def _text(column: str | None) -> str:
    return f"CAST({identifier(column)} AS VARCHAR)" if column else "CAST(NULL AS VARCHAR)"
