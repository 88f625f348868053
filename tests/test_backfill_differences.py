"""Differences over days with users as clusters, and the gate that decides by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import backfill_example
import numpy as np
import pyarrow as pa
import pytest
from commands import refused, succeeds, swrec
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_days import DAYS, config_of, prepared
from scipy import stats

from swrec_prod.errors import ConfigError, DataError
from swrec_prod.evaluate.predictions import read_predictions
from swrec_prod.judge.contrasts import contrasts_of
from swrec_prod.judge.day import judged, write_day
from swrec_prod.judge.gate import GateRule, verdict_of
from swrec_prod.judge.gauc_sums import GaucSums
from swrec_prod.judge.pooled import thinned
from swrec_prod.judge.record import BackfillRecord
from swrec_prod.judge.unknown_shares import Unknown
from swrec_prod.judge.user_sums import RowComponents, UserSums
from swrec_prod.metrics.ranks import RankStatistic, auc
from swrec_prod.metrics.within_groups import gauc
from swrec_prod.statistics.paired import auc_difference, auc_mean
from swrec_prod.train.run import train


def drawn(seed: int, rows: int = 120, users: int = 15) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels, users, scores [2, rows]."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(rows) < 0.3).astype(float)
    labels[:4] = (0, 1, 0, 1)
    return labels, draw.integers(0, users, rows), labels + draw.normal(size=(2, rows)).round(1)


def error_of(*days: tuple[np.ndarray, np.ndarray, np.ndarray], scale: float = 1.0) -> float | None:
    """Of the sum of the days' differences, each times its rows."""
    sums = UserSums()
    for labels, users, scores in days:
        mine, theirs = (RowComponents.of(RankStatistic.of(labels, s), labels, s) for s in scores)
        sums.add(pa.chunked_array([users]), labels, mine - theirs, factor=len(labels))
    spread = sums.spread(scale)
    return None if spread is None else spread.error


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_on_one_day_the_error_is_that_of_a_paired_test(seed: int) -> None:
    labels, users, scores = drawn(seed)
    expected = auc_difference(labels, scores[0], scores[1], users).error
    assert error_of((labels, users, scores), scale=len(labels)) == pytest.approx(expected, rel=1e-9)


