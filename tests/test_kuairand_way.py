"""KuaiRand all the way on a real piece: prepared, trained, judged, exported and served by a user's commands."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import succeeds
from runs import ROOT, arrays, metrics_of_run, predictions, wait_for
from sklearn.metrics import log_loss, roc_auc_score
from tiny_world import launch

CONFIGS = ROOT / "configs"
TABS = {0, 1, 2, 4, 6}
FIT_UNTIL = date(2022, 5, 4)
LONGEST = 50
pytestmark = [pytest.mark.engine, pytest.mark.process]
Key = tuple[int, int, int]  # user, video, milliseconds


@pytest.fixture(scope="module")
def way(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER with data, run and models/shared_bottom/1."""
    folder = tmp_path_factory.mktemp("kuairand")
    succeeds("prepare", CONFIGS / "data" / "kuairand_pure.yaml", "--raw", shared_data, "--out", folder / "data")
    run = CONFIGS / "run" / "kuairand_shared_bottom.yaml"
    succeeds(
        "train",
        run,
        f"data.path={folder / 'data'}",
        "train.epochs=1",
        "train.evals_per_epoch=1",
        "--out",
        folder / "run",
    )
    succeeds("export", folder / "run", "--to", folder / "models" / "shared_bottom")
    return folder


@pytest.fixture(scope="module")
def raw(shared_data: Path) -> dict[Key, tuple[int, int]]:
    """(tab, click) of the five tabs' impressions; of repeated ones the smallest, as one of them only is kept."""
    columns = ["user_id", "video_id", "time_ms", "tab", "is_click"]
    log = pq.read_table(shared_data / "kuairand_pure_standard_0425_0508.parquet", columns=columns)
    found: dict[Key, tuple[int, int]] = {}
    for user, video, time, tab, click in zip(*(log[name].to_pylist() for name in columns), strict=True):
        if tab in TABS:
            key = (user, video, time)
            found[key] = min(found.get(key, (tab, click)), (tab, click))
    return found


@pytest.fixture(scope="module")
def prepared(way: Path) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(file).read() for file in sorted((way / "data").glob("day=*/*.parquet"))])


def day_in_beijing(milliseconds: int) -> date:
    return (datetime.fromtimestamp(milliseconds / 1000, UTC) + timedelta(hours=8)).date()


def test_every_impression_is_one_row_of_its_day(way: Path, raw: dict[Key, tuple[int, int]], prepared: pa.Table) -> None:
    manifest = json.loads((way / "data" / "manifest.json").read_text())
    expected: dict[str, int] = defaultdict(int)
    for _, _, time in raw:
        expected[str(day_in_beijing(time))] += 1
    assert {day: entry["rows"] for day, entry in manifest["days"].items()} == expected
    assert sum(prepared["label_click"].to_pylist()) == sum(click for _, click in raw.values())
    fitted = sum(rows for day, rows in expected.items() if day <= str(FIT_UNTIL))
    assert manifest["fit"] == {"rule": f"days: ..{FIT_UNTIL}", "rows": fitted, "until": str(FIT_UNTIL)}


def test_encoders_know_what_the_fitted_days_showed(way: Path, raw: dict[Key, tuple[int, int]]) -> None:
    for name, at in (("user_id", 0), ("video_id", 1)):
        seen = {key[at] for key in raw if day_in_beijing(key[2]) <= FIT_UNTIL}
        assert set(pq.read_table(way / "data" / "vocab" / f"{name}.parquet")["value"].to_pylist()) == seen


def test_histories_are_the_clicks_before_the_row(
    way: Path, raw: dict[Key, tuple[int, int]], prepared: pa.Table
) -> None:
    videos = {
        v: i for i, v in enumerate(pq.read_table(way / "data" / "vocab" / "video_id.parquet")["value"].to_pylist(), 1)
    }
    tabs = {tab: i for i, tab in enumerate(sorted(TABS))}
    clicks: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for (user, video, time), (tab, click) in raw.items():
        if click:
            clicks[str(user)].append((time, videos.get(video, 0), tabs[tab]))
    columns = ["user", "time", "history.time", "history.item", "history.scenario"]
    rows = (
        prepared.select(columns)
        .take(pa.array(np.random.default_rng(1).choice(len(prepared), 3000, replace=False)))
        .to_pylist()
    )
    for row in rows:
        moment = round(row["time"].timestamp() * 1000)
        before = [click for click in clicks[row["user"]] if click[0] < moment]
        found = [
            (round(t.timestamp() * 1000), i, s) for t, i, s in zip(*(row[name] for name in columns[2:]), strict=True)
        ]
        assert [time for time, *_ in found] == sorted(time for time, *_ in before)[-LONGEST:]
        assert len(before) > LONGEST or sorted(found) == sorted(before)  # at one time any may be the first
    assert sum(len(row["history.time"]) for row in rows) > 3000


def test_the_metrics_are_those_of_the_predictions(way: Path) -> None:
    found, metrics = predictions(way / "run"), metrics_of_run(way / "run")
    assert set(found["day"]) == {"2022-05-07", "2022-05-08"} and len(found["day"]) == metrics["overall"]["rows"]
    overall = metrics["overall"]
    assert (
        overall["auc"] == pytest.approx(roc_auc_score(found["label_click"], found["prob_click"]), abs=1e-6)
        and overall["auc"] > 0.7
    )
    assert overall["logloss"] == pytest.approx(log_loss(found["label_click"], found["prob_click"]), abs=1e-6)
    assert 0.9 < overall["calibration"] < 1.1
    for tab, judged in metrics["scenarios"].items():
        of = found["scenario"] == tab
        assert judged["auc"] == pytest.approx(
            roc_auc_score(found["label_click"][of], found["prob_click"][of]), abs=1e-6
        )
        assert judged["auc"] > 0.55
    again = json.loads(succeeds("evaluate", way / "run", "--json"))
    assert again["overall"]["auc"] == pytest.approx(overall["auc"], abs=1e-6)


@pytest.fixture(scope="module")
def target(way: Path) -> Iterator[str]:
    with launch(way / "models", way / "port") as server:
        yield wait_for(way / "port", server)
        server.terminate()


def test_raw_rows_are_served_as_they_were_predicted(way: Path, target: str) -> None:
    words = (
        "score",
        way / "data",
        "--target",
        target,
        "--expect",
        way / "run" / "predictions.parquet",
        "--rows",
        200,
        "--json",
    )
    summary = json.loads(succeeds(*words, "--out", way / "served.parquet"))
    assert summary["rows"] >= 200 and summary["max_abs_diff"] <= 1e-5
    served = arrays(pq.read_table(way / "served.parquet"))
    offline = predictions(way / "run")
    order = np.argsort(offline["row"])
    at = order[np.searchsorted(offline["row"], served["row"], sorter=order)]
    np.testing.assert_array_equal(offline["row"][at], served["row"])
    np.testing.assert_allclose(served["prob_click"], offline["prob_click"][at], atol=1e-5)
