"""`swrec abtest plan`, and both commands on real data: Open Bandit's two policies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import refused, succeeds, swrec
from experiment_files import COLUMNS, logs
from scipy import stats

from swrec_prod.abtest.record import experiment_of

pytestmark = pytest.mark.slow


def test_the_smallest_effect_is_what_units_and_their_spread_allow(tmp_path: Path) -> None:
    log = logs(users=2_000, days=3)
    outcomes = {**COLUMNS["outcomes"], "pre_days": None}
    paths = log.write(tmp_path, {**COLUMNS, "outcomes": outcomes, "shares": {"old": 3, "new": 1}})
    given = ("--exposures", paths[0], "--outcomes", paths[1], "--columns", paths[2], "--out", tmp_path / "plan")
    found = json.loads(
        succeeds("abtest", "plan", *given, "--effect", "0.3", "--traffic", "0.5", "--days", "6", "--json")
    )
    overall = found["metrics"][0]
    units = log.exposures.groupby("user_id").size().to_frame("shown")
    units["clicks"] = log.outcomes[log.outcomes.request_id != ""].groupby("user_id").size()
    units = units.fillna(0)
    ratio = units.clicks.sum() / units.shown.sum()
    deviation = ((units.clicks - ratio * units.shown) / units.shown.mean()).std()
    days = {day["day"]: day for day in overall["days"]}
    last = days[3]
    assert last["observed"] and last["units"] == len(units) // 2 and overall["value"] == pytest.approx(ratio)
    error = deviation * np.sqrt((4 / 3 + 4) / last["units"])
    smallest = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * error / ratio
    assert last["smallest"] == pytest.approx(smallest, rel=0.001)
    assert last["power"] == pytest.approx(stats.norm.sf(stats.norm.isf(0.025) - 0.3 * ratio / error), abs=0.001)
    assert {day: found["observed"] for day, found in days.items()} == {1: True, 2: True, 3: True, 5: False, 6: False}
    assert sorted((day["smallest"] for day in overall["days"]), reverse=True) == [
        d["smallest"] for d in overall["days"]
    ]
    assert [metric["alpha"] for metric in found["metrics"]] == [0.05, 0.025, 0.025]  # two scenarios
    assert (tmp_path / "plan" / "plan.md").read_text().startswith("# Plan of ranker\n")


def test_past_traffic_without_an_experiment_will_do(tmp_path: Path) -> None:
    log = logs(users=500, days=2)
    log.exposures = log.exposures.drop(columns=["arm", "differs"])
    metric = {**COLUMNS["metrics"][0], "margin": 0.9}
    paths = log.write(tmp_path, {**COLUMNS, "triggered": "differs", "metrics": [metric]})
    given = ("--exposures", paths[0], "--outcomes", paths[1], "--columns", paths[2])
    text = succeeds("abtest", "plan", *given)
    assert "90\u202f% needs 1 days" in text or "90\u202f% needs 2 days" in text
    outcome = swrec("abtest", "plan", *given, "--power", "1.2", "--json")
    refused(outcome, "swrec abtest plan: power: input should be less than 1, not 1.2")


def test_two_policies_of_open_bandit_are_no_different_once_corrected(shared_data: Path, tmp_path: Path) -> None:
    log = shared_data / "open_bandit_small.parquet"
    given = ("--exposures", log, "--columns", "open_bandit")
    record = experiment_of(json.loads(succeeds("abtest", "analyze", *given, "--out", tmp_path, "--json")))
    (population,) = record.populations
    campaigns = {lift.scenario: lift for lift in population.lifts}
    men = campaigns["men"]
    assert men.relative and men.relative.value == pytest.approx(0.5) and men.p is not None
    assert stats.norm.isf(men.p / 2) == pytest.approx(2.15, abs=0.005)
    assert men.p < 0.05 < men.p_holm < 0.1  # type: ignore[operator]
    assert {lift.verdict for lift in population.lifts} == {"no difference seen"}
    clicks = {name: (lift.control, lift.treatment_value) for name, lift in campaigns.items()}
    assert clicks["all"] == pytest.approx((0.0038, 0.0042)) and clicks["women"] == pytest.approx((0.0046, 0.0046))
    assert clicks[None] == pytest.approx((130 / 30_000, 157 / 30_000))
    second = population.looks[1].difference  # who looks on the second day believes in a gain
    assert second.low is not None and second.low > 0
    assert all(look.always.low < 0 < look.always.high for look in population.looks)  # type: ignore[operator]
    assert "20\u202f% needs 19 days" in succeeds("abtest", "plan", *given, "--effect", "0.2")
