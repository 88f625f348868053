"""How many values are unknown: counted as pandas does, in words at prepare's end, and never of older folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dated_log import SCHEMA, data_file, day, manifest_of, prepare_once, prepared_rows, write_day, write_users
from prepared_folder import days_of_sizes

from swrec_prod.config import DataConfig, DayRanges
from swrec_prod.data.manifest import MANIFEST, read_manifest
from swrec_prod.data.unknown_values import Span, shares
from swrec_prod.data.value_counts import ValueCounts
from swrec_prod.encoding.encoders import Encoders
from swrec_prod.prepare.run import prepare
from swrec_prod.schema import FeatureSchema

pytestmark = pytest.mark.engine

DAYS, FITTED = 4, 2
VOCABULARY = {"item": ("item", "near"), "near": ("item", "near"), "city": ("city",)}  # which features it is counted on
COLUMNS = {"item": "item", "near": "near", "city": "city", "author": "author", "cost": "price"}
Counts = dict[tuple[str, ...], tuple[int, int, int]]  # (part, feature, day, scenario) -> values, unknown, missing


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """The log of dated_log.py with its own row numbers."""
    write_users(tmp_path / "raw")
    for number in range(1, DAYS + 1):
        write_day(tmp_path / "raw", number, row=np.arange(60) + 1000 * number)
    return tmp_path / "raw"


@pytest.mark.parametrize("min_count", [1, 12])
def test_unknown_and_missing_values_are_those_that_pandas_counts(raw: Path, tmp_path: Path, min_count: int) -> None:
    prepare_once(data_file(schema=SCHEMA | {"features": features(min_count)}), raw, tmp_path / "out")
    log = log_of(raw).assign(part="all")
    expected = counted(log, log[log["day"] <= str(day(FITTED))], min_count)
    assert recorded(tmp_path / "out") == expected
    for i in (1, 2):
        assert any(counts[i] for counts in expected.values())


def test_where_rows_are_dealt_every_part_is_counted(raw: Path, tmp_path: Path) -> None:
    schema = SCHEMA | {"features": features(8)}
    prepare_once(data_file(schema=schema, split={"random": {"seed": 3}}), raw, tmp_path / "out")
    paths = [tmp_path / "out" / file["path"] for file in manifest_of(tmp_path / "out")["files"]]
    parts = pd.concat(pq.ParquetFile(path).read(["row", "split"]).to_pandas() for path in paths)
    log = log_of(raw).merge(parts.rename(columns={"split": "part"}).astype({"part": str}), on="row")
    assert recorded(tmp_path / "out") == counted(log, log[log["part"] == "train"], 8)


def features(min_count: int) -> list[dict[str, Any]]:
    """Those of the dated log; items that are rarer than `min_count` are unknown."""
    item = {**SCHEMA["features"][0], "encoder": {"kind": "vocab", "min_count": min_count}}
    return [item, *SCHEMA["features"][1:]]


def log_of(raw: Path) -> pd.DataFrame:
    """The raw log with its users' attributes."""
    log = pd.concat(pq.ParquetFile(path).read().to_pandas() for path in sorted(raw.glob("log/*/*.parquet")))
    log = log.merge(pq.read_table(raw / "users.parquet").to_pandas(), on="user_id", how="left")
    return log.assign(day=log["time"].dt.date.astype(str))


def counted(log: pd.DataFrame, fitted: pd.DataFrame, min_count: int) -> Counts:
    """What the manifest should say, by pandas alone; a null within a list is an unknown value."""
    counts: Counts = {}
    for feature, column in COLUMNS.items():
        values = log.assign(missing=log[column].isna(), value=log[column]).explode("value")
        values["there"] = ~values["missing"] & (
            values[column].map(lambda v: not isinstance(v, np.ndarray) or len(v) > 0)
        )
        known = pd.concat([fitted[name].explode() for name in VOCABULARY.get(feature, ())] or [pd.Series(dtype=object)])
        known = known.value_counts()
        known = known[known >= (min_count if feature in ("item", "near") else 1)]
        values["unknown"] = values["there"] & ~values["value"].isin(known.index) & (feature in VOCABULARY)
        sums = values.groupby(["part", "day", "scenario"])[["there", "unknown", "missing"]].sum()
        for (part, on, scenario), row in sums.iterrows():
            counts[part, feature, on, scenario] = tuple(int(n) for n in row)
    return {key: value for key, value in counts.items() if is_recorded(key, counts)}


def is_recorded(key: tuple[str, ...], counts: Counts) -> bool:
    """An id feature without unknown or missing values on a day is left out, and a scenario without any value."""
    part, feature, on, _ = key
    same_day = [value for other, value in counts.items() if other[:3] == (part, feature, on)]
    return (feature == "near" or any(v[1] or v[2] for v in same_day)) and bool(counts[key][0] or counts[key][2])


def recorded(out: Path) -> Counts:
    """What the manifest says."""
    return {
        (part, feature, str(on), scenario): (values.values, values.unknown, values.missing)
        for on, record in read_manifest(out).days.items()
        for part, of_part in (record.values or {}).items()
        for feature, by_scenario in of_part.features.items()
        for scenario, values in by_scenario.items()
    }


