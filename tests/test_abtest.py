"""Lifts of two logs, held to sums and variances that are taken here with pandas and numpy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from experiment_files import COLUMNS, START, Logs, logs
from scipy import stats

from swrec_prod.abtest.analyze import analyze
from swrec_prod.abtest.columns import load_columns
from swrec_prod.abtest.record import ExperimentRecord, Lift

pytestmark = pytest.mark.slow
CLICKS, SHOWN = "clicks", "shown"


def judged(log: Logs, folder: Path, **changes: Any) -> ExperimentRecord:
    """The record of `log` under COLUMNS with some keys replaced; None takes one away."""
    columns = {key: value for key, value in {**COLUMNS, "min_units": 50, **changes}.items() if value is not None}
    exposures, outcomes, file = log.write(folder, columns)
    return analyze(exposures, outcomes if "outcomes" in columns else None, load_columns(file), say=lambda line: None)


def only(record: ExperimentRecord, metric: str = "ctr", scenario: str | None = None, population: int = 0) -> Lift:
    (lift,) = (l for l in record.populations[population].lifts if (l.metric, l.scenario) == (metric, scenario))
    return lift


def by_unit(log: Logs, rows: pd.Series | bool = True) -> pd.DataFrame:
    """Sums of each unit that has an impression in `rows`: clicks of those impressions, and of before."""
    shown = log.exposures[rows] if isinstance(rows, pd.Series) else log.exposures
    clicks = log.outcomes[log.outcomes.request_id.isin(shown.request_id)].groupby("user_id").size()
    before = log.outcomes[log.outcomes.ts < log.exposures.ts.min()].groupby("user_id").size()
    units = shown.groupby("user_id").agg(arm=("arm", "first"), shown=("arm", "size"))
    return units.assign(clicks=clicks, before=before).fillna(0)


def delta_method(units: pd.DataFrame, cuped: bool) -> tuple[float, float]:
    """The difference of sum(clicks) / sum(shown), and its standard error, by one linearised figure a unit."""
    pieces = {}
    for arm, side in units.groupby("arm"):
        ratio = side[CLICKS].sum() / side[SHOWN].sum()
        pieces[arm] = ratio + (side[CLICKS] - ratio * side[SHOWN]) / side[SHOWN].mean()
    if cuped:
        pooled = units[CLICKS].sum() / units[SHOWN].sum()
        linear = (units[CLICKS] - pooled * units[SHOWN]) / units[SHOWN].mean()
        slope = np.cov(linear, units.before)[0, 1] / units.before.var()
        pieces = {arm: z - slope * (units.before[z.index] - units.before.mean()) for arm, z in pieces.items()}
    old, new = pieces["old"], pieces["new"]
    return new.mean() - old.mean(), float(np.sqrt(old.var() / len(old) + new.var() / len(new)))


@pytest.mark.parametrize("scenario", [None, "feed", "search"])
def test_a_ratio_has_the_delta_methods_interval_after_cuped(tmp_path: Path, scenario: str | None) -> None:
    log = logs(lift=0.2)
    lift = only(judged(log, tmp_path), scenario=scenario)
    units = by_unit(log, True if scenario is None else log.exposures.tab == scenario)
    difference, error = delta_method(units, cuped=True)
    assert lift.difference and lift.difference.value == pytest.approx(difference, rel=1e-9)
    assert lift.p == pytest.approx(2 * stats.t.sf(abs(difference / error), len(units) - 2), rel=0.005)
    assert lift.variance_left == pytest.approx((error / delta_method(units, cuped=False)[1]) ** 2, rel=1e-9)
    assert (lift.control_units, lift.treatment_units) == ((units.arm == "old").sum(), (units.arm == "new").sum())


def test_a_mean_over_units_has_welchs_test(tmp_path: Path) -> None:
    log = logs(seed=1)
    outcomes = {**COLUMNS["outcomes"], "pre_days": None}
    lift = only(judged(log, tmp_path, metrics=[{"name": "ctr", "value": "click"}], outcomes=outcomes))
    clicks = by_unit(log)
    welch = stats.ttest_ind(*(clicks.clicks[clicks.arm == arm] for arm in ("new", "old")), equal_var=False)
    assert lift.p == pytest.approx(welch.pvalue, rel=1e-9) and lift.variance_left is None
    low, high = welch.confidence_interval(0.95)
    assert lift.difference and (lift.difference.low, lift.difference.high) == pytest.approx((low, high), rel=1e-9)


def test_outcomes_that_name_units_count_from_the_first_exposure_on(tmp_path: Path) -> None:
    log = logs(seed=2)
    first = log.exposures.groupby("user_id").ts.min()
    late = log.outcomes[log.outcomes.ts >= log.outcomes.user_id.map(first)]
    early = late.assign(ts=late.user_id.map(first) - pd.Timedelta(hours=1), event_id="early-" + late.event_id).head(40)
    units = by_unit(log)
    log.outcomes = pd.concat([log.outcomes, early[early.ts >= log.exposures.ts.min()]])
    by_unit_join = {key: value for key, value in COLUMNS["outcomes"].items() if key != "request"}
    record = judged(log, tmp_path, outcomes=by_unit_join, request=None, scenario=None)
    rates = {arm: side.clicks.sum() / side.shown.sum() for arm, side in units.groupby("arm")}
    lift = only(record)
    assert lift.unadjusted and lift.unadjusted.value == pytest.approx(rates["new"] / rates["old"] - 1, rel=1e-9)
    assert {f.name: f.count for f in record.findings}["outcomes before the first exposure"] > 0


def test_one_table_with_a_covariate_says_the_same_as_two_logs(tmp_path: Path) -> None:
    log = logs(seed=3)
    two = only(judged(log, tmp_path))
    units = by_unit(log).reset_index()
    metric = {"name": "ctr", "value": CLICKS, "per": SHOWN, "covariate": "before"}
    table = Logs(units, log.outcomes)
    changes = dict.fromkeys(("time", "scenario", "request", "outcomes"))
    one = only(judged(table, tmp_path, rows="units", metrics=[metric], **changes))
    assert one.difference and two.difference and one.p == pytest.approx(two.p, rel=1e-9)
    assert one.difference.low == pytest.approx(two.difference.low, rel=1e-9) and one.always is None


def test_csv_days_and_repeated_rows_change_nothing(tmp_path: Path) -> None:
    log = logs(seed=4)
    plain = judged(log, tmp_path)
    log.exposures = pd.concat([log.exposures, log.exposures.head(100)])
    log.outcomes = pd.concat([log.outcomes, log.outcomes.tail(50)])
    again = judged(log, tmp_path)
    assert [lift.p for lift in again.populations[0].lifts] == pytest.approx([x.p for x in plain.populations[0].lifts])
    assert {f.name: f.count for f in again.findings}.items() >= {
        "repeated exposures": 100,
        "repeated outcomes": 50,
    }.items()
    folder = tmp_path / "csv"
    folder.mkdir()
    log.exposures.head(500).to_csv(folder / "a.csv", index=False)
    log.exposures.iloc[500:].to_csv(folder / "b.csv", index=False)
    _, outcomes, file = log.write(tmp_path, {**COLUMNS, "min_units": 50})
    found = only(analyze(folder, outcomes, load_columns(file), say=lambda line: None))
    assert found.p == pytest.approx(only(plain).p, rel=1e-9)


def test_triggered_units_are_judged_as_if_the_others_were_not_there(tmp_path: Path) -> None:
    log = logs(seed=5, users=1_000)
    record = judged(log, tmp_path, triggered="differs")
    assert [population.name for population in record.populations] == ["all", "triggered"]
    units = by_unit(log, log.exposures.differs)
    difference, error = delta_method(units, cuped=True)
    found = only(record, population=1)
    assert found.difference and found.difference.value == pytest.approx(difference, rel=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(difference / error), len(units) - 2), rel=0.005)
    assert found.control_units + found.treatment_units == len(units) < len(by_unit(log))


@pytest.mark.filterwarnings("error")
def test_a_scenario_without_a_click_has_no_lift_and_one_with_clicks_of_one_arm_no_relative_one(tmp_path: Path) -> None:
    log = logs(seed=10)
    search = log.exposures.tab == "search"
    log.exposures.loc[search & (log.exposures.arm == "old"), "tab"] = "cart"
    log.exposures.loc[log.exposures.arm == "new", "tab"] = log.exposures.tab.where(~search, "cart")
    quiet = log.exposures.request_id[(log.exposures.tab == "feed") | (log.exposures.arm == "old")]
    log.outcomes = log.outcomes[~log.outcomes.request_id.isin(quiet)]
    metrics = [{**COLUMNS["metrics"][0], "margin": 0.1}]
    for changes in ({}, {"metrics": metrics}):
        record = judged(log, tmp_path, outcomes={**COLUMNS["outcomes"], "pre_days": None}, **changes)
        nothing, one_sided = only(record, scenario="feed"), only(record, scenario="cart")
        assert (nothing.difference, nothing.p, nothing.reason) == (None, None, "click does not vary")
        assert one_sided.difference and one_sided.difference.value > 0 and one_sided.relative is None
        assert one_sided.guardrail is None and one_sided.p is not None and one_sided.p < 0.05


def test_each_of_several_treatments_is_compared_with_control(tmp_path: Path) -> None:
    log = logs(seed=9, users=900)
    third = log.exposures.user_id.str[1:].astype(int) % 3 == 0
    log.exposures.loc[third, "arm"] = "third"
    shares = {"old": 1, "new": 1, "third": 1}
    both = judged(log, tmp_path, shares=shares, scenario=None)
    p = {lift.treatment: (lift.p, lift.p_holm) for lift in both.populations[0].lifts}
    assert list(p) == ["new", "third"] == list(both.treatments)
    smaller, larger = sorted(p.values())
    assert smaller[1] == pytest.approx(min(1, 2 * smaller[0]))
    assert larger[1] == pytest.approx(max(smaller[1], larger[0]))
    for treatment in ("new", "third"):
        alone = Logs(log.exposures[log.exposures.arm.isin(["old", treatment])], log.outcomes)
        record = judged(alone, tmp_path, shares={"old": 1, treatment: 1}, scenario=None)
        assert p[treatment][0] == pytest.approx(only(record).p, rel=1e-6)


@pytest.mark.parametrize(
    ("lift", "better", "verdict"), [(0.0, "higher", "holds"), (-0.9, "higher", "broken"), (0.9, "lower", "broken")]
)
def test_a_guardrail_holds_unless_the_loss_may_be_beyond_its_margin(
    tmp_path: Path, lift: float, better: str, verdict: str
) -> None:
    metric = {**COLUMNS["metrics"][0], "margin": 0.4, "better": better}
    found = only(judged(logs(seed=6, users=1_500, lift=lift), tmp_path, metrics=[metric]))
    assert found.guardrail and found.guardrail.verdict == verdict and found.p_holm is None


def test_a_guardrail_is_not_proven_by_few_units(tmp_path: Path) -> None:
    found = only(judged(logs(seed=8), tmp_path, metrics=[{**COLUMNS["metrics"][0], "margin": 0.01}]))
    assert found.guardrail and found.guardrail.verdict == "not proven" and found.guardrail.bound < -0.01


def test_the_slope_of_the_lift_has_the_jackknifes_error(tmp_path: Path) -> None:
    log = logs(seed=7, users=400, days=5, lift=0.6, fading=1.0)
    record = judged(log, tmp_path, outcomes={**COLUMNS["outcomes"], "pre_days": None})
    (trend,) = record.populations[0].trends
    day = (log.exposures.ts - START).dt.days
    clicked = log.exposures.request_id.isin(log.outcomes.request_id)
    cells = pd.crosstab(log.exposures.user_id, day), pd.crosstab(log.exposures.user_id[clicked], day[clicked])
    shown = cells[0].to_numpy(float)
    clicks = cells[1].reindex(cells[0].index, fill_value=0).to_numpy(float)
    new = (log.exposures.groupby("user_id").arm.first()[cells[0].index] == "new").to_numpy()

    def slope(rows: np.ndarray) -> float:
        ratio = [clicks[rows & side].sum(0) / shown[rows & side].sum(0) for side in (new, ~new)]
        return float(np.polyfit(np.arange(shown.shape[1]), ratio[0] - ratio[1], 1)[0])

    everyone = np.ones(len(new), bool)
    without = np.array([slope(everyone & (np.arange(len(new)) != i)) for i in range(len(new))])
    error = np.sqrt((len(new) - 1) * without.var())
    assert trend.slope.value == pytest.approx(slope(everyone), rel=1e-9)
    assert trend.slope.high is not None and trend.slope.low is not None
    assert (trend.slope.high - trend.slope.low) / 2 / stats.norm.isf(0.025) == pytest.approx(error, rel=0.03)
    assert trend.verdict in ("fades", "steady") and trend.slope.value < 0
