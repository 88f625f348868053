"""Negatives from a raw log to prepared days and a trained model; logs of one class are refused with this advice."""

from __future__ import annotations

import gzip
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import commands
import dated_log
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from dated_log import day, day_files, prepared_rows, write_day, write_log
from runs import metrics_of_run

from swrec_prod.errors import ConfigError, DataError
from swrec_prod.metrics.ranks import auc
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.strict import parse

pytestmark = pytest.mark.engine

NEGATIVES = {"per_positive": 2, "from": "all"}
ALL_CLICKED = {"clicked": np.ones(60, np.int8)}


def test_days_one_by_one_are_days_at_once_and_hold_the_log_unchanged(tmp_path: Path) -> None:
    raw, file = write_log(tmp_path / "raw", 4), dated_log.data_file(negatives=NEGATIVES)
    prepare(file, raw, tmp_path / "whole")
    shutil.copytree(raw, tmp_path / "growing")
    for number in (3, 4):
        shutil.rmtree(tmp_path / "growing" / "log" / f"day={day(number)}")
    said: list[str] = []
    prepare(file, tmp_path / "growing", tmp_path / "days", progress=said.append)
    for number in (3, 4):
        write_day(tmp_path / "growing", number)
        prepare(file, tmp_path / "growing", tmp_path / "days")
    assert day_files(tmp_path / "days") == day_files(tmp_path / "whole")
    assert any(line.startswith("negatives: ") and " drawn for " in line for line in said)
    prepare(dated_log.data_file(), raw, tmp_path / "plain")
    rows, plain = prepared_rows(tmp_path / "whole"), prepared_rows(tmp_path / "plain")
    scaled = ["price", "age", "visits"]  # by training rows, of which negatives are
    log_rows = rows.filter(pc.greater_equal(rows["row"], 0))
    assert log_rows.drop(scaled).equals(plain.drop(scaled))  # ids and histories, also those of every event
    drawn = rows.filter(pc.less(rows["row"], 0))
    assert len(drawn) > 100 and pc.max(drawn["label_click"]).as_py() == pc.max(drawn["label_buy"]).as_py() == 0
    of_row = {row["row"]: row for row in plain.to_pylist()}
    for row in drawn.to_pylist():
        positive = of_row[(-1 - row["row"]) // 2]
        same = ("time", "user", "scenario", "request", "weight", "city", "seen.item", "clicks.time")
        assert [row[name] for name in same] == [positive[name] for name in same]


def test_a_late_day_is_drawn_from_by_days_behind_it_and_a_day_that_is_gone_is_missed(tmp_path: Path) -> None:
    schema = {"features": [f for f in dated_log.SCHEMA["features"] if f["kind"] != "sequence"]}
    file = dated_log.data_file(negatives=NEGATIVES | {"item": "item"}, schema=schema)
    raw = write_log(tmp_path / "raw", 4)
    prepare(file, raw, tmp_path / "out")
    before = day_files(tmp_path / "out")
    write_day(raw, 3, dated_log.rows_of_day(3, rows=30, item=["late"] * 30), part=1)
    prepare(file, raw, tmp_path / "out")
    prepare(file, raw, tmp_path / "anew")
    after = day_files(tmp_path / "out")
    assert after == day_files(tmp_path / "anew")
    assert [before[name] == after[name] for name in sorted(after)] == [True, True, False, False]
    shutil.rmtree(raw / "log" / f"day={day(1)}")
    write_day(raw, 5)
    with pytest.raises(DataError, match=f"drawn from the raw log of all days, which no longer has {day(1)}; bring it"):
        prepare(file, raw, tmp_path / "out")


def test_negatives_go_with_their_positive_where_rows_are_dealt(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", 2, **ALL_CLICKED)
    split = {"random": {"seed": 1, "parts": [0.6, 0.2, 0.2]}}
    manifest = prepare(dated_log.data_file(split=split, negatives=NEGATIVES), raw, tmp_path / "out")
    rows = prepared_rows(tmp_path / "out").to_pylist()
    part = {row["row"]: row["split"] for row in rows if row["row"] >= 0}
    drawn = [row for row in rows if row["row"] < 0]
    assert len(part) == 120 and drawn
    assert all(row["split"] == part[(-1 - row["row"]) // 2] for row in drawn)
    assert manifest.splits == {name: sum(row["split"] == name for row in rows) for name in ("train", "valid", "test")}


def test_a_log_of_positives_only_is_refused_and_one_class_days_are_not(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", 3, **ALL_CLICKED)
    refused = r"'click' \(column 'clicked'\) is 1 in all 120 rows of 2024-05-01..2024-05-02.*`negatives: \{per_positive"
    with pytest.raises(DataError, match=refused):
        prepare(dated_log.data_file(), raw, tmp_path / "out")
    said: list[str] = []
    write_day(raw, 1, **ALL_CLICKED, bought=np.zeros(60, bool))
    write_day(raw, 2, bought=np.zeros(60, bool))
    prepare(dated_log.data_file(), raw, tmp_path / "out", progress=said.append)
    assert [line for line in said if "'buy' (column 'bought') is 0 in all 120 rows" in line]


def test_nothing_to_draw_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    raw = write_log(tmp_path / "raw", 2, **ALL_CLICKED, item=["only"] * 60)
    with pytest.raises(
        DataError, match=r"column 'item' \(negatives\): nothing to draw for 120 positive rows; their users"
    ):
        prepare(dated_log.data_file(negatives=NEGATIVES), raw, tmp_path / "out")
    shutil.rmtree(raw)
    write_log(raw, 1, row=np.arange(60) - 5)
    with pytest.raises(DataError, match=r"column 'row' has 5 values below 0; every row .* from 0"):
        prepare(dated_log.data_file(negatives=NEGATIVES, row="row"), raw, tmp_path / "out")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"per_positiv": 2}, "per_positive"),
        ({"per_positive": 0}, "negatives.per_positive"),
        ({"from": "home"}, "negatives.from"),
        ({"item": "city"}, r"item 'city' is not an id feature of side item \(id features of side item: item, author"),
    ],
)
def test_what_a_data_file_says_wrong(said: dict[str, Any], message: str) -> None:
    plain = dated_log.data_file().model_dump(mode="json", by_alias=True, exclude_defaults=True)
    with pytest.raises(ConfigError, match=message):
        parse(DataFile, plain | {"negatives": said}, "my.yaml")


def test_the_item_is_that_of_sequences_or_the_only_one() -> None:
    features = [f for f in dated_log.SCHEMA["features"] if f["kind"] != "sequence"]
    with pytest.raises(ValueError, match="say `item: FEATURE`, the one that names items"):
        dated_log.data_file(negatives=NEGATIVES, schema={"features": features})
    assert dated_log.data_file(negatives={}).negatives.item_column(dated_log.data_file().features) == "item"  # type: ignore[union-attr]


USERS, ITEMS, DAYS = 80, 60, 24
FIRST = 1_391_040_000  # 2014-01-30
STEMS = {"clothing": "Clothing_Shoes_and_Jewelry", "beauty": "Beauty", "health": "Health_and_Personal_Care"}


def write_reviews(raw: Path) -> np.ndarray:
    """Positives only in Amazon's layout; every other item is liked, and later days are busier. Gives the days."""
    raw.mkdir()
    draw, days = np.random.default_rng(2), []
    for category, stem in STEMS.items():
        lines = []
        for user in range(USERS):
            weights = np.where(np.arange(ITEMS) % 2, 1.0, 12.0)
            for item in draw.choice(ITEMS, 12, replace=False, p=weights / weights.sum()):
                days.append(int(DAYS * draw.random() ** 0.4))
                time = FIRST + days[-1] * 86_400
                review = {"reviewerID": f"U{user}", "asin": f"{category}{item}", "overall": 5.0, "unixReviewTime": time}
                lines.append(json.dumps(review))
        (raw / f"reviews_{stem}_5.json.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return np.array(days)


def time_auc(label: np.ndarray, time: np.ndarray) -> float:
    """How well time alone tells the classes apart, whichever way."""
    value = auc(label, time.astype(float))
    return max(value, 1 - value)


def test_positives_only_reviews_train_a_model_that_ranks(tmp_path: Path) -> None:
    days = write_reviews(tmp_path / "raw")
    file = yaml.safe_load(Path("configs/data/amazon.yaml").read_text())
    file |= {"negatives": {"per_positive": 4}, "fit_until": date(2014, 2, 17)}
    del file["split"]
    (tmp_path / "reviews.yaml").write_text(yaml.safe_dump(file))
    out, run = tmp_path / "out", tmp_path / "run"
    commands.succeeds("prepare", tmp_path / "reviews.yaml", "--raw", tmp_path / "raw", "--out", out)
    rows = prepared_rows(out)
    label, time = rows["label_click"].to_numpy(), rows["time"].cast(pa.int64()).to_numpy()
    assert 0.19 < label.mean() < 0.23
    settled = time >= np.quantile(time, 0.1)  # the first moments have few items to draw
    assert time_auc(label[settled], time[settled]) < 0.52
    naive = np.random.default_rng(0).uniform(days.min(), days.max() + 1, 4 * len(days))  # times of all of the log
    assert time_auc(np.repeat([1, 0], [len(days), len(naive)]), np.concatenate([days, naive])) > 0.6
    config = {
        "data": {"path": str(out), "split": "days",
                 "days": {"train": "..2014-02-17", "valid": "2014-02-18..2014-02-19", "test": "2014-02-20.."}},
        "model": {"name": "shared_bottom"},
        "train": {"epochs": 6, "batch_size": 256, "lr_sparse": 0.1, "lr_dense": 0.003, "threads": 1},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    commands.succeeds("train", tmp_path / "run.yaml", "--out", run)
    metrics = metrics_of_run(run)
    assert metrics["overall"]["auc"] > 0.6, metrics
