"""Many metrics and scenarios: p-values that keep the chance of one false alarm among all of a family at the level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import tea_tasting
from tea_tasting.experiment import ExperimentResult

from swrec_prod.abtest.measures import Metric
from swrec_prod.abtest.record import Lift, Trend, Verdict


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, whatever the tests have to do with each other (Scandinavian J. Statistics 6, 1979).

    >>> holm([0.03, 0.5, 0.01])
    [0.06, 0.5, 0.03]
    """
    results = {str(i): {"pvalue": p} for i, p in enumerate(p_values)}
    adjusted = tea_tasting.adjust_fwer(
        ExperimentResult(results),
        alpha=0.05,
        arbitrary_dependence=True,
        method="bonferroni",
    )
    (corrected,) = adjusted.values()
    return [float(corrected[str(i)]["pvalue_adj"]) for i in range(len(p_values))]


def correct_lifts(lifts: Sequence[Lift], metrics: dict[str, Metric], level: float) -> tuple[Lift, ...]:
    """`lifts` with p_holm and verdicts.

    One family overall and one over scenarios; guardrails are in neither, as all of them must hold, which only makes a
    false pass rarer.
    """
    corrected = list(lifts)
    families: dict[bool, list[int]] = defaultdict(list)
    for i, lift in enumerate(lifts):
        if lift.p is not None and metrics[lift.metric].spec.margin is None:
            families[lift.scenario is None].append(i)
    for members in families.values():
        for i, p in zip(members, holm([lifts[i].p or 0.0 for i in members]), strict=True):
            corrected[i] = replace(corrected[i], p_holm=p)
        looked = [i for i in members if lifts[i].always]
        for i, p in zip(looked, holm([lifts[i].always.p for i in looked]), strict=True):  # type: ignore[union-attr]
            corrected[i] = replace(corrected[i], always=replace(corrected[i].always, p_holm=p))  # type: ignore[type-var]
    return tuple(replace(lift, verdict=_verdict(lift, metrics[lift.metric], level)) for lift in corrected)


def correct_trends(trends: Sequence[Trend], lifts: Sequence[Lift], level: float) -> tuple[Trend, ...]:
    """`trends` with p_holm, and whether the overall lift fades or grows."""
    values = {(lift.metric, lift.treatment): lift.difference for lift in lifts if lift.scenario is None}
    corrected = []
    for trend, p in zip(trends, holm([trend.p for trend in trends]), strict=True):
        difference = values.get((trend.metric, trend.treatment))
        along = difference is not None and difference.value * trend.slope.value > 0
        verdict = "steady" if p >= level else "grows" if along else "fades"
        corrected.append(replace(trend, p_holm=p, verdict=verdict))  # type: ignore[arg-type]
    return tuple(corrected)


def _verdict(lift: Lift, metric: Metric, level: float) -> Verdict:
    p = lift.p if lift.p_holm is None else lift.p_holm
    if p is None or lift.difference is None:
        return "not judged"
    if p >= level:
        return "no difference seen"
    return "gain" if (lift.difference.value > 0) == metric.higher else "loss"
