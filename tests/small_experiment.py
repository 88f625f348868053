"""A small analysed experiment, as `swrec abtest analyze` writes it: two scenarios, two days, one guardrail."""

from __future__ import annotations

from swrec_prod.abtest.record import (
    Always,
    DayLift,
    Estimate,
    ExperimentRecord,
    Finding,
    Guardrail,
    Lift,
    Look,
    MetricNote,
    Population,
    SampleRatio,
    Trend,
)

ALWAYS = Always(Estimate(0.004, -0.001, 0.009), Estimate(0.04, -0.01, 0.09), 0.08, 0.16, None)
CTR = Lift(
    "ctr",
    "new",
    None,
    5_010,
    4_990,
    0.1,
    0.104,
    Estimate(0.004, 0.001, 0.007),
    Estimate(0.04, 0.01, 0.07),
    p=0.009,
    p_holm=0.009,
    always=ALWAYS,
    variance_left=0.7,
    unadjusted=Estimate(0.038, 0.002, 0.075),
    verdict="gain",
)
LIFTS = (
    CTR,
    Lift(
        "watch_time",
        "new",
        None,
        5_010,
        4_990,
        61.0,
        60.9,
        Estimate(-0.1, -0.7, 0.5),
        Estimate(-0.002, -0.011, 0.008),
        p=0.74,
        guardrail=Guardrail(0.02, -0.0098, "holds"),
        verdict="no difference seen",
    ),
    Lift(
        "ctr",
        "new",
        "feed",
        4_000,
        3_980,
        0.11,
        0.117,
        Estimate(0.007, 0.003, 0.011),
        Estimate(0.064, 0.027, 0.1),
        p=0.0005,
        p_holm=0.001,
        verdict="gain",
    ),
    Lift(
        "ctr",
        "new",
        "search",
        1_900,
        1_950,
        0.08,
        0.079,
        Estimate(-0.001, -0.006, 0.004),
        Estimate(-0.0125, -0.07, 0.05),
        p=0.7,
        p_holm=0.7,
        verdict="no difference seen",
    ),
    Lift("ctr", "new", "rare", 12, 15, reason="fewer than 100 units in a variant"),
)
ALL = Population(
    "all",
    SampleRatio({"old": 5_010, "new": 4_990}, {"old": 0.5, "new": 0.5}, 0.84, True),
    {"2024-01-01": {"old": 3_000, "new": 2_990}, "2024-01-02": {"old": 2_010, "new": 2_000}},
    LIFTS,
    (
        DayLift("ctr", "new", "2024-01-01", 3_000, 2_990, Estimate(0.006, 0.002, 0.01), Estimate(0.06, 0.02, 0.1)),
        DayLift("ctr", "new", "2024-01-02", 3_900, 3_880, Estimate(0.002, -0.002, 0.006), None),
    ),
    (
        Look("ctr", "new", "2024-01-01", Estimate(0.006, 0.002, 0.01), Estimate(0.006, -0.001, 0.013), 0.12),
        Look("ctr", "new", "2024-01-02", Estimate(0.004, 0.001, 0.007), Estimate(0.004, -0.001, 0.009), 0.08),
    ),
    (Trend("ctr", "new", Estimate(-0.004, -0.009, 0.001), 0.11, 0.11, "steady"),),
)
EXPERIMENT = ExperimentRecord(
    name="new_ranker",
    control="old",
    treatments=("new",),
    unit="user_id",
    level=0.05,
    days=("2024-01-01", "2024-01-02"),
    metrics=(
        MetricNote("ctr", "sum(click) / sum(impressions)", cuped="clicks_before"),
        MetricNote("watch_time", "mean of sum(watch_time) of a unit", margin=0.02),
    ),
    scenarios=("feed", "search", "rare"),
    findings=(
        Finding("exposures without outcomes", "note", 91_200, 100_000, "they count as zero outcomes"),
        Finding("units in two variants", "warning", 3, 10_003, "left out; for example 'u17'"),
    ),
    populations=(ALL,),
)
