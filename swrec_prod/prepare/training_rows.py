"""The rows of a log that encoders are fitted on: which those are, and whether anything can be learned of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from swrec_prod.data.manifest import Fit
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.errors import DataError
from swrec_prod.logs.fit_days import last_fitted
from swrec_prod.negatives.rows import happened
from swrec_prod.prepare import etl
from swrec_prod.prepare.events import Events
from swrec_prod.prepare.fit import fit
from swrec_prod.prepare.profile import Profile, number_of

if TYPE_CHECKING:
    import ibis.expr.types as ir


def fit_on_training_rows(events: Events, profile: Profile, splits: Mapping[str, int] | None) -> tuple[Encoders, Fit]:
    """Encoders of the training rows, and which those are. splits: rows of each part where rows are dealt.

    Raises DataError for scenarios that the schema does not list, no training rows, or a label that is 1 in all of them.
    """
    schema, data_file = events.schema, events.data_file
    schema = schema if schema.scenario.values else schema.with_scenarios(tuple(profile.scenarios()))
    profile.check_scenarios(schema.scenario, events.log.place)
    rows, fitted = _training_rows(events, profile, splits)
    if not fitted.rows:
        days = f"days are {profile.days[0]}..{profile.days[-1]}"
        raise DataError(f"{data_file.source}: no row to fit vocabularies on ({fitted.rule}; {days})")
    _check_classes(events, profile, fitted)
    events.progress(f"fitting encoders on {fitted.rows:,} of {profile.rows:,} rows")
    if fitted.rows == profile.rows:
        rule = fitted.rule if fitted.until is None else f"{fitted.rule}, and the last day is {fitted.until}"
        events.progress(f"{rule}: no rows are left to judge a model on, until later days are added")
    counted = happened(rows) if data_file.negatives else rows  # items that are drawn are not seen more often for that
    return fit(events.engine, rows, schema, events.derived.lookups, counted=counted), fitted


def _check_classes(events: Events, profile: Profile, fitted: Fit) -> None:
    """Raises DataError for a label that is 1 in all training rows; one that is 0 in all of them is said."""
    days = [day for day in profile.days if fitted.until is None or day <= fitted.until]
    for task, (rows, positives) in profile.classes(days).items():
        column = next(label.column for label in events.schema.labels if label.name == task)
        what = f"label {task!r} (column {column!r})"
        if rows == positives:
            advice = "draw rows of label 0 with `negatives: {per_positive: 4}`, or leave the label out"
            where = f"{events.name(days)}: {what} is 1 in all {rows:,} rows of {days[0]}..{days[-1]}"
            raise DataError(f"{where}, so that nothing can be learned; {advice}")
        if not positives:
            events.progress(f"{what} is 0 in all {rows:,} rows of {days[0]}..{days[-1]}: nothing can be learned of it")


def _training_rows(events: Events, profile: Profile, splits: Mapping[str, int] | None) -> tuple[ir.Table, Fit]:
    table, days = events.of(profile.days), profile.days
    if splits is not None:
        return table.filter(table[etl.SPLIT] == "train"), Fit(rule="split: train", rows=splits["train"], until=None)
    until, rule = last_fitted(events.data_file.fit_until, {day: profile.rows_of(day) for day in days})
    fitted = [day for day in days if day <= until]
    rows = sum(profile.rows_of(day) for day in fitted)
    record = Fit(rule=rule, rows=rows, until=max(fitted, default=None))
    return table.filter(table[etl.DAY] <= number_of(until)), record
