"""`swrec abtest analyze`: the order of the steps, from files to a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb

from swrec_prod.abtest import cells, read_exposures, read_outcomes
from swrec_prod.abtest.columns import ExperimentFile
from swrec_prod.abtest.families import correct_lifts, correct_trends
from swrec_prod.abtest.lifts import Pair, lift
from swrec_prod.abtest.looks import all_looks, always, look_lines
from swrec_prod.abtest.measures import Bound, bind
from swrec_prod.abtest.novelty import day_lifts, trends
from swrec_prod.abtest.record import ExperimentRecord, Finding, Lift, MetricNote, Population
from swrec_prod.abtest.sample_ratio import mismatch_line, sample_ratio
from swrec_prod.abtest.tables import database, register, scalar, types
from swrec_prod.errors import ConfigError

Say = Callable[[str], None]


def analyze(
    exposures: Path, outcomes: Path | None, file: ExperimentFile, *, despite_mismatch: bool = False, say: Say = print
) -> ExperimentRecord:
    """Join, check and judge.

    exposures, outcomes: Parquet or CSV, a file or a folder; despite_mismatch: figures although units are missing, which
    may say the opposite of the truth.
    Raises ConfigError for columns that are not there, DataError for data that nothing true can be said of.
    """
    if file.variant is None:
        raise ConfigError("the columns file says `variant: null`: there was no experiment to analyse")
    with database() as con:
        bound, findings = load_tables(con, exposures, outcomes, file, say)
        shares = file.shares or dict.fromkeys(read_exposures.variants_of(con), 1.0)
        file = file.model_copy(update={"shares": shares})
        everyone = _population(con, file, bound, "all", despite_mismatch, say)
        found_days, found_scenarios = cells.days(con), cells.scenarios(con)
        populations = [everyone]
        if file.triggered and scalar(con, "SELECT count(*) FROM exposed WHERE triggered"):
            populations.append(_population(con, file, bound, "triggered", despite_mismatch, say))
    findings += [_mismatch(population) for population in populations if not population.sample_ratio.ok]
    return ExperimentRecord(
        name=file.name,
        control=file.control,
        treatments=_treatments(everyone, file),
        unit=file.unit or "row",
        level=file.level,
        days=(found_days[0], found_days[-1]) if found_days else None,
        metrics=tuple(
            MetricNote(m.spec.name, m.formula(), m.spec.better, m.spec.margin, m.cuped()) for m in bound.metrics
        ),
        scenarios=tuple(found_scenarios),
        findings=tuple(findings),
        populations=tuple(populations),
        stop="; ".join(finding.text for finding in findings if finding.kind == "stop"),
    )


def load_tables(
    con: duckdb.DuckDBPyConnection, exposures: Path, outcomes: Path | None, file: ExperimentFile, say: Say
) -> tuple[Bound, list[Finding]]:
    """Read and join both files; returns what is summed, and what was counted."""
    if (outcomes is None) != (file.outcomes is None):
        missing = "--outcomes is not given" if outcomes is None else "the columns file has no `outcomes`"
        raise ConfigError(f"{missing}, which the other asks for")
    register(con, read_exposures.RAW, exposures)
    if outcomes is not None:
        register(con, read_outcomes.RAW, outcomes)
    known = types(con, read_exposures.RAW)
    bound = bind(file, known, types(con, read_outcomes.RAW) if outcomes is not None else None)
    findings = read_exposures.read_exposures(con, file, bound)
    say(f"read {scalar(con, 'SELECT count(*) FROM exposed'):,} exposures")
    if outcomes is not None:
        findings += read_outcomes.read_outcomes(con, file, bound)
        say(f"joined {scalar(con, 'SELECT count(*) FROM happened'):,} outcomes")
    return bound, findings


def _population(
    con: duckdb.DuckDBPyConnection,
    file: ExperimentFile,
    bound: Bound,
    name: cells.PopulationName,
    despite_mismatch: bool,
    say: Say,
) -> Population:
    cells.build_cells(con, file, bound, name)
    ratio = sample_ratio(cells.unit_counts(con), file.shares or {})
    found = Population(name, ratio, cells.arrivals(con))
    if not ratio.ok and not despite_mismatch:
        return found
    say(f"{name} units: {sum(ratio.units.values()):,}")
    return _judged(con, file, bound, found, say)


def _judged(
    con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound, found: Population, say: Say
) -> Population:
    """The population with its lifts, looks and trends."""
    metrics, treatments = bound.metrics, _treatments(found, file)
    found_days = cells.days(con)
    several = len(found_days) > 1
    looked = all_looks(con, file, metrics, treatments, found_days if several else (), say)
    lifts = []
    for one in _lifts(con, file, bound, treatments):
        looks = looked.get((one.metric, one.treatment, one.scenario))
        lifts.append(replace(one, always=always(looks, file.level)) if looks and one.p is not None else one)
    corrected = correct_lifts(lifts, {metric.spec.name: metric for metric in metrics}, file.level)
    slopes = trends(con, file, metrics, found_days)
    return replace(
        found,
        lifts=corrected,
        days=tuple(day_lifts(con, file, metrics, treatments)) if several else (),
        looks=tuple(
            line for key, looks in looked.items() if key[2] is None for line in look_lines(key, looks, file.level)
        ),
        trends=correct_trends(slopes, corrected, file.level),
    )


def _lifts(
    con: duckdb.DuckDBPyConnection, file: ExperimentFile, bound: Bound, treatments: tuple[str, ...]
) -> list[Lift]:
    """Overall first, then by scenario."""
    parts: list[tuple[str | None, dict]] = [(None, cells.aggregate(con, cells.OVERALL, bound.metrics)[""])]
    by_scenario = cells.aggregate(con, cells.BY_SCENARIO, bound.metrics)
    parts += [(scenario, by_scenario[scenario]) for scenario in cells.scenarios(con)]
    return [
        lift(file, metric, treatment, scenario, _pair(variants, file.control, treatment))
        for scenario, variants in parts
        for metric in bound.metrics
        for treatment in treatments
    ]


def _pair(variants: dict, control: str, treatment: str) -> Pair | None:
    return Pair(variants[control], variants[treatment]) if control in variants and treatment in variants else None


def _treatments(population: Population, file: ExperimentFile) -> tuple[str, ...]:
    return tuple(variant for variant in population.sample_ratio.units if variant != file.control)


def _mismatch(population: Population) -> Finding:
    units = population.sample_ratio.units
    text = mismatch_line(population.name, population.sample_ratio)
    return Finding("sample ratio mismatch", "stop", sum(units.values()), sum(units.values()), text)