def naive_error(days: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """By definition: what every user adds to the sum of the days, pair by pair."""
    everyone = sorted({int(user) for _, users, _ in days for user in users})
    parts = {user: np.zeros(2) for user in everyone}
    rows = {user: np.zeros(2) for user in everyone}
    for labels, users, scores in days:
        wins = []
        for score in scores:
            above = score[labels == 1][:, None] - score[labels == 0][None, :]
            wins.append((above > 0) + 0.5 * (above == 0))
        difference = wins[0] - wins[1]
        of_rows = difference - difference.mean()
        for kind, (label, axis) in enumerate(((1, 1), (0, 0))):
            for user, component in zip(users[labels == label], of_rows.mean(axis), strict=True):
                parts[int(user)][kind] += len(labels) * component / (labels == label).sum()
                rows[int(user)][kind] += 1
    positive, negative = (np.array([parts[user][kind] for user in everyone]) for kind in (0, 1))
    sizes = [[of(rows[user]) for user in everyone] for of in (lambda two: two[0], lambda two: two[1], sum)]
    alike = [sum(size) ** 2 / sum(n**2 for n in size) for size in sizes]
    factors = [n / (n - 1) for n in alike]
    return float(np.sqrt(np.dot(factors, [positive @ positive, negative @ negative, 2 * positive @ negative])))


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_over_several_days_a_user_is_one_cluster(seed: int) -> None:
    days = [drawn(seed + n, rows=40 + 10 * n) for n in range(3)]
    assert error_of(*days) == pytest.approx(naive_error(days), rel=1e-9)


def test_fewer_than_two_users_of_a_label_have_no_error() -> None:
    labels, _, scores = drawn(1)
    assert error_of((labels, np.zeros(len(labels), int), scores)) is None
    assert UserSums().spread() is None


def test_weights_count_as_copies_in_the_components() -> None:
    labels, users, scores = drawn(2)
    weights = np.random.default_rng(3).integers(1, 4, len(labels)).astype(float)
    weighted = RowComponents.of(RankStatistic.of(labels, scores[0], weights), labels, scores[0], weights)
    copies = [np.repeat(column, weights.astype(int)) for column in (labels, users, scores[0])]
    plain = RowComponents.of(RankStatistic.of(copies[0], copies[2]), copies[0], copies[2])
    sums = [np.bincount(of, rows.positive_N) for of, rows in ((users, weighted), (copies[1], plain))]
    np.testing.assert_allclose(sums[0], sums[1], atol=1e-12)


def test_thinned_ranks_have_the_same_errors() -> None:
    labels, users, scores = drawn(4, rows=4000)
    fine = scores + np.random.default_rng(5).normal(size=scores.shape) / 100
    exact, coarse = UserSums(), UserSums()
    for sums, most in ((exact, 1 << 20), (coarse, 500)):
        ranks = thinned(RankStatistic.of(labels, fine[0]), most)
        assert len(ranks.score_K) <= most and ranks.positives_K.sum() == labels.sum()
        sums.add(pa.chunked_array([users]), labels, RowComponents.of(ranks, labels, fine[0]))
    assert tuple(coarse.spread() or ()) == pytest.approx(tuple(exact.spread() or (0, 0)), rel=1e-2)


def write_scores(out: Path, model: str, day: Any, columns: dict[str, Any]) -> None:
    """A judged day that holds scores alone."""
    table = pa.table(columns)
    judged_day, piece = judged(table, day, None, Unknown(None, {}, {}))
    write_day(out / model / f"day={day}", model, judged_day, piece, table, predictions=False)


@pytest.fixture
def two_models(tmp_path: Path) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """Scores of `a` and `b` on three days, the third without clicks in `cart`; and the columns."""
    kept: dict[str, list[np.ndarray]] = {}
    for n, day in enumerate(DAYS[:3]):
        labels, users, scores = drawn(n + 10, rows=200)
        scenario = np.array(["home", "cart"])[np.random.default_rng(n).integers(0, 2, 200)]
        labels = np.where((scenario == "cart") & (n == 2), 0, labels)
        for name, values in (("labels", labels), ("users", users), ("scenario", scenario)):
            kept.setdefault(name, []).append(values)
        for model, logits in zip("ab", scores, strict=True):
            kept.setdefault(model, []).append(logits)
            columns = {"row": np.arange(200), "scenario": scenario, "user": users, "label_click": labels}
            write_scores(tmp_path, model, day, {**columns, "score_click": logits})
    return tmp_path, kept


def test_differences_are_weighted_means_of_the_days_that_have_both_labels(two_models) -> None:
    out, kept = two_models
    found = {of.scenario: of for of in contrasts_of(out, DAYS[:3], "b", "a")}
    assert set(found) == {None, "home", "cart"}
    for scenario, contrast in found.items():
        values, rows = [], []
        for labels, names, a, b in zip(kept["labels"], kept["scenario"], kept["a"], kept["b"], strict=True):
            keep = np.ones(200, bool) if scenario is None else names == scenario
            if 0 < labels[keep].sum() < keep.sum():
                values.append(auc(labels[keep], b[keep]) - auc(labels[keep], a[keep]))
                rows.append(keep.sum())
        assert contrast.value == pytest.approx(np.average(values, weights=rows))
        assert [day.value for day in contrast.days] == pytest.approx(values)
        assert contrast.rows == sum(rows) and len(contrast.days) == (2 if scenario == "cart" else 3)


def test_the_difference_of_gauc_is_that_of_all_days_together(two_models) -> None:
    out, kept = two_models
    for contrast in contrasts_of(out, DAYS[:3], "b", "a"):
        day = np.repeat(np.arange(3), 200)
        labels, users, names, *scores = (np.concatenate(kept[name]) for name in ("labels", "users", "scenario", *"ab"))
        keep = (names == contrast.scenario) | (contrast.scenario is None)
        before, after = (gauc(labels[keep], of[keep], (users + 1000 * day)[keep]).value for of in scores)
        assert contrast.gauc is not None and contrast.gauc.value == pytest.approx(after - before)
        assert contrast.gauc.low < contrast.gauc.value < contrast.gauc.high


def gauc_difference(draw: np.random.Generator, users: int, rows: int, days: int = 2) -> tuple[Any, list[np.ndarray]]:
    """Of two models of the same quality; and by day the difference of every user's AUC. Every user has so many rows, of
    both labels, on each day.
    """
    sums, by_day = GaucSums(), []
    who, labels = np.repeat(np.arange(users), rows), np.tile(np.arange(rows) % 2, users).astype(float)
    taste = draw.normal(size=(2, users * rows))  # what a user's days share
    for _ in range(days):
        mine, theirs = labels + taste + draw.normal(size=taste.shape)
        sums.add(pa.table({"user": who}), labels, mine, theirs)
        by_day.append(np.array([auc(labels[who == u], mine[who == u]) - auc(labels[who == u], theirs[who == u])
                                for u in range(users)]))  # fmt: skip
    return sums.found(), by_day


def test_the_error_of_equal_users_is_that_of_a_t_test() -> None:
    found, by_day = gauc_difference(np.random.default_rng(1), users=30, rows=6)
    expected = stats.ttest_1samp(np.mean(by_day, axis=0), 0)
    assert found.value == pytest.approx(np.mean(by_day)) and found.users == 30
    assert found.value / found.error == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, rel=0.1), "its degrees of freedom are estimated"