def test_counts_of_pieces_are_added_as_text(raw: Path, tmp_path: Path) -> None:
    """As on a cluster, where every file is counted in another process."""
    prepare_once(data_file(), raw, tmp_path / "out")
    schema = Encoders.load(tmp_path / "out").schema
    table = pq.ParquetFile(tmp_path / "out" / manifest_of(tmp_path / "out")["files"][3]["path"]).read()
    whole, together = ValueCounts(schema, table.schema), ValueCounts(schema, table.schema)
    whole.add(table)
    for piece in (table.slice(0, 7), table.slice(7)):
        part = ValueCounts(schema, table.schema)
        part.add(piece)
        together.add_text(part.to_text())
    missing = np.zeros((1, len(whole.features), schema.scenario.size), np.int64)
    assert together.record(schema, missing) == whole.record(schema, missing)
    assert whole.rows.sum() == 60


def test_shares_are_of_the_days_parts_and_scenarios_asked_for(raw: Path, tmp_path: Path) -> None:
    prepare_once(data_file(), raw, tmp_path / "out")
    manifest, schema = read_manifest(tmp_path / "out"), Encoders.load(tmp_path / "out").schema
    log = log_of(raw)
    known = set(log[log["day"] <= str(day(FITTED))]["item"].dropna()) | {"a", "b", "c"}
    later = log[(log["day"] > str(day(FITTED))) & log["scenario"].isin(["home", "cart"]) & log["item"].notna()]
    days = DayRanges(train=f"..{day(2)}", valid=str(day(3)), test=f"{day(4)}..")
    data = DataConfig(path=str(tmp_path), days=days, scenarios=("home", "cart"))
    found = shares(manifest, schema, Span.of(data, "valid", "test"))
    assert found["item"][:2] == (len(later), int((~later["item"].isin(known)).sum()))
    assert found["item"].unknown > 0
    assert shares(manifest, schema, Span.of(data, "train"))["item"].unknown == 0
    assert found["author"][:2] == (later_rows(log, "author"), 0)
    rows = prepared_rows(tmp_path / "out").filter(pc.field("scenario") < 2).to_pandas()
    ids = rows[rows["time"].dt.date > day(FITTED)]["item"]
    assert found["item"].row_0 == (ids == 0).mean() > found["item"].ratio


def later_rows(log: pd.DataFrame, column: str) -> int:
    """Rows of days 3 and 4 in two scenarios that have a value."""
    rows = log[(log["day"] > str(day(FITTED))) & log["scenario"].isin(["home", "cart"])]
    return int(rows[column].notna().sum())


def test_prepare_ends_with_a_line_for_each_feature_that_nothing_trained(raw: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    prepare(data_file(), raw, tmp_path / "out", progress=lines.append)
    told, meaning, _ = lines[-3:]
    later = log_of(raw).query(f"day > '{day(FITTED)}'")["item"].dropna()
    share = later.str.startswith("new").mean()
    assert told.startswith(f"item: {share:.0%} of the values of {day(3)}.. are unknown (not in days to {day(2)}), 0.0%")
    assert "row 0" in meaning
    assert lines[-1].endswith(f"{60 * DAYS:,} rows in {DAYS} days")
    prepare(data_file(), raw, tmp_path / "out", progress=lines.append)
    assert lines[-1].endswith("up to date (240 rows)")


def test_prepare_says_what_min_count_sends_to_row_0(raw: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    prepare(data_file(schema=SCHEMA | {"features": features(12)}), raw, tmp_path / "out", progress=lines.append)
    log = log_of(raw)
    fitted = log[log["day"] <= str(day(FITTED))]
    both = pd.concat([fitted["item"], fitted["near"].explode()]).value_counts()
    rare = both[both < 12].index
    share = fitted["item"].isin(rare).sum() / fitted["item"].notna().sum()
    assert f"item: min_count 12 sends {share:.0%} of the values of training rows to row 0" in "\n".join(lines)


def test_a_folder_of_before_opens_and_says_nothing(tmp_path: Path) -> None:
    out = days_of_sizes(tmp_path / "old", [5, 5])
    plain = json.loads((out / MANIFEST).read_text())
    assert all("values" not in record for record in plain["days"].values())
    manifest = read_manifest(out)
    assert manifest.to_json() == plain
    assert shares(manifest, FeatureSchema.load(out / "schema.yaml"), Span()) == {}


def test_days_added_to_a_folder_of_before_are_counted(raw: Path, tmp_path: Path) -> None:
    last = raw / "log" / f"day={day(DAYS)}"
    aside = last.rename(tmp_path / "later")
    prepare_once(data_file(), raw, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    for record in manifest["days"].values():
        del record["values"]
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(manifest))
    aside.rename(last)
    prepare(data_file(), raw, tmp_path / "out")
    days = read_manifest(tmp_path / "out").days
    assert [on for on, record in days.items() if record.values] == [day(DAYS)]
