"""Logs and columns files that nothing true can be said of: counted, and refused where an answer would mislead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Outcome, refused, succeeds, swrec
from experiment_files import COLUMNS, Logs, logs

pytestmark = pytest.mark.slow
SMALL = {**COLUMNS, "min_units": 20}
OF_UNITS = {key: value for key, value in COLUMNS["outcomes"].items() if key != "request"}


def analysed(log: Logs, folder: Path, columns: dict[str, Any], *words: str) -> Any:
    exposures, outcomes, file = log.write(folder, columns)
    given = ("--exposures", exposures, "--columns", file, "--out", folder / "out")
    return swrec("abtest", "analyze", *given, *(("--outcomes", outcomes) if "outcomes" in columns else ()), *words)


def refuses(outcome: Outcome, message: str) -> None:
    """Exit code 2, and `message` on the one line behind those of progress."""
    *progress, last = outcome.err.splitlines()
    assert all(line.startswith(("read ", "joined ", "all units")) for line in progress), outcome.err
    refused(Outcome(outcome.code, outcome.out, last), message)


def findings(folder: Path) -> dict[str, int]:
    record = json.loads((folder / "out" / "experiment.json").read_text())
    return {finding["name"]: finding["count"] for finding in record["findings"]}


def crossed(log: Logs, users: int) -> None:
    log.exposures.loc[log.exposures.drop_duplicates("user_id").index[:users], "arm"] = "new"
    log.exposures.loc[log.exposures.drop_duplicates("user_id", keep="last").index[:users], "arm"] = "old"


def no_join(log: Logs) -> None:
    log.outcomes["request_id"] = "x" + log.outcomes.request_id


def an_hour_early(log: Logs) -> None:
    log.outcomes["ts"] -= pd.Timedelta(hours=1)


def lost_in_one_arm(log: Logs) -> None:
    everything = log.exposures[["request_id", "user_id", "ts", "arm"]].assign(click=0)
    everything["event_id"] = "e" + everything.request_id
    log.outcomes = everything[(everything.arm == "old") | (everything.index % 5 > 0)].drop(columns="arm")


def seconds(log: Logs) -> None:
    log.exposures["ts"] = log.exposures.ts.astype("datetime64[s]").astype("int64")


def not_finite(log: Logs) -> None:
    log.outcomes["click"] = log.outcomes.click.astype(float)
    log.outcomes.loc[log.outcomes.request_id != "", "click"] = float("inf")


def text_clicks(log: Logs) -> None:
    log.outcomes["click"] = "yes"


def one_arm(log: Logs) -> None:
    log.exposures["arm"] = "old"


def renamed_arm(log: Logs) -> None:
    log.exposures["arm"] = "the_" + log.exposures.arm


def leave(log: Logs) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "changes", "message"),
    [
        (lambda log: crossed(log, 100), {}, "exposures: 55 of 429 units (12.8%) are in two"),
        (lambda log: crossed(log, 100), {}, "are in two variants, for example 'u"),
        (no_join, {}, "is of an exposed request (request_id); for example outcomes have 'xr108'"),
        (an_hour_early, {}, "are before their own exposure; do the clocks"),
        (
            lambda log: log.outcomes.assign(ts=log.outcomes.ts - pd.Timedelta(hours=30)),
            {"outcomes": {**OF_UNITS, "pre_days": None}, "scenario": None},
            "before their unit's first exposure; do the clocks",
        ),
        (
            lost_in_one_arm,
            {"outcomes": {**COLUMNS["outcomes"], "complete": True, "pre_days": None}},
            "lost for 'new' 19",
        ),
        (seconds, {}, "is no time in microseconds (1973 to 2286); in which unit"),
        (not_finite, {}, "outcomes: column 'click' is not finite for"),
        (text_clicks, {}, "metrics: column 'click' is varchar, which cannot be summed; a number is needed"),
        (one_arm, {}, "'old' is the only variant"),
        (renamed_arm, {}, "no row of control 'old'; did you mean the_old?"),
        (leave, {"rows": "units"}, "rows repeat a unit, for example 'u"),
        (leave, {"unit": "user"}, "unit: exposures have no column 'user'; did you mean user_id?"),
        (leave, {"where": {"region": "de"}}, "where: exposures have no column 'region'"),
        (leave, {"where": {"tab": "home"}}, "exposures: no rows where {'tab': 'home'}"),
        (leave, {"metrics": [{"name": "ctr", "value": "clicks"}]}, "have no column 'clicks'; did you mean click?"),
        (leave, {"metrics": [{"name": "ctr", "value": "click", "covariate": "past"}]}, "have no column 'past'"),
        (leave, {"outcomes": {"key": "request_id"}}, "outcomes.key: unknown key"),
        (leave, {"outcomes": {"time": "ts"}}, "outcomes: needs request or unit"),
        (leave, {"shares": {"a": 1, "new": 1}}, "control 'old' has no planned share"),
        (leave, {"metrics": []}, "metrics: "),
    ],
)
def test_what_would_mislead_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Logs], Any], changes: dict[str, Any], message: str
) -> None:
    log = logs(users=600, days=2)
    outcomes = spoil(log)
    log.outcomes = outcomes if isinstance(outcomes, pd.DataFrame) else log.outcomes
    columns = {key: value for key, value in {**SMALL, **changes}.items() if value is not None}
    columns["outcomes"] = {key: value for key, value in columns["outcomes"].items() if value is not None}
    refuses(analysed(log, tmp_path, columns), message)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    log = logs(users=600, days=2)
    crossed(log, 3)
    two_variants = log.exposures.groupby("user_id").arm.nunique().gt(1).sum()
    users = log.exposures.drop_duplicates("user_id").user_id
    alone = ~log.exposures.user_id.isin(users[:10])
    log.exposures["forced"] = log.exposures.user_id == users.iloc[20]
    log.exposures.loc[log.exposures.user_id == users.iloc[30], "arm"] = "third"
    log.exposures.loc[log.exposures[alone].index[:4], "user_id"] = None
    strangers = log.outcomes.tail(7).assign(request_id="nobody's", ts=log.exposures.ts.max(), event_id=list("abcdefg"))
    log.outcomes = pd.concat([log.outcomes, strangers])
    outcome = analysed(log, tmp_path, {**SMALL, "forced": "forced", "shares": {"old": 1, "new": 1}})
    assert outcome.code == 0, outcome.err
    found = findings(tmp_path)
    assert found["units in two variants"] == two_variants > 0
    assert found["exposures without a unit"] == 4
    assert found["forced exposures"] == (log.exposures.user_id == users.iloc[20]).sum()
    assert found["exposures of other variants"] == (log.exposures.arm == "third").sum()
    assert found["outcomes without exposures"] >= 7 and found["requests without outcomes"] > 0
    markdown = (tmp_path / "out" / "experiment.md").read_text()
    assert "variants 'third' have no planned share; left out" in markdown


def test_missing_units_withhold_lifts_unless_one_insists(tmp_path: Path) -> None:
    log = logs(users=1_000, days=2)
    hashed = log.exposures.user_id.str[1:].astype(int) % 4 == 0
    log.exposures = log.exposures[(log.exposures.arm == "old") | ~hashed]
    refuses(analysed(log, tmp_path, SMALL), "sample ratio mismatch of all units: ")
    record = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert record["stop"].startswith("sample ratio mismatch") and record["populations"][0]["lifts"] == []
    assert (tmp_path / "out" / "experiment.md").read_text().partition("\n\n")[2].startswith("STOP: sample ratio")
    insisted = analysed(log, tmp_path, SMALL, "--despite-mismatch", "--json")
    record = json.loads(insisted.out)
    assert insisted.code == 0 and record["stop"] and record["populations"][0]["lifts"]


def test_the_traffic_that_was_planned_is_no_mismatch(tmp_path: Path) -> None:
    log = logs(users=1_000, days=2)
    units = log.exposures.groupby("user_id").arm.first().value_counts()
    shares = {"old": int(units["old"]), "new": int(units["new"])}
    assert "sample ratio as planned (p 1.000)" in analysed(log, tmp_path, {**SMALL, "shares": shares}).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--exposures", "nowhere", "--columns", "open_bandit"), "nowhere: no such file or folder"),
        (("--exposures", ".", "--columns", "open_bandits"), "no such columns file; did you mean open_bandit?"),
        (("--exposures", ".", "--columns", "open_bandit", "--outcomes", "."), "the columns file has no `outcomes`"),
        (("--exposures", ".", "--columns", "exposure_log"), "--outcomes is not given"),
        (("--exposures", ".", "--columns", "open_bandit"), "has no .parquet or .csv files"),
    ],
)
def test_files_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(swrec("abtest", "analyze", *words, "--out", "out"), message)


def test_no_one_is_compared_with_too_few_units(tmp_path: Path) -> None:
    exposures, outcomes, file = logs(users=60, days=1).write(tmp_path, COLUMNS)
    given = ("--exposures", exposures, "--outcomes", outcomes, "--columns", file, "--out", tmp_path / "out")
    assert "not judged" in succeeds("abtest", "analyze", *given)
    assert "- ctr, new, overall: fewer than 100 units in a variant" in (tmp_path / "out" / "experiment.md").read_text()