def test_models_of_one_quality_seldom_differ_in_gauc() -> None:
    draw = np.random.default_rng(2)
    marks = [gauc_difference(draw, users=25, rows=4)[0].p < 0.05 for _ in range(300)]
    assert 0.02 <= np.mean(marks) <= 0.08


def test_one_user_with_both_labels_has_no_test_of_gauc() -> None:
    sums = GaucSums()
    assert sums.found() is None
    labels, logits = np.array([0.0, 1.0, 1.0]), np.array([0.1, 0.3, 0.2])
    sums.add(pa.table({"user": ["u", "u", "v"]}), labels, logits, -logits)
    assert sums.found() is None


def test_rows_that_differ_are_refused_with_counts(two_models) -> None:
    out, kept = two_models
    columns = {"row": np.arange(1, 201), "scenario": kept["scenario"][0], "user": kept["users"][0]}
    labels = {"label_click": kept["labels"][0], "score_click": kept["a"][0]}
    write_scores(out, "c", DAYS[0], columns | labels)
    with pytest.raises(DataError, match="not judged on the same rows: 2024-01-01: 200 and 200 rows, 199 of them"):
        contrasts_of(out, DAYS[:1], "c", "a")
    write_scores(out, "d", DAYS[0], columns | labels | {"row": np.arange(200), "label_click": 1 - kept["labels"][0]})
    with pytest.raises(DataError, match="200 rows have another label_click"):
        contrasts_of(out, DAYS[:1], "d", "a")


@pytest.mark.slow  # trains
def test_one_day_has_the_interval_of_a_mean_auc(tmp_path: Path) -> None:
    """Of the figures of a judged day, on real predictions: see also test_backfill."""
    data = prepared(tmp_path / "data", weighted=False)
    train(config_of(data), tmp_path / "run")
    words = ("--days", str(DAYS[4]), "--out", tmp_path / "out", "--predictions", "--json")
    overall = json.loads(succeeds("backfill", tmp_path / "run", *words))["models"][0]["days"][0]["figures"][0]
    table = read_predictions(tmp_path / "out" / "run" / f"day={DAYS[4]}" / "predictions.parquet")
    labels, scores = (table[name].to_numpy().astype(float) for name in ("label_click", "score_click"))
    expected = auc_mean(labels, scores, np.array(table["user"].to_pylist()))
    assert overall["intervals"]["auc"] == pytest.approx((expected.low, expected.high), abs=1e-3)


RULE = GateRule(minimum_rows=100, minimum_positives=10, scenario_rows=100, scenario_positives=1, calibration=(0.5, 1.5))


def record(**differences: tuple[float, float]) -> BackfillRecord:
    """The example with other differences (value, p) by scenario; `overall` over all rows."""
    example = backfill_example.backfill()
    example["differences"] = []
    for name, (value, p) in ({"overall": (0.01, 0.001)} | differences).items():
        contrast = backfill_example.contrast(value, None if name == "overall" else name)
        example["differences"].append(contrast | {"p": p, "adjusted_p": p})
    return BackfillRecord.model_validate(example)


def failed(found: BackfillRecord, rule: GateRule = RULE, **changes: Any) -> list[tuple[str, str | None]]:
    """The checks that hold the challenger."""
    verdict = verdict_of(found, rule.model_copy(update=changes))
    assert (verdict.verdict == "promote") == all(reason.passed for reason in verdict.reasons)
    return [(reason.check, reason.scenario) for reason in verdict.reasons if not reason.passed]


def test_a_challenger_that_loses_nothing_is_promoted_with_its_gains() -> None:
    verdict = verdict_of(record(home=(0.02, 0.001), cart=(0.001, 0.8), search=(-0.001, 0.7)), RULE)
    assert verdict.verdict == "promote" and verdict.reasons[0].check == "margin"
    assert [of.scenario for of in verdict.gains] == ["home"] and verdict.losses == ()


