"""A backfill as large as one gets: many days, hundreds of scenarios with long names, several models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from swrec_prod.judge.record import (
    BackfillRecord,
    Contrast,
    DayDifference,
    Figures,
    JudgedDay,
    JudgedModel,
    Reason,
    Verdict,
)

FIRST = date(2024, 1, 30)


def large_backfill(models: Sequence[str], num_days: int, num_scenarios: int, seed: int = 1) -> BackfillRecord:
    """The first of the models is the champion; figures are drawn at random, some are missing."""
    rng = np.random.default_rng(seed)
    days = tuple(FIRST + timedelta(i) for i in range(num_days))
    scenarios = tuple(f"landing page of campaign number {i}" for i in range(num_scenarios))
    judged = tuple(_model(rng, name, days, scenarios, 0.002 * i) for i, name in enumerate(models))
    differences = tuple(
        c for i, name in enumerate(models[1:], 1) for c in _contrasts(rng, name, models[0], days, scenarios, 0.002 * i)
    )
    verdict = _verdict([c for c in differences if c.challenger == models[1]]) if len(models) > 1 else None
    return BackfillRecord(
        mode="frozen",
        days=days,
        data="build/data/shop",
        data_fingerprint="f00d",
        tasks=("click",),
        scenarios=scenarios,
        models=judged,
        champion=models[0] if len(models) > 1 else None,
        differences=differences,
        verdict=verdict,
    )


def _figures(rng: np.random.Generator, rows: int, auc: float, scenario: str | None) -> Figures:
    rare = scenario is not None and rng.random() < 0.05
    error = 0.4 / np.sqrt(rows)
    auc = auc + rng.normal() * error
    metrics = {"auc": auc, "gauc": auc - 0.02, "ndcg": 0.4, "logloss": 0.2, "ne": 0.9}
    metrics |= {"calibration": float(np.exp(rng.normal() * error)), "ece": 0.01}
    return Figures(
        task="click",
        part="scenario" if scenario else "overall",
        scenario=scenario,
        rows=rows,
        positives=0 if rare else rows // 20,
        metrics=dict.fromkeys(metrics) if rare else metrics,
        intervals={} if rare else {"auc": (auc - 2 * error, auc + 2 * error)},
        reasons={"auc": "all labels are 0"} if rare else {},
        unknown=float(rng.beta(2, 60)),
    )


def _model(
    rng: np.random.Generator, name: str, days: Sequence[date], scenarios: Sequence[str], ahead: float
) -> JudgedModel:
    def parts(auc: float, scale: int) -> tuple[Figures, ...]:
        each = [_figures(rng, max(40, scale * 20_000 // (i + 2)), auc - 0.0002 * i, s) for i, s in enumerate(scenarios)]
        return (_figures(rng, scale * 100_000, auc, None), *each)

    judged = [
        JudgedDay(
            day=day,
            trained_through=FIRST - timedelta(1),
            figures=parts(0.72 + ahead - 0.0003 * i, 1),
            unknown_values={"item": 0.02 + 0.001 * i, "user": 0.05, "a feature with quite a long name": 0.01},
        )
        for i, day in enumerate(days)
    ]
    return JudgedModel(
        name=name, kind="run", path=f"build/runs/{name}", days=tuple(judged), pooled=parts(0.72 + ahead, len(days))
    )


def _contrasts(
    rng: np.random.Generator,
    challenger: str,
    champion: str,
    days: Sequence[date],
    scenarios: Sequence[str],
    ahead: float,
) -> list[Contrast]:
    found = []
    for i, scenario in enumerate((None, *scenarios)):
        error = 0.0005 * (1 + i) ** 0.5
        value = ahead + rng.normal() * error * 1.5
        daily = ahead + rng.normal(size=len(days)) * error * len(days) ** 0.5
        p = min(1.0, float(np.exp(-0.5 * (value / error) ** 2)))
        found.append(
            Contrast(
                challenger=challenger,
                champion=champion,
                task="click",
                part="scenario" if scenario else "overall",
                scenario=scenario,
                rows=100_000,
                positives=5_000,
                users=9_000,
                value=value,
                error=error,
                low=value - 2 * error,
                high=value + 2 * error,
                p=p,
                adjusted_p=p,
                significant=p < 0.01,
                days=tuple(
                    DayDifference(day=d, value=v, low=v - 2 * error, high=v + 2 * error)
                    for d, v in zip(days, daily, strict=True)
                ),
            )
        )
    return found


def _verdict(contrasts: Sequence[Contrast]) -> Verdict:
    overall, *each = contrasts
    losses = tuple(c for c in each if c.significant and c.value < 0)
    reasons = [
        Reason(
            check="auc_loss",
            passed=False,
            task="click",
            scenario=c.scenario,
            found=c.value,
            allowed=-0.005,
            text=f"{c.scenario} loses {-c.value:.4f} of AUC, significantly; at most 0.0050 is allowed",
        )
        for c in losses
    ]
    return Verdict(
        verdict="hold" if losses else "promote",
        challenger=overall.challenger,
        champion=overall.champion,
        task="click",
        reasons=tuple(reasons),
        gains=tuple(c for c in each if c.significant and c.value > 0),
        losses=losses,
        overall=overall,
        checks=len(each),
        rule={"auc_loss": 0.005, "minimum_rows": 1000},
    )
