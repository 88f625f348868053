"""A team's own log from its data file to prepared days: zones, duplicates, shares, outcomes, row numbers."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swrec_prod.errors import ConfigError, DataError
from swrec_prod.logs.duplicates import Deduplicate
from swrec_prod.prepare.data_file import DataFile
from swrec_prod.prepare.run import prepare
from swrec_prod.strict import parse
from tests.dated_log import contents, day_files, manifest_of, prepared_rows

pytestmark = pytest.mark.engine

SCHEMA: dict[str, Any] = {
    "name": "own",
    "time": "time",
    "user": "user",
    "labels": [{"name": "click", "column": "click"}],
    "features": [{"name": "item", "kind": "id", "side": "item", "encoder": "vocab"}],
}
HISTORY = {"name": "seen", "kind": "sequence", "side": "user", "item": "item", "max_length": 3}
MAY_1 = datetime(2024, 5, 1, tzinfo=UTC)


def data_file(**changes: Any) -> DataFile:
    schema = SCHEMA | changes.pop("schema", {})
    return parse(DataFile, {"source": "parquet", "schema": schema, **changes}, "data.yaml")


def write(path: Path, times: list[datetime], **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    n = len(times)
    default = {"time": times, "user": [1] * n, "scenario": ["home"] * n, "click": [i % 2 for i in range(n)]}
    pq.write_table(pa.table({"item": ["a"] * n} | default | columns), path)
    return path


def lines(file: DataFile, raw: Path, out: Path, **options: Any) -> list[str]:
    said: list[str] = []
    prepare(file, raw, out, progress=said.append, **options)
    return said


# days of a zone


@pytest.mark.parametrize(
    ("zone", "first"), [("America/New_York", date(2024, 11, 2)), ("America/Sao_Paulo", date(2018, 2, 16))]
)
@pytest.mark.parametrize("chunk", [1_000_000, 7])
def test_a_log_of_a_zone_has_its_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, first: date, chunk: int
) -> None:
    monkeypatch.setattr("swrec_prod.prepare.write_local.CHUNK_ROWS", chunk)
    begin = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    moments = pd.Series([begin + timedelta(minutes=20 * i) for i in range(73 * 3)])
    of_day = moments.dt.tz_convert(zone).dt.date
    for day, times in moments.groupby(of_day):
        write(tmp_path / "raw" / f"day={day}" / "p.parquet", list(times), item=[str(i) for i in times.index])
    file = data_file(utc_offset=zone, schema={"features": [*SCHEMA["features"], HISTORY]})
    prepare(file, tmp_path / "raw", tmp_path / "out")
    rows = {name: record["rows"] for name, record in manifest_of(tmp_path / "out")["days"].items()}
    assert rows == {str(day): len(times) for day, times in moments.groupby(of_day)}
    assert 75 in rows.values()  # of 25 hours
    found = prepared_rows(tmp_path / "out")
    assert found["time"].cast(pa.int64()).to_pylist() == [int(m.timestamp()) * 1_000_000 for m in moments]
    assert [len(items) for items in found["seen.item"].to_pylist()] == [min(i, 3) for i in range(len(moments))]


def test_a_file_of_another_day_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "day=2024-05-01" / "p.parquet", [MAY_1 + timedelta(hours=3)])
    with pytest.raises(DataError, match=r"rows of 2024-04-30, but the file is of 2024-05-01 \(utc_offset America/New"):
        prepare(data_file(utc_offset="America/New_York"), tmp_path, tmp_path.parent / "out")
    with pytest.raises(ConfigError, match=r"utc_offset: 'Asia/Shangai' is neither .*; did you mean Asia/Shanghai"):
        data_file(utc_offset="Asia/Shangai")


# duplicates


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_earliest_of_equal_rows_of_the_log_stays(tmp_path_factory: Any, seed: int, dated: bool) -> None:
    draw, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("log")
    rows = pd.DataFrame({"minute": draw.choice(4 * 1440, 60, replace=False), "user": draw.integers(0, 4, 60)})
    rows["item"] = [None if i == 5 else f"i{i}" for i in draw.integers(0, 6, 60)]
    rows["day"] = rows["minute"] // 1440
    for day, of in rows.groupby("day"):
        times = [MAY_1 + timedelta(minutes=int(m)) for m in of["minute"]]
        name = f"day={date(2024, 5, 1 + int(day))}/p.parquet" if dated else f"{day}.parquet"
        items = pa.array(of["item"], pa.string(), from_pandas=True)
        write(folder / "raw" / name, times, user=of["user"].to_numpy(), item=items)
    file = data_file(deduplicate={"columns": ["user", "item"], "within": "log"})
    prepare(file, folder / "raw", folder / "out")
    first = rows.sort_values("minute").drop_duplicates(["user", "item"])
    found = prepared_rows(folder / "out")["time"].cast(pa.int64()).to_numpy() // 60_000_000
    assert found.tolist() == (first["minute"].to_numpy() + int(MAY_1.timestamp()) // 60).tolist()


def repeating_log(raw: Path, days: list[int]) -> None:
    """Each day repeats the last row of the day before it."""
    for day in days:
        times = [MAY_1 + timedelta(days=day - 1, hours=h) for h in (1, 2)]
        write(raw / f"day=2024-05-0{day}" / "p.parquet", times, item=[f"i{day - 1}", f"i{day}"])


ALL_DAYS: dict[str, Any] = {"deduplicate": {"columns": ["item"], "within": "log"}, "fit_until": "2024-05-01"}


def test_days_that_are_added_look_back(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    repeating_log(raw, [1, 2, 3, 4])
    prepare(data_file(**ALL_DAYS), raw, tmp_path / "whole")
    aside = raw.rename(tmp_path / "aside")
    for days in ([1], [1, 2, 3], [1, 2, 3, 4]):
        for day in days:
            shutil.copytree(aside / f"day=2024-05-0{day}", raw / f"day=2024-05-0{day}", dirs_exist_ok=True)
        said = lines(data_file(**ALL_DAYS), raw, out)
    assert not any("prepared again" in line for line in said)
    assert day_files(out) == day_files(tmp_path / "whole")
    assert [of["rows"] for of in manifest_of(out)["days"].values()] == [2, 1, 1, 1]


def test_a_late_day_drops_rows_of_the_days_behind_it(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    repeating_log(raw, [1, 3, 4])
    prepare(data_file(**ALL_DAYS), raw, out)
    assert [of["rows"] for of in manifest_of(out)["days"].values()] == [2, 2, 1]
    repeating_log(raw, [2])
    said = lines(data_file(**ALL_DAYS), raw, out)
    again = "2024-05-03..2024-05-04: prepared again, as rows that it has are dropped there: deduplicate looks back to"
    assert any(line.startswith(again) for line in said)
    assert [of["rows"] for of in manifest_of(out)["days"].values()] == [2, 1, 1, 1]
    shutil.rmtree(raw / "day=2024-05-04")
    repeating_log(raw, [5])
    said = lines(data_file(**ALL_DAYS), raw, out)
    gone = "deduplicate: 1 prepared days are no longer in the raw log (the last is 2024-05-04): rows that repeat theirs"
    assert any(line.startswith(gone) for line in said)
    assert [of["rows"] for of in manifest_of(out)["days"].values()] == [2, 1, 1, 1, 2]


def test_what_other_days_repeat_is_told(tmp_path: Path) -> None:
    repeating_log(tmp_path / "raw", [1, 2, 3])
    said = lines(data_file(deduplicate=["item"]), tmp_path / "raw", tmp_path / "out")
    assert (
        "deduplicate: 2 of 6 rows are equal to one of an earlier day, and stay; "
        "{columns: [item], within: log} drops them" in said
    )
    assert not any("deduplicate" in line for line in lines(data_file(), tmp_path / "raw", tmp_path / "other"))


def test_a_list_says_a_day_and_keeps_its_identity() -> None:
    assert data_file(deduplicate=["item"]).deduplicate == Deduplicate(columns=("item",))
    assert data_file(deduplicate=["item"]) == data_file(deduplicate={"columns": ["item"]})
    assert data_file(deduplicate=["item"]).model_dump(exclude_defaults=True)["deduplicate"] == ["item"]
    assert data_file(**ALL_DAYS).identity() != data_file(**ALL_DAYS | {"deduplicate": ["item"]}).identity()
    with pytest.raises(ConfigError, match=r"deduplicate\.within: .*'day' or 'log', not 'week'"):
        data_file(deduplicate={"columns": ["item"], "within": "week"})


# what encoders are fitted on


@pytest.mark.parametrize(
    ("share", "until"),
    [(0.1, 1), (0.3, 1), (0.49, 1), (0.5, 2), (0.79, 2), (0.8, 3), (0.99, 3)],
)
def test_encoders_are_fitted_on_a_share_of_rows(tmp_path: Path, share: float, until: int) -> None:
    for day, rows in ((1, 3), (2, 2), (3, 3), (4, 2)):
        times = [MAY_1 + timedelta(days=day - 1, minutes=i) for i in range(rows)]
        write(tmp_path / "raw" / f"day=2024-05-0{day}" / "p.parquet", times)
    prepare(data_file(fit_until=share), tmp_path / "raw", tmp_path / "out")
    rule = f"days: ..2024-05-0{until} (at most {share:.3g} of rows)"
    fitted = {"rule": rule, "rows": [3, 5, 8][until - 1], "until": f"2024-05-0{until}"}
    assert manifest_of(tmp_path / "out")["fit"] == fitted


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.2])
def test_a_share_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(ConfigError, match="fit_until: a share of rows lies between 0 and 1, not"):
        data_file(fit_until=share)
    assert data_file(fit_until="2024-05-01").fit_until == data_file(fit_until=date(2024, 5, 1)).fit_until


# outcomes


def test_an_outcome_is_no_feature(tmp_path: Path) -> None:
    dwell = {"name": "stay", "kind": "dense", "side": "item", "column": "dwell", "encoder": "standard"}
    with pytest.raises(ConfigError, match="feature 'stay' reads column 'dwell', known only after the impression"):
        data_file(outcomes=["dwell"], schema={"features": [*SCHEMA["features"], dwell]})
    file = data_file(outcomes=["dwell", "click"])  # a label is one
    write(tmp_path / "raw" / "log.parquet", [MAY_1], dwel=[1])
    with pytest.raises(DataError, match=r"parquet: column 'dwell' \(outcomes\) is missing; did you mean dwel\?"):
        prepare(file, tmp_path / "raw", tmp_path / "out")
    write(tmp_path / "raw" / "log.parquet", [MAY_1], dwell=[1])
    prepare(file, tmp_path / "raw", tmp_path / "out")


# row numbers

TIMES = [MAY_1 + timedelta(days=i // 2, minutes=i) for i in range(6)]
NUMBERED = [d * 2**32 + i for d in (19844, 19845, 19846) for i in (0, 1)]
ROW = {"name": "place", "kind": "id", "side": "context", "column": "row", "encoder": "vocab"}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("dated", [False, True])
def test_a_column_row_numbers_rows_where_it_can(tmp_path: Path, split: bool, dated: bool) -> None:
    changes: dict[str, Any] = {"split": {"random": {}}} if split else {}
    changes["schema"] = {"features": [*SCHEMA["features"], ROW]}
    for number, (row, taken) in enumerate(
        [
            ([5, 4, 3, 2, 1, 0], True),
            ([1, 2, 3, 1, 2, 3], False),
            ([1, 2, 3, None, 5, 6], False),
            (["a", "b", "c", "d", "e", "f"], False),
        ]
    ):
        raw, out = tmp_path / f"raw{number}", tmp_path / f"out{number}"
        for day in range(3):
            part = slice(2 * day, 2 * day + 2)
            name = f"day=2024-05-0{day + 1}/p.parquet" if dated else f"{day}.parquet"
            write(raw / name, TIMES[part], row=pa.array(row, pa.string() if "a" in row else pa.int64())[part])
        said = lines(data_file(**changes), raw, out)
        found = prepared_rows(out)
        assert found["row"].to_pylist() == (row if taken else NUMBERED)
        assert found["place"].to_pylist()[0] > 0  # and is a feature as any column may be
        told = "column 'row' is no number of rows: "
        assert any(line.startswith(told) for line in said) == (not taken and "a" not in row)
        assert manifest_of(out).get("row", "row") == ("row" if taken else None)


def test_days_that_are_added_are_numbered_as_the_others(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for day, row in ((1, [7, 7]), (2, [8, 9])):
        write(raw / f"day=2024-05-0{day}" / "p.parquet", TIMES[2 * day - 2 : 2 * day], row=row)
        prepare(data_file(fit_until="2024-05-01"), raw, out)
    assert prepared_rows(out)["row"].to_pylist() == NUMBERED[:4]
    write(raw / "day=2024-05-01" / "p.parquet", TIMES[:2], row=[6, 7])
    prepare(data_file(fit_until="2024-05-01"), raw, tmp_path / "other")
    write(raw / "day=2024-05-03" / "p.parquet", TIMES[4:], row=[1, 1])
    with pytest.raises(DataError, match=r"column 'row' has 1 values that several rows share; .* but 1 is there more"):
        prepare(data_file(fit_until="2024-05-01"), raw, tmp_path / "other")


def test_a_named_column_numbers_rows(tmp_path: Path) -> None:
    numbers = pa.array([3, 1, 2, 6, 5, 4], pa.int32())
    write(tmp_path / "raw" / "log.parquet", TIMES, row=[1] * 6, impression=numbers)
    changes: dict[str, Any] = {"schema": {"features": [*SCHEMA["features"], ROW]}}
    prepare(data_file(row="impression", **changes), tmp_path / "raw", tmp_path / "out")
    assert prepared_rows(tmp_path / "out")["row"].to_pylist() == numbers.to_pylist()
    assert prepared_rows(tmp_path / "out")["place"].to_pylist() == [1] * 6
    for row, said in (
        ("row", r"log\.parquet: column 'row' has 1 values that several rows share; .* but 1 is there more than once"),
        ("impresion", r"parquet: column 'impresion' \(row\) is missing; did you mean impression\?"),
        ("item", r"parquet: column 'item' \(row\) is string, expected int64"),
    ):
        with pytest.raises(DataError, match=said):
            prepare(data_file(row=row, **changes), tmp_path / "raw", tmp_path / row)


# again, and what is misspelt


def test_overwrite_prepares_everything_anew(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    write(raw / "day=2024-05-01" / "p.parquet", TIMES[:2], item=["a", "b"])
    prepare(data_file(), raw, out)
    write(raw / "day=2024-05-01" / "p.parquet", TIMES[:2], item=["c", "d"])
    prepare(data_file(), raw, out)
    assert pq.read_table(out / "vocab" / "item.parquet")["value"].to_pylist() == ["a", "b"]
    said = lines(data_file(), raw, out, overwrite=True)
    assert pq.read_table(out / "vocab" / "item.parquet")["value"].to_pylist() == ["c", "d"]
    prepare(data_file(), raw, tmp_path / "new")
    assert contents(out) == contents(tmp_path / "new")
    assert lines(data_file(), raw, out, overwrite=True) == said


def test_a_misspelt_key_is_told_before_the_one_that_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"data.yaml: shema: unknown key; did you mean schema\?"):
        parse(DataFile, {"source": "parquet", "shema": SCHEMA}, "data.yaml")
    with pytest.raises(ConfigError, match=r"data.yaml: schema: required, but not given"):
        parse(DataFile, {"source": "parquet"}, "data.yaml")


# a log without time


def timeless(raw: Path, **columns: Any) -> DataFile:
    """A log without any time, and its data file."""
    n = 300
    default = {"user": np.arange(n) % 7, "scenario": [0, 1] * (n // 2), "click": np.arange(n) % 3 == 0}
    raw.mkdir(exist_ok=True)
    pq.write_table(pa.table(default | {"item": [f"i{i % 9}" for i in range(n)]} | columns), raw / "log.parquet")
    schema = {key: value for key, value in SCHEMA.items() if key != "time"}
    scenario = {"column": "scenario", "values": ["1", "0"]}
    return parse(
        DataFile, {"source": "parquet", "schema": schema | {"scenario": scenario}, "split": {"random": {}}}, "d"
    )


def test_a_log_without_time_is_dealt_at_random(tmp_path: Path) -> None:
    prepare(timeless(tmp_path / "raw"), tmp_path / "raw", tmp_path / "out")
    manifest, rows = manifest_of(tmp_path / "out"), prepared_rows(tmp_path / "out")
    assert manifest["splits"] == {"train": 240, "valid": 30, "test": 30} and len(manifest["days"]) == 1
    assert list(manifest["scenarios"]["1970-01-01"]) == ["1", "0"]
    assert len(set(rows["row"].to_pylist())) == 300 and set(rows["time"].cast(pa.int64()).to_pylist()) == {0}
    asked = pq.read_table(tmp_path / "out" / "requests.parquet")
    test = rows.filter(pa.compute.equal(rows["split"], "test"))
    assert set(asked["row"].to_pylist()) <= set(test["row"].to_pylist()) and len(asked) > 0


def test_a_log_without_time_is_no_log_by_days(tmp_path: Path) -> None:
    file = timeless(tmp_path / "raw")
    plain = file.model_dump(by_alias=True, exclude_defaults=True)
    with pytest.raises(ConfigError, match=r"schema\.time names no column of moments; name it, or deal rows at random"):
        parse(DataFile, {key: value for key, value in plain.items() if key != "split"}, "data.yaml")
    features = {"features": [*SCHEMA["features"], HISTORY]}
    with pytest.raises(
        ConfigError, match=r"sequence 'seen': behaviours before a row needs schema\.time, which names no"
    ):
        parse(DataFile, plain | {"schema": plain["schema"] | features}, "data.yaml")
    options = {"options": {"join": [{"file": "log.parquet", "by": "user", "as_of": "day"}], "log": "*.parquet"}}
    write(tmp_path / "raw" / "more.parquet", [MAY_1])
    with pytest.raises(DataError, match=r"log\.parquet: as_of 'day' needs the log's moments; name schema\.time"):
        prepare(parse(DataFile, plain | options, "data.yaml"), tmp_path / "raw", tmp_path / "out")