def test_a_loss_holds_where_it_is_large_and_significant_among_all_scenarios() -> None:
    assert failed(record(home=(0.02, 0.001), search=(-0.012, 0.001))) == [("scenario_auc_loss", "search")]
    assert failed(record(home=(0.02, 0.001), search=(-0.004, 0.001))) == []
    assert failed(record(home=(0.001, 0.9), cart=(0.001, 0.8), search=(-0.012, 0.03))) == [], "0.03 * 3 > 0.05"
    assert failed(record(search=(-0.012, 0.03))) == [("scenario_auc_loss", "search")]
    assert failed(record(search=(-0.012, 0.001)), scenario_rows=10**6) == [], "too few rows to be looked at"


def test_over_all_rows_it_must_be_shown_that_nothing_is_lost() -> None:
    assert failed(record(overall=(0.007, 0.1))) == [], "0.007 - 0.008 > -0.002"
    assert failed(record(overall=(0.0, 1.0))) == [("margin", None)]
    assert failed(record(overall=(0.007, 0.1)), must_gain=True) == [("must_gain", None)]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"minimum_rows": 901}, ("minimum_rows", None)),
        ({"minimum_positives": 91}, ("minimum_positives", None)),
        ({"minimum_days": 4}, ("minimum_days", None)),
        ({"calibration": (0.9, 1.1)}, ("calibration", None)),
        ({"scenario_calibration": (0.9, 1.1)}, ("scenario_calibration", "home")),
        ({"scenario_gauc_loss": 0.001}, None),
        ({"unknown": 0.03}, ("unknown", None)),
    ],
)
def test_every_key_of_the_rule_can_hold(changes: dict[str, Any], check: tuple[str, str | None] | None) -> None:
    assert failed(record(home=(0.02, 0.001)), **changes) == ([check] if check else [])


@pytest.mark.parametrize(("value", "p", "holds"), [(-0.1, 0.001, True), (-0.1, 0.2, False), (-0.04, 0.001, False)])
def test_a_significantly_lower_gauc_holds_where_the_rule_asks(value: float, p: float, holds: bool) -> None:
    worse = record(home=(0.02, 0.001), cart=(0.001, 0.8)).model_dump()
    for contrast, change in zip(worse["differences"], ((0.0, 1.0), (value, p), (0.0, 1.0)), strict=True):
        marks = {"p": change[1], "adjusted_p": change[1], "significant": False}
        contrast["gauc"] = {"users": 50, "value": change[0], "error": 0.01, "low": -0.2, "high": 0.2} | marks
    found = BackfillRecord.model_validate(worse)
    assert failed(found) == []
    assert failed(found, scenario_gauc_loss=0.05) == ([("scenario_gauc_loss", "home")] if holds else [])


def test_what_the_gate_cannot_decide_is_refused() -> None:
    alone = record().model_copy(update={"models": record().models[:1]})
    with pytest.raises(DataError, match="one model was judged"):
        verdict_of(alone, RULE)
    with pytest.raises(ConfigError, match="task buy: no such label; known: click"):
        verdict_of(record(), RULE.model_copy(update={"task": "buy"}))
    with pytest.raises(ConfigError, match="--challenger x: no such challenger; known: mscan"):
        verdict_of(record(), RULE, "x")


def test_the_shipped_rule_says_the_defaults() -> None:
    assert GateRule.load("gate") == GateRule()


def test_the_gate_command_ends_with_its_code(tmp_path: Path) -> None:
    record(home=(0.02, 0.001)).write(tmp_path)
    rule = tmp_path / "rule.yaml"
    rule.write_text("{minimum_rows: 100, minimum_positives: 10, calibration: [0.5, 1.5]}")
    promoted = swrec("gate", tmp_path, "--rule", rule, "--json")
    assert promoted.code == 0 and json.loads(promoted.out)["verdict"] == "promote"
    assert BackfillRecord.read(tmp_path).verdict is not None
    held = swrec("gate", tmp_path)
    assert held.code == 3 and "900 rows were judged, 10,000 are needed" in held.out
    rule.write_text("{minimum_row: 100}")
    refused(swrec("gate", tmp_path, "--rule", rule), "minimum_row: unknown key; did you mean minimum_rows?")
    refused(swrec("gate", tmp_path / "none"), "no backfill.json")
